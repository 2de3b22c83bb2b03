"""Reports of attempts on their way into the ledger: those of the same half second share one statement, however often a
task reports. A job that reports nothing costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import structlog

from gateway.infra.loops import Loop, at_stop
from gateway.jobs.batcher import NEVER
from gateway.jobs.events import Events, JobReported
from gateway.jobs.report import ATTEMPTS_KEPT, LINES_KEPT, Line, Progress, Report
from gateway.jobs.store import SQL, Row

log = structlog.get_logger(__name__)

WRITE_EVERY_S: Final = 0.5
LINES_SHOWN: Final = 500  # the newest of a job
_BATCH: Final = 500  # attempts in one statement
_WAITING_MAX: Final = 10_000  # attempts; more wait only while nothing can be written


class JobProgress(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The last that an attempt said of how far it is. ``percent``: 0 to 100, None when it did not know."""

    percent: int | None
    stage: str | None
    attempt: int
    at: datetime


class JobLogLine(msgspec.Struct, frozen=True, kw_only=True):
    attempt: int
    at: datetime
    text: str


class JobReport(msgspec.Struct, frozen=True, kw_only=True):
    """``lines``: the oldest first; ``dropped``: how many more there were, which are not kept or not shown."""

    progress: JobProgress | None
    lines: list[JobLogLine]
    dropped: int


class Reporter:
    """A component."""

    name = "reports"

    def __init__(self, pool: asyncpg.Pool[Row], events: Events) -> None:
        self._pool = pool
        self._events = events
        self._changed: dict[tuple[UUID, int], tuple[Report, float]] = {}  # and not before which moment (monotonic)
        self._asked = asyncio.Event()
        self._loop = Loop(self.name, self._round)

    async def start(self) -> None:
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()
        await at_stop("reports", self._write(list(self._changed.values())))

    def changed(self, report: Report, not_before: float = 0.0) -> None:
        """It says something new. ``not_before``: the moment, on the monotonic clock, before which it need not be
        written unless the attempt ends."""
        self._changed[report.job.id, report.job.fence] = (report, not_before)
        self._asked.set()
        if len(self._changed) > _WAITING_MAX:
            oldest = next(iter(self._changed))
            del self._changed[oldest]
            log.warning("report_dropped", job_id=str(oldest[0]))

    def close(self, report: Report, *, held: bool, needless: bool) -> None:
        """Its attempt has ended. ``held`` False: the lease was lost, and nobody wants its report any more.
        ``needless``: if nothing of it is written by now, nothing need be."""
        report.ended = held
        if not held or (needless and not report.stored):
            self._changed.pop((report.job.id, report.job.fence), None)
        elif not report.is_stored:
            self.changed(report)

    async def _round(self) -> float:
        await self._asked.wait()
        self._asked.clear()
        now = time.monotonic()
        due = [(report, at) for report, at in self._changed.values() if report.ended or at <= now]
        try:
            await self._write(due)
        finally:
            if self._changed:
                self._asked.set()
        return WRITE_EVERY_S

    async def _write(self, due: Sequence[tuple[Report, float]]) -> None:
        reports = [report for report, _ in due]
        for first in range(0, len(reports), _BATCH):
            await self._write_batch(reports[first : first + _BATCH])

    async def _write_batch(self, reports: Sequence[Report]) -> None:
        told = [_Told(report, report.version, report.progress, list(report.pending)) for report in reports]
        try:
            rows = await self._pool.fetch(SQL["report_write"], *_values(told), LINES_KEPT, ATTEMPTS_KEPT)
        except NEVER as error:  # its texts are cleaned, so nothing is known that could not be stored
            log.error("reports_refused", attempts=len(reports), exc_info=error)
            rows = []
        held = {(row["id"], row["fence"]) for row in rows}
        for one in told:
            job, key = one.report.job, (one.report.job.id, one.report.job.fence)
            if key in held:
                one.report.written(one.version, one.lines[-1].number if one.lines else 0)
                progress = None if one.progress is None else (one.progress.stage, one.progress.percent)
                self._events.publish(JobReported(job_id=str(job.id), queue=job.queue, progress=progress))
                if one.report.ended and not one.report.is_stored:  # also one that was needless until this was written
                    self.changed(one.report)
            if key not in held or one.report.is_stored:  # who does not hold the job reports no more
                self._changed.pop(key, None)


class _Told(NamedTuple):
    """What a report says at one moment; more may come while it is written."""

    report: Report
    version: int
    progress: Progress | None
    lines: list[Line]


def _values(told: Sequence[_Told]) -> tuple[list[Any], ...]:
    """The columns of the statement: attempts, and then their lines."""
    reports, progress = [one.report for one in told], [one.progress for one in told]
    lines = [(one.report.job, line) for one in told for line in one.lines]
    return (
        [report.job.id for report in reports],
        [report.job.fence for report in reports],
        [report.job.attempt for report in reports],
        [report.ended for report in reports],
        [each and each.percent for each in progress],
        [each and each.stage for each in progress],
        [each and each.at for each in progress],
        [report.lines for report in reports],
        [job.id for job, _ in lines],
        [job.fence for job, _ in lines],
        [line.number for _, line in lines],
        [line.at for _, line in lines],
        [line.text for _, line in lines],
    )


class Reports:
    """Reading what attempts reported."""

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self._pool = pool

    async def read(self, job_id: UUID) -> JobReport:
        """What a job's attempts reported, as far as it is kept."""
        attempts = await self._pool.fetch(SQL["report_progress"], job_id, ATTEMPTS_KEPT)
        if not attempts:
            return JobReport(progress=None, lines=[], dropped=0)
        rows = await self._pool.fetch(SQL["report_lines"], job_id, LINES_SHOWN)
        numbers = {row["fence"]: row["attempt"] for row in attempts}
        lines = [
            JobLogLine(attempt=numbers[row["fence"]], at=row["at"], text=row["text"])
            for row in reversed(rows)
            if row["fence"] in numbers
        ]
        dropped = sum(row["lines"] for row in attempts) - len(lines)
        return JobReport(progress=_last(attempts), lines=lines, dropped=max(0, dropped))


def _last(attempts: Sequence[Row]) -> JobProgress | None:
    for row in attempts:
        if row["progress_at"] is not None:
            return JobProgress(
                percent=row["percent"], stage=row["stage"], attempt=row["attempt"], at=row["progress_at"]
            )
    return None
