"""Shapes of the admin API for queues, jobs and workers (``queues_admin.py``), and reading what callers sent. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

import msgspec

from gateway.jobs.job import AttemptError, JobRecord, JobState, QueueCounts
from gateway.jobs.policy import QueuePolicy, RateLimit
from gateway.jobs.records import QueueStatus, Replica
from gateway.problem import Problem

QUEUE_SUFFIX = "-queue"
LIMIT_DEFAULT = 50
LIMIT_MAX = 100
REASON_MAX = 500  # characters

# One line: it is shown in tables, and PostgreSQL keeps no NUL.
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=REASON_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")]


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``until``: ISO 8601 with a zone, in the future; without it the queue rests until somebody resumes it."""

    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    reason: Reason | None = None


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Reason | None = None


class RateLimitView(msgspec.Struct, frozen=True, rename="camel"):
    max: int
    duration_ms: int


class LimitsView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``concurrency`` is per replica, ``rate_limit`` over all replicas, as are the two of each group."""

    concurrency: int
    rate_limit: RateLimitView | None
    attempts: int
    backoff_ms: int
    timeout_ms: int
    group_concurrency: int | None
    group_rate_limit: RateLimitView | None


class WorkersOfQueue(msgspec.Struct, frozen=True, kw_only=True):
    """Live replicas that work on the queue, and their slots added up."""

    replicas: int
    slots: int
    busy: int


class QueueView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``oldest_waiting_s``: how long the first runnable job has been ready (seconds), None when none is."""

    name: str
    counts: QueueCounts
    paused: bool
    paused_until: datetime | None
    pause_reason: str | None
    oldest_waiting_s: float | None
    limits: LimitsView
    workers: WorkersOfQueue


class JobView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One job in a list: without its argument, result and the errors of its attempts."""

    id: UUID
    queue: str
    task: str
    state: JobState
    priority: int
    attempts: int
    max_attempts: int
    stalls: int
    run_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    error: str | None
    group: str | None


class JobDetail(JobView, frozen=True, kw_only=True, rename="camel"):
    """One job in full. ``errors`` has one entry for each attempt that did not complete. ``request_id`` and
    ``traceparent`` are those of the request that asked for it."""

    data: dict[str, Any]
    result: Any
    errors: list[AttemptError]
    lease_until: datetime | None
    dedupe_key: str | None
    expires_at: datetime | None
    tags: list[str]
    request_id: str | None
    traceparent: str | None


class WorkerView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One live replica. ``slots`` by queue: ``{"email-queue": {"slots": 5, "busy": 2, "limits": 0}}``; ``limits`` is
    equal on replicas that go by the same changed limits, 0 for none. ``configuration``: what should be the same on all
    of them, without secrets; None: its version announces nothing. ``vitals``: ``rssBytes``, and ``loopLagS``, the
    longest delay of its event loop in 15 s."""

    id: str
    role: str
    version: str
    host: str
    pid: int
    mode: str
    slots: dict[str, dict[str, int]]
    draining: bool
    started_at: datetime
    seen_at: datetime
    configuration: dict[str, str] | None
    configuration_hash: str | None
    vitals: dict[str, float]


def queue_view(status: QueueStatus, replicas: Sequence[Replica]) -> QueueView:
    slots = [replica.slots[status.name] for replica in replicas if status.name in replica.slots]
    return QueueView(
        name=status.name,
        counts=status.counts,
        paused=status.paused,
        paused_until=status.paused_until,
        pause_reason=status.pause_reason,
        oldest_waiting_s=status.oldest_waiting_s,
        limits=limits_view(status.policy),
        workers=WorkersOfQueue(
            replicas=len(slots), slots=sum(s["slots"] for s in slots), busy=sum(s["busy"] for s in slots)
        ),
    )


def limits_view(policy: QueuePolicy) -> LimitsView:
    return LimitsView(
        concurrency=policy.concurrency,
        rate_limit=_rate_view(policy.rate),
        attempts=policy.attempts,
        backoff_ms=policy.backoff_ms,
        timeout_ms=round(policy.timeout_s * 1000),
        group_concurrency=policy.group_concurrency,
        group_rate_limit=_rate_view(policy.group_rate),
    )


def _rate_view(rate: RateLimit | None) -> RateLimitView | None:
    return RateLimitView(rate.max, rate.duration_ms) if rate else None


def _job_fields(record: JobRecord) -> dict[str, Any]:
    fields = {name: getattr(record, name) for name in JobView.__struct_fields__ if name != "started_at"}
    return fields | {"started_at": record.claimed_at}


def job_view(record: JobRecord) -> JobView:
    return JobView(**_job_fields(record))


def job_detail(record: JobRecord) -> JobDetail:
    return JobDetail(
        **_job_fields(record),
        data=record.args,
        result=record.result,
        errors=record.errors,
        lease_until=record.lease_until,
        dedupe_key=record.dedupe_key,
        expires_at=record.expires_at,
        tags=record.tags,
        request_id=record.request_id,
        traceparent=record.traceparent,
    )


def worker_view(replica: Replica) -> WorkerView:
    announced = replica.configuration or None
    shown = msgspec.structs.asdict(replica) | {"configuration": announced}
    return WorkerView(**shown, configuration_hash=None if announced is None else _hash(announced))


def _hash(configuration: dict[str, str]) -> str:
    """For comparing at a glance."""
    return sha256(msgspec.json.encode(configuration, order="sorted")).hexdigest()[:12]


def invalid(field: str, message: str) -> Problem:
    return Problem(400, "validation_error", f"{field} {message}", details=[{"field": field, "message": message}])


def short_name(queue: str) -> str:
    """``email`` for ``email-queue``: how people call it."""
    return queue.removesuffix(QUEUE_SUFFIX)


def full_name(name: str, known: Sequence[str]) -> str:
    """The queue's full name. Raises Problem 404 ``unknown_queue``, with the nearest known one when there is one."""
    for candidate in (name, f"{name}{QUEUE_SUFFIX}"):
        if candidate in known:
            return candidate
    names = [short_name(queue) for queue in known]
    near = difflib.get_close_matches(short_name(name), names, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    message = f'unknown queue "{name[:100]}"{hint} (known: {", ".join(names)})'
    raise Problem(404, "unknown_queue", message, details=[{"field": "name", "message": message}])


def job_id_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise invalid("id", f'"{text[:100]}" is not a job id (a UUID)') from None


def states_of(text: str | None, field: str = "state") -> tuple[JobState, ...]:
    """States from ``failed`` or ``waiting,delayed``; nothing means every state."""
    if text is None:
        return ()
    try:
        return tuple(JobState(word.strip()) for word in text.split(","))
    except ValueError:
        known = ", ".join(JobState)
        raise invalid(field, f'"{text[:100]}" is not a state or a list of them ({known})') from None


def cursor_of(text: str | None) -> UUID | None:
    """Where the next page starts: the id of the last job of the page before."""
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise invalid("cursor", "is not page.nextCursor of an earlier answer") from None
