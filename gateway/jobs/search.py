"""Finding jobs in a ledger of any size: by id, state, key, error and argument, newest first.

Ids, keys and states are indexed. For a part of an error or a value in the argument the jobs have to be read, so one
page looks at ``DEPTH`` of them and says where it stopped; the next page goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from gateway.jobs.candidates import Candidates, Finder, by_knowledge, by_tag
from gateway.jobs.job import JobRecord, JobState
from gateway.jobs.records import Records, record_of
from gateway.jobs.store import SQL, Row

DEPTH: Final = 10_000  # jobs read for one page: about 20 ms
QUERY_MAX: Final = 200  # characters

_SET_ASIDE: Final = frozenset({JobState.DELAYED, JobState.FAILED, JobState.CANCELLED})
_WITH_ERROR: Final = tuple(state for state in JobState if state in _SET_ASIDE)
_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)
_CLOCKS_DIFFER: Final = timedelta(hours=1)  # ids are made by the hosts' clocks, created_at by the ledger's
_ID_PART: Final = re.compile(r"[0-9a-f]{4,32}")
_WORDS: Final = ("id", "key", "error", "group")


class JobFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What a job must be. No field given: every job.

    ``id`` is an id or its first characters, without hyphens. ``error`` is a part of the last error, in any case, with
    ``*`` for anything, ``^`` where the error begins and ``$`` where a line of it ends; without ``states`` it looks at
    the jobs that were set aside with one: delayed, failed and cancelled. ``value`` is what stands in the argument at
    ``path`` (dotted, numbers index arrays), as text. ``since`` and ``until`` bound the time of acceptance, ``until``
    not included. ``tag`` is one of its tags. ``about`` is what its feature knows of it, by the name of the finder
    (``{"recipient": "ada@example.com"}``); at most one.
    """

    states: tuple[JobState, ...] = ()
    id: str | None = None
    key: str | None = None
    group: str | None = None
    error: str | None = None
    path: str | None = None
    value: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tag: str | None = None
    about: dict[str, str] = {}

    @property
    def reads_jobs(self) -> bool:
        """Whether something in it has no index."""
        return any(part is not None for part in (self.error, self.path, self.since, self.until))

    @property
    def bounds(self) -> tuple[UUID, UUID]:
        """The lowest id that may match, and the first one above all that may."""
        low, high = (_FIRST, _LAST) if self.id is None else _id_range(self.id)
        if self.since is not None:
            low = max(low, _first_id_of(self.since - _CLOCKS_DIFFER))
        if self.until is not None:
            high = min(high, _first_id_of(self.until + _CLOCKS_DIFFER))
        return low, high


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page of ids, newest first. ``following``: what to give as ``after`` to go on; None: there is nothing more.
    ``complete`` False: the search stopped after ``searched`` jobs, and the page may be short of what is there."""

    ids: list[UUID]
    following: UUID | None
    searched: int
    complete: bool


class Search:
    def __init__(self, pool: asyncpg.Pool[Row], records: Records) -> None:
        self._pool = pool
        self._records = records
        self._finders: dict[str, Finder] = {}

    def learn(self, name: str, finder: Finder) -> None:
        """Find jobs ``about`` something from now on."""
        self._finders[name] = finder

    async def find(self, queues: Sequence[str], wanted: JobFilter, after: UUID | None, limit: int) -> Found:
        """``queues``: all that may match. A job that is older than ``after`` comes after it."""
        low, high = wanted.bounds
        below = high if after is None else min(after, high)
        if wanted.tag is not None or wanted.about:
            return await self._among(queues, wanted, (low, below), limit)
        if wanted.group is not None:
            given = (_states(wanted), low, below, *_residual(wanted), DEPTH, limit + 1, wanted.group, wanted.key)
            return _found(await self._pool.fetch(SQL["search_group"], list(queues), *given), limit, DEPTH)
        if wanted.key is not None:
            return await self._by_key(queues, wanted, (low, below), limit)
        statement, states = await self._way(queues, wanted)
        exact = statement == SQL["search_set_aside"] and not wanted.reads_jobs
        depth = limit + 1 if exact else DEPTH
        rows = await self._pool.fetch(statement, list(queues), states, low, below, *_residual(wanted), depth, limit + 1)
        return _found(rows, limit, depth)

    async def records(self, ids: Sequence[UUID]) -> list[JobRecord]:
        """Jobs, newest first; those that are gone meanwhile are left out."""
        return [record_of(row) for row in await self._pool.fetch(SQL["search_records"], list(ids))]

    async def count(self, queue: str, wanted: JobFilter) -> int:
        """How many match, exactly. By state it reads nothing; by text it reads every job of these states."""
        if wanted == JobFilter(states=wanted.states):
            counts = (await self._records.counts()).get(queue)
            return sum(getattr(counts, state) for state in set(wanted.states)) if counts else 0
        if wanted.tag is not None or wanted.about:
            return await self._count_pages(queue, wanted)
        low, high = wanted.bounds
        found: int = await self._pool.fetchval(
            SQL["bulk_count"], queue, list(wanted.states), low, high, *_residual(wanted), wanted.key, wanted.group
        )
        return found

    async def interpret(self, text: str, queues: Sequence[str]) -> JobFilter:
        """What people mean by ``text``: ``args.PATH:VALUE``, ``id:``, ``key:``, ``group:`` or ``error:`` say it; a word
        alone is the beginning of an id if a job has such an id, else a key if a job has it, else a part of an error.

        Raises ValueError with what is wrong.
        """
        if not 0 < len(text) <= QUERY_MAX or not text.isprintable():
            raise ValueError(f"must be 1 to {QUERY_MAX} printable characters")
        if text.startswith("args."):
            path, colon, value = text.removeprefix("args.").partition(":")
            if not colon or not all(path.split(".")):
                raise ValueError("names a place in the argument as in args.userId:42")
            return JobFilter(path=path, value=value)
        name, colon, rest = text.partition(":")
        if colon and name in _WORDS:
            return _named(name, rest)
        part = _id_part(text)
        low, high = _id_range(part) if part else (None, None)
        row = await self._pool.fetchrow(SQL["search_meaning"], low, high, list(queues), text)
        if row is not None and row["is_id"]:
            return JobFilter(id=part)
        return JobFilter(key=text) if row is not None and row["is_key"] else JobFilter(error=text)

    async def _way(self, queues: Sequence[str], wanted: JobFilter) -> tuple[str, list[JobState]]:
        """The statement that reads least, and the states that it is to be given."""
        states = _states(wanted)
        if wanted.id is not None:
            return SQL["search_newest"], states
        counts = await self._records.counts()
        few = sum(getattr(counts[queue], state) for queue in queues if queue in counts for state in states)
        if few < DEPTH:
            return SQL["search_few"], states
        return SQL["search_set_aside"] if _SET_ASIDE.issuperset(states) else SQL["search_newest"], states

    async def _among(self, queues: Sequence[str], wanted: JobFilter, bounds: tuple[UUID, UUID], limit: int) -> Found:
        candidates = await self._candidates(wanted, bounds)
        rows = await self._pool.fetch(
            SQL["search_among"],
            list(queues),
            list(wanted.states),
            *bounds,
            *_residual(wanted),
            *(wanted.key, wanted.group, wanted.tag),
            candidates.ids,
            limit + 1,
        )
        ids = [row["id"] for row in rows]
        more = len(ids) > limit
        return Found(
            ids=ids[:limit],
            following=ids[limit - 1] if more else candidates.stopped,
            searched=candidates.looked_at,
            complete=more or candidates.stopped is None,
        )

    async def _candidates(self, wanted: JobFilter, bounds: tuple[UUID, UUID]) -> Candidates:
        if wanted.about:
            return await by_knowledge(self._finders, wanted.about, bounds[1], DEPTH)
        return await by_tag(self._pool, wanted.tag or "", *bounds, DEPTH)

    async def _count_pages(self, queue: str, wanted: JobFilter) -> int:
        number, after = 0, None
        while True:
            found = await self.find([queue], wanted, after, DEPTH)
            number, after = number + len(found.ids), found.following
            if after is None:
                return number

    async def _by_key(self, queues: Sequence[str], wanted: JobFilter, bounds: tuple[UUID, UUID], limit: int) -> Found:
        rows = await self._pool.fetch(
            SQL["search_key"], list(queues), list(wanted.states), *bounds, *_residual(wanted), wanted.key, limit + 1
        )
        ids = [row["id"] for row in rows]
        return Found(
            ids=ids[:limit],
            following=ids[limit - 1] if len(ids) > limit else None,
            searched=len(ids[:limit]),
            complete=True,
        )


def _found(rows: Sequence[Row], limit: int, depth: int) -> Found:
    ids = [row["id"] for row in rows if row["matched"]]
    if len(ids) > limit:
        page = ids[:limit]
        searched = next(row["n"] for row in rows if row["id"] == page[-1])
        return Found(ids=page, following=page[-1], searched=searched, complete=True)
    if not rows or rows[-1]["n"] < depth:
        return Found(ids=ids, following=None, searched=rows[-1]["n"] if rows else 0, complete=True)
    return Found(ids=ids, following=rows[-1]["id"], searched=depth, complete=False)


def _states(wanted: JobFilter) -> list[JobState]:
    return list(dict.fromkeys(wanted.states or (_WITH_ERROR if wanted.error is not None else JobState)))


def _residual(wanted: JobFilter) -> tuple[Any, ...]:
    return (
        _pattern(wanted.error) if wanted.error is not None else None,
        wanted.path.split(".") if wanted.path is not None else None,
        wanted.value,
        wanted.since,
        wanted.until,
    )


def _pattern(part: str) -> str:
    """For LIKE, of an error and a line's end after it."""
    begins, ends = len(part) > 1 and part[0] == "^", len(part) > 1 and part[-1] == "$"
    literal = re.sub(r"([\\%_])", r"\\\1", part[begins : len(part) - ends]).replace("*", "%")
    return f"{'' if begins else '%'}{literal}{chr(10) if ends else ''}%"


def _named(name: str, rest: str) -> JobFilter:
    rest = rest.strip()
    if not rest:
        raise ValueError(f"says nothing after {name}:")
    if name == "id":
        part = _id_part(rest)
        if part is None:
            raise ValueError("id: takes 4 to 32 hexadecimal digits, with hyphens or without")
        return JobFilter(id=part)
    match name:
        case "key":
            return JobFilter(key=rest)
        case "group":
            return JobFilter(group=rest)
        case _:
            return JobFilter(error=rest)


def _id_part(text: str) -> str | None:
    part = text.lower().replace("-", "")
    return part if _ID_PART.fullmatch(part) else None


def _id_range(part: str) -> tuple[UUID, UUID]:
    """The first id that begins so, and the first one after all that do."""
    return UUID(part.ljust(32, "0")), UUID(int=min(int(part.ljust(32, "f"), 16) + 1, _LAST.int))


def _first_id_of(moment: datetime) -> UUID:
    """The lowest version 7 id of that moment (RFC 9562: 48 bits of Unix milliseconds first)."""
    milliseconds = min(max(0, int(moment.timestamp() * 1000)), 2**48 - 1)
    return UUID(int=milliseconds << 80)
