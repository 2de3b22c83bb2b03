"""What callers may ask for when they look for jobs: the query of the lists, and the filter of work on many."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Operation, Parameter, Schema

from gateway.access import Principal
from gateway.feature import Platform
from gateway.infra.log import MASK
from gateway.jobs.job import JobState
from gateway.jobs.operations import Operation as JobsOperation
from gateway.jobs.search import JobFilter
from gateway.masking import is_hidden
from gateway.web.queues_schemas import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    JobView,
    cursor_of,
    full_name,
    invalid,
    job_view,
    states_of,
)

ERROR_MAX: Final = 200  # characters
TAG_MAX: Final = 400  # a mail's name and value with the colon are 321 at most
ADDRESS_MAX: Final = 254
_NUMBER: Final = re.compile(r"[0-9]{1,3}")
_YEARS: Final = range(2000, 3000)

_TEXT = Schema(type=OpenAPIType.STRING)
_TIME = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME, description="ISO 8601 with a zone")
QUERY: Final = {
    "state": Schema(type=OpenAPIType.STRING, description=f"One or several, with commas: {', '.join(JobState)}"),
    "q": Schema(
        type=OpenAPIType.STRING,
        description="An id or its first characters, a dedupe key, a part of the error, or args.PATH:VALUE; "
        "id:, key:, group: and error: in front say which",
    ),
    "error": Schema(
        type=OpenAPIType.STRING, description="A part of the last error; * is anything, ^ its beginning, $ a line's end"
    ),
    "tag": Schema(type=OpenAPIType.STRING, description="One of its tags, whole; a mail's are name:value"),
    "recipient": Schema(type=OpenAPIType.STRING, description="Bare address: jobs of mails to it, in to, cc or bcc"),
    "group": Schema(type=OpenAPIType.STRING, description="The group that they belong to"),
    "from": _TIME,
    "until": _TIME,
    "cursor": Schema(type=OpenAPIType.STRING, description="page.nextCursor of the page before"),
    "limit": Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=LIMIT_MAX, default=LIMIT_DEFAULT),
}
PARAMETERS: Final = tuple(QUERY)
QUEUE: Final = {"queue": Schema(type=OpenAPIType.STRING, description="Only this queue's jobs; its name may be short")}


def _parameters(query: Mapping[str, Schema]) -> list[Parameter]:
    return [Parameter(name=name, param_in="query", schema=schema) for name, schema in query.items()]


@dataclass
class SearchOfQueue(Operation):
    """Documents the query of a queue's list."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), *_parameters(QUERY)]


@dataclass
class SearchOfAll(Operation):
    """Documents the query of the list over all queues."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), *_parameters(QUEUE | QUERY)]


class JobPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a page ends. With ``complete`` false the search stopped after ``searched`` jobs: go on with
    ``next_cursor``, however many jobs the page holds."""

    next_cursor: str | None
    limit: int
    searched: int | msgspec.UnsetType = msgspec.UNSET
    complete: bool | msgspec.UnsetType = msgspec.UNSET


async def search_jobs(platform: Platform, queue: str | None, query: Mapping[str, str]) -> tuple[list[JobView], JobPage]:
    """A page of jobs, newest first, and what to say of it. Raises Problem 400 naming the parameter."""
    limit = _limit(query.get("limit"))
    after = cursor_of(query.get("cursor"))
    wanted = await read_filter(platform, queue, query)
    page = await platform.inspector.find(queue, wanted, after=after, limit=limit)
    found = page.found
    following = None if found.following is None else str(found.following)
    told = JobPage(next_cursor=following, limit=limit)
    if not found.complete or query.keys() & {"q", "error", "tag", "recipient"}:
        told = msgspec.structs.replace(told, searched=found.searched, complete=found.complete)
    return [job_view(job) for job in page.jobs], told


async def read_filter(platform: Platform, queue: str | None, given: Mapping[str, str], place: str = "") -> JobFilter:
    """The filter that the parameters of the lists mean. Raises Problem 400 naming the field, with ``place`` before its
    name."""
    error, group = _part(f"{place}error", given.get("error")), _part(f"{place}group", given.get("group"))
    asked = JobFilter(
        states=states_of(given.get("state")),
        error=error,
        group=group,
        since=_moment(f"{place}from", given.get("from")),
        until=_moment(f"{place}until", given.get("until")),
        tag=_part(f"{place}tag", given.get("tag"), TAG_MAX),
        about=_recipient(f"{place}recipient", given.get("recipient")),
    )
    text = given.get("q")
    if text is None:
        return asked
    try:
        meant = await platform.inspector.interpret(text, queue)
    except ValueError as problem:
        raise invalid(f"{place}q", str(problem)) from None
    if meant.error is not None and error is not None:
        raise invalid(f"{place}q", "is taken for a part of the error, which error names already")
    if meant.group is not None and group is not None:
        raise invalid(f"{place}q", "names a group, which group names already")
    said = {name: value for name in ("id", "key", "group", "error", "path", "value") if (value := getattr(meant, name))}
    return msgspec.structs.replace(asked, **said)


def _part(field: str, text: str | None, most: int = ERROR_MAX) -> str | None:
    if text is not None and not (0 < len(text) <= most and text.isprintable()):
        raise invalid(field, f"must be 1 to {most} printable characters")
    return text


def _recipient(field: str, text: str | None) -> dict[str, str]:
    address = _part(field, text, ADDRESS_MAX)
    if address is None:
        return {}
    if "@" not in address.strip("@") or " " in address:
        raise invalid(field, "must be a bare address, as in ada@example.com")
    return {"recipient": address.lower()}


def refuse_hidden(query: Mapping[str, str], reader: Principal) -> None:
    """Whether a search finds a job tells what stands there. Raises Problem 400 for a value that ``reader`` may not
    read."""
    path, colon, _ = query.get("q", "").removeprefix("args.").partition(":")
    if colon and query["q"].startswith("args.") and not reader.reads_content and is_hidden(path, content=False):
        raise invalid("q", "looks for a value that is masked")


def readable(operation: JobsOperation, reader: Principal) -> JobsOperation:
    """Without the value of its filter where ``reader`` may not read it: the jobs that it was about have it."""
    path = operation.filter.get("path")
    if path is None or not is_hidden(path, content=reader.reads_content):
        return operation
    return msgspec.structs.replace(operation, filter=operation.filter | {"value": MASK})


def queue_of(platform: Platform, query: Mapping[str, str]) -> str | None:
    """The queue that ``queue`` names, None without it. Raises Problem 404 ``unknown_queue``."""
    name = query.get("queue")
    return None if name is None else full_name(name, platform.engine.registry.queue_names)


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT_DEFAULT
    number = int(text) if _NUMBER.fullmatch(text) else 0
    if not 1 <= number <= LIMIT_MAX:
        raise invalid("limit", f"must be a whole number from 1 to {LIMIT_MAX}")
    return number


def _moment(field: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    moment: datetime | None = None
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
    if moment is None or moment.tzinfo is None or moment.year not in _YEARS:
        raise invalid(field, "must be a time with a zone, as in 2026-05-01T15:00:00Z")
    return moment
