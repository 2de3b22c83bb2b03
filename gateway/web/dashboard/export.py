"""``/admin/queues/queue/{name}/export``: the jobs of a list as a file for spreadsheets (CSV, RFC 4180)."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from litestar import get
from litestar.params import FromPath
from litestar.response import Stream

from gateway.feature import Platform, ThePlatform
from gateway.jobs.job import JobRecord
from gateway.jobs.search import JobFilter
from gateway.masking import masked
from gateway.web.dashboard.frame import PageRequest
from gateway.web.dashboard.listing import FILTERS, wanted_of
from gateway.web.dashboard.look import attachment, visible
from gateway.web.dashboard.overview import READ_S
from gateway.web.dashboard.queue import READ, queue_name
from gateway.web.jobs_search import read_filter
from gateway.web.queues_schemas import invalid

ROWS_MAX: Final = 10_000
SEARCHED_MAX: Final = 100_000  # jobs that are read for one file
_PART: Final = 100  # jobs at once: their arguments may be large
_CELL_MAX: Final = 32_000  # characters; a spreadsheet's cell holds 32,767
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_MORE: Final = "(there are more jobs: this file ends here)"
COLUMNS: Final = (
    *("id", "state", "task", "priority", "key", "group", "tags", "attempts", "maxAttempts", "createdAt", "runAt"),
    *("startedAt", "finishedAt", "worker", "requestId", "error", "argument"),
)


@get("/queue/{name:str}/export", opt=READ | {"query": FILTERS}, include_in_schema=False)
async def export_jobs(request: PageRequest, platform: ThePlatform, name: FromPath[str]) -> Stream:
    """Newest first, ``ROWS_MAX`` at most; where there are more a last line says so. Values are masked as on pages."""
    queue, query = queue_name(platform, name), dict(request.query_params.items())
    asked = wanted_of(query, request.user)
    if asked.pop("queue", queue) != queue:
        raise invalid("q", "names another queue")
    wanted = await read_filter(platform, queue, asked)
    lines = _lines(platform, queue, wanted, content=request.user.reads_content)
    first = await anext(lines)  # what cannot be read is told as an error, not as a file that is empty
    what = query.get("status", "").replace(",", "-") or "jobs"
    headers = {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": attachment(f"{queue}-{what}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"),
        "Cache-Control": "no-store",
    }
    return Stream(_after(first, lines), headers=headers)


async def _after(first: str, others: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for other in others:
        yield other


async def _lines(platform: Platform, queue: str, wanted: JobFilter, *, content: bool) -> AsyncIterator[str]:
    """The file in parts; none is empty."""
    head, after, rows, searched = [COLUMNS], None, 0, 0
    while rows < ROWS_MAX and searched < SEARCHED_MAX:
        after, jobs, read = await _part(platform, queue, wanted, after)
        rows, searched = rows + len(jobs), searched + read
        if head or jobs:
            yield _csv([*head, *(_row(job, content=content) for job in jobs)])
            head = []
        if after is None:
            return
    yield _csv([[_MORE]])


async def _part(
    platform: Platform, queue: str, wanted: JobFilter, after: UUID | None
) -> tuple[UUID | None, list[JobRecord], int]:
    async with asyncio.timeout(READ_S):
        page = await platform.inspector.find(queue, wanted, after=after, limit=_PART)
    return page.found.following, page.jobs, page.found.searched


def _row(job: JobRecord, *, content: bool) -> list[Any]:
    argument = msgspec.json.encode(masked(job.args, content=content)).decode()
    return [
        *(job.id, job.state, job.task, job.priority, job.dedupe_key, job.group, " ".join(job.tags), job.attempts),
        *(job.max_attempts, job.created_at, job.run_at, job.claimed_at, job.finished_at, job.worker, job.request_id),
        *(job.error, argument),
    ]


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula (OWASP, CSV Injection), with nothing hidden in it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if not isinstance(value, str):
        return value
    text = str(visible(value))[:_CELL_MAX]
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
