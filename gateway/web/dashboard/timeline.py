"""The way of a job in order, with what passed between: waits, runs, back-off. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from gateway.jobs.job import AttemptError, JobState
from gateway.jobs.policy import Retention
from gateway.web.queues_schemas import JobDetail

_AT_ONCE: Final = timedelta(milliseconds=20)  # a job that is ready when it is accepted has no step of its own for that
# How an attempt ended, behind "attempt 1"; those that are missing say it themselves.
_ENDED: Final = {
    "error": "failed",
    "fail": "failed for good",
    "timeout": "timed out",
    "stalled": "stalled: its worker vanished",
    "interrupted": "was handed back",
    "snoozed": "asked for a later time",
    "cancelled": "was cancelled",
}
_COUNTED: Final = frozenset({"error", "fail", "timeout"})  # ends of attempts that were the task's


class Step(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``kind``: the state whose colour it has. ``gap``: what passed since the step before, ``after_s`` seconds."""

    kind: str
    word: str
    at: datetime
    gap: str
    after_s: float | None


class _Mark(msgspec.Struct, frozen=True):
    """``gap``: what passed before it. ``order``: of two at the same moment the lower comes first."""

    kind: str
    word: str
    at: datetime
    gap: str = ""
    order: int = 0


def steps_of(job: JobDetail) -> list[Step]:
    """Accepted, each attempt's start and end, the end. Starts that an older version did not write down are missing."""
    marks = [_Mark("waiting", "accepted", job.created_at), *_attempts(job), *_present(job)]
    marks.sort(key=lambda mark: (mark.at, mark.order))
    steps: list[Step] = []
    for mark in marks:
        after_s = (mark.at - steps[-1].at).total_seconds() if steps else None
        steps.append(Step(kind=mark.kind, word=mark.word, at=mark.at, gap=mark.gap, after_s=after_s))
    return steps


def _attempts(job: JobDetail) -> Iterable[_Mark]:
    """Those that did not complete."""
    before: AttemptError | None = None
    for error in job.errors:
        if error.started_at is not None:
            gap = "back-off" if before is not None and before.kind in _COUNTED else "waited"
            yield _Mark("active", f"attempt {max(1, error.attempt)} started", error.started_at, gap, 2)
        kind = "failed" if error.kind in _COUNTED or error.kind == "stalled" else "delayed"
        gap = "ran" if error.started_at is not None else ""
        yield _Mark(kind, f"attempt {error.attempt} {_ENDED.get(error.kind, error.kind)}", error.at, gap, 3)
        before = error


def _present(job: JobDetail) -> Iterable[_Mark]:
    """The last attempt, and where the job stands."""
    told = job.errors[-1].started_at if job.errors else None
    runs = job.started_at is not None and job.started_at != told
    ready = job.run_at - job.created_at > _AT_ONCE and (job.started_at is None or job.run_at <= job.started_at)
    if ready and runs:
        gap = "back-off" if job.errors and job.errors[-1].kind in _COUNTED else "scheduled"
        yield _Mark("waiting", "ready", job.run_at, gap, 1)
    if job.started_at is not None and runs:
        yield _Mark("active", f"attempt {max(1, job.attempts)} started", job.started_at, "waited", 2)
    if job.finished_at is not None:
        yield _Mark(str(job.state), str(job.state), job.finished_at, "ran" if runs else "", 4)
    elif job.state is JobState.DELAYED:
        word, gap = ("starts again", "back-off") if job.errors else ("scheduled", "")
        yield _Mark("delayed", word, job.run_at, gap, 4)


def verdict(job: JobDetail) -> str | None:
    """Why a failed job has no further attempt."""
    if job.state is not JobState.FAILED:
        return None
    last = job.errors[-1].kind if job.errors else None
    if last == "fail":
        left = job.max_attempts - job.attempts
        rest = f": {left} further {'attempt was' if left == 1 else 'attempts were'} not made" if left > 0 else ""
        return f"The error is permanent{rest}."
    if last == "stalled":
        return f"Its worker vanished {job.stalls} times; whatever it does may stop processes, so it is not tried again."
    return f"All {job.max_attempts} attempts failed." if job.attempts >= job.max_attempts else None


def kept_until(job: JobDetail, keep: Retention) -> datetime | None:
    """When retention takes it; None: it has not ended. Of completed jobs too many may take it sooner."""
    if job.finished_at is None:
        return None
    seconds = keep.completed_s if job.state is JobState.COMPLETED else keep.failed_s
    return job.finished_at + timedelta(seconds=seconds)
