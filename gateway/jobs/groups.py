"""Turns: which jobs of a group may be ready, so that groups share a queue fairly and keep limits of their own.

A job with a group waits blocked; ``give_turns`` in the ledger lets the next ones of a group become ready. It is asked
whenever something happened to a group's jobs here (one statement for all of a moment), when a group's rate opens again,
and by the leader's ``sweep``. Missing a call costs time, never a job (docs/decisions/0013-groups-take-turns.md).
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Final, Protocol

import asyncpg
import structlog

from gateway.infra.postgres import LEDGER_ERRORS
from gateway.jobs.errors import UnknownQueue
from gateway.jobs.job import Inserted, JobState
from gateway.jobs.registry import Registry
from gateway.jobs.store import SQL, Row

log = structlog.get_logger(__name__)

SWEEP_S: Final = 1.0
LEAST_HEADS: Final = 20  # of a group, run or are ready however few slots are known
_MOST: Final = 100  # groups in one statement: bounds its locks
_PAGES: Final = 5  # of groups that hardly need a sweep; the next one goes on from there
_SWEEP_MOST_S: Final = 5.0  # for one queue's pages that do: then the next queue's turn has come
_TIMERS_MAX: Final = 10_000  # groups beyond them wait for the sweep
_STOP_S: Final = 2.0

Offer = Callable[[Sequence[Inserted]], Awaitable[object]]


class Grouped(Protocol):
    """An ``Inserted`` or a ``JobRecord``."""

    @property
    def queue(self) -> str: ...

    @property
    def group(self) -> str | None: ...


class Groups:
    """``offer`` is what hears of jobs that became ready; set by the dispatcher before the first use."""

    name = "groups"

    def __init__(self, pool: asyncpg.Pool[Row], registry: Registry) -> None:
        self.offer: Offer | None = None
        self._pool = pool
        self._registry = registry
        self._moved: dict[str, dict[str, None]] = {}  # queue -> groups, in the order in which they were moved
        self._turning: asyncio.Task[None] | None = None
        self._opening: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._swept: dict[tuple[str, str], str] = {}  # (queue, statement) -> the last group that was looked at
        self._limits: dict[str, object] = {}  # by queue: the limits of the last sweep that came to its end

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        """Give what is being given; the rest is found by another replica's sweep."""
        for timer in self._opening.values():
            timer.cancel()
        self._opening.clear()
        if self._turning is not None:
            await asyncio.wait([self._turning], timeout=_STOP_S)

    def moved(self, jobs: Iterable[Grouped]) -> None:
        """Something happened to these jobs: others of their groups, or they themselves, may have their turn now."""
        for job in jobs:
            if job.group is not None:
                self._move(job.queue, job.group)

    def _move(self, queue: str, group: str) -> None:
        self._moved.setdefault(queue, {})[group] = None
        if self._turning is None or self._turning.done():
            self._turning = asyncio.create_task(self._turn(), name="groups", context=contextvars.Context())

    async def _turn(self) -> None:
        while self._moved:
            queue = next(iter(self._moved))
            groups = self._moved.pop(queue)
            part = list(islice(groups, _MOST))
            for group in part:
                del groups[group]
            if groups:  # behind the other queues: one that has always more must not keep theirs waiting
                self._moved[queue] = groups
            try:
                await self.give(queue, part)
            except LEDGER_ERRORS as error:  # the sweep comes to them
                log.debug("turns_wait_for_ledger", queue=queue, groups=len(part), error=str(error))

    async def give(self, queue: str, groups: Sequence[str]) -> int:
        """Let the next jobs of these groups become ready; answers how many."""
        try:
            policy = self._registry.queue(queue)
        except UnknownQueue:  # another version's
            return 0
        rate = policy.group_rate
        rows = await self._pool.fetch(
            SQL["give_turns"],
            queue,
            groups,
            policy.group_concurrency,
            max(LEAST_HEADS, 2 * policy.concurrency),
            rate.max if rate else None,
            rate.duration_ms if rate else None,
        )
        for row in rows:
            if row["wait_s"] is not None:
                self._open_later(queue, row["group_key"], row["wait_s"])
        ready = [_ready(queue, row) for row in rows if row["id"] is not None]
        if ready and self.offer is not None:
            await self.offer(ready)
        return len(ready)

    def _open_later(self, queue: str, group: str, wait_s: float) -> None:
        if (queue, group) in self._opening or len(self._opening) >= _TIMERS_MAX:
            return

        def opened() -> None:
            del self._opening[queue, group]
            self._move(queue, group)

        self._opening[queue, group] = asyncio.get_running_loop().call_later(max(0.0, wait_s), opened)

    async def sweep(self) -> None:
        """A chore: look after the groups of all queues that nobody looked after. Groups that have nothing blocked
        matter only when a limit has changed: what is ready may be too much now."""
        for policy in self._registry.queues:
            queue, limits = policy.name, (policy.group_concurrency, policy.group_rate)
            await self._sweep(queue, "blocked_groups", SQL["blocked_groups"])
            if self._limits.get(queue) != limits and await self._sweep(
                queue, "groups_with_turns", SQL["groups_with_turns"]
            ):
                self._limits[queue] = limits

    async def _sweep(self, queue: str, name: str, statement: str) -> bool:
        """Some pages of groups, going on from the last time. Answers whether it came to the end. While most groups of a
        page get turns nobody else looks after them, and all have to be come to within a minute (invariant A)."""
        idle, until = 0, time.monotonic() + _SWEEP_MOST_S
        while idle < _PAGES and time.monotonic() < until:
            rows = await self._pool.fetch(statement, queue, self._swept.get((queue, name), ""), _MOST)
            groups = [row["group_key"] for row in rows]
            given = await self.give(queue, groups) if groups else 0
            if 2 * given < len(groups):
                idle += 1
            if len(groups) < _MOST:
                self._swept.pop((queue, name), None)
                return True
            self._swept[queue, name] = groups[-1]
        return False

    async def prune(self) -> None:
        """A chore: windows that nobody goes by any more, and starts that no window counts."""
        rated = [policy.name for policy in self._registry.queues if policy.group_rate is not None]
        await self._pool.execute(SQL["forget_group_windows"], rated)
        await self._pool.execute(SQL["prune_group_starts"])


def _ready(queue: str, row: Row) -> Inserted:
    return Inserted(
        id=row["id"],
        queue=queue,
        state=JobState.WAITING,
        priority=row["priority"],
        seq=row["seq"],
        group=row["group_key"],
    )
