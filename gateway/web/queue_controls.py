"""Changing queues and replicas while they run, and saying why jobs wait."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, patch
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, SkipValidation
from msgspec import UNSET, UnsetType

from gateway import audit
from gateway.access import Principal, Scope
from gateway.feature import Platform, ThePlatform
from gateway.jobs.controls import Controls
from gateway.jobs.job import JobRecord
from gateway.jobs.policy import ATTEMPTS_MAX, CONCURRENCY_MAX, NUMBER_MAX, QueuePolicy
from gateway.jobs.reporter import JobLogLine, JobProgress
from gateway.jobs.waiting import Hindrance, Waiting
from gateway.web.queues_schemas import (
    JobDetail,
    LimitsView,
    QueueView,
    full_name,
    invalid,
    job_detail,
    limits_view,
    queue_view,
)

ADMIN_PATH: Final = "/api/v1/admin"
WRITE: Final = {"access": Scope.ADMIN_WRITE}

# How a route asks for it: the app provides it under the name "controls".
TheControls = NamedDependency[SkipValidation[Controls]]

_Number = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
_Limit = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]  # 0: none


class RateLimitPatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """At most ``max`` starts in each window of ``duration_ms``, over all replicas."""

    max: _Number
    duration_ms: _Number


class GroupRatePatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """At most ``max`` starts of one group in each window of ``duration_ms``, over all replicas; 0 is no limit."""

    max: _Limit
    duration_ms: _Number


class RetentionPatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Seconds for which finished jobs are kept, and how many completed ones at most."""

    completed_s: _Number | UnsetType | None = UNSET
    completed_count: _Number | UnsetType | None = UNSET
    failed_s: _Number | UnsetType | None = UNSET


class LimitsPatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What is named is replaced on all replicas within 5 s and kept over restarts; null is as in the settings again."""

    concurrency: Annotated[int, msgspec.Meta(ge=1, le=CONCURRENCY_MAX)] | UnsetType | None = UNSET
    rate_limit: RateLimitPatch | UnsetType | None = UNSET
    attempts: Annotated[int, msgspec.Meta(ge=1, le=ATTEMPTS_MAX)] | UnsetType | None = UNSET
    backoff_ms: _Number | UnsetType | None = UNSET
    retention: RetentionPatch | UnsetType | None = UNSET
    group_concurrency: _Limit | UnsetType | None = UNSET
    group_rate_limit: GroupRatePatch | UnsetType | None = UNSET


class RetentionView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    completed_s: int
    completed_count: int
    failed_s: int


class QueueDetail(QueueView, frozen=True, kw_only=True, rename="camel"):
    """One queue in full. ``default_limits`` and ``default_retention`` are those of the settings; ``max_waiting``: how
    many waiting and delayed jobs are accepted, None is any number."""

    default_limits: LimitsView
    retention: RetentionView
    default_retention: RetentionView
    max_waiting: int | None
    why_waiting: list[Hindrance]


class WaitingJobDetail(JobDetail, frozen=True, kw_only=True, rename="camel"):
    """``why_waiting`` is empty for a job that neither waits nor is delayed. ``progress``: the last that an attempt
    said, None: none did. ``logs``: the newest lines of its attempts, oldest first; ``logs_dropped``: how many more
    there were."""

    why_waiting: list[Hindrance]
    progress: JobProgress | None
    logs: list[JobLogLine]
    logs_dropped: int


async def queue_detail(platform: Platform, queue: str) -> QueueDetail:
    """``queue``: its full name."""
    status, replicas = await platform.engine.queue_status(queue), await platform.engine.replicas()
    declared = platform.engine.registry.declared(queue)
    return QueueDetail(
        **msgspec.structs.asdict(queue_view(status, replicas)),
        default_limits=limits_view(declared),
        retention=_retention(status.policy),
        default_retention=_retention(declared),
        max_waiting=status.policy.max_waiting or None,
        why_waiting=await Waiting(platform.pool).of_queue(status, replicas),
    )


async def waiting_job_detail(platform: Platform, job: JobRecord) -> WaitingJobDetail:
    engine = platform.engine
    why: list[Hindrance] = []
    if job.queue in engine.registry.queue_names:  # a queue of another version's is nobody's here
        status, replicas = await engine.queue_status(job.queue), await engine.replicas()
        why = await Waiting(platform.pool).of_job(job, status, replicas)
    report = await platform.inspector.report(job.id)
    return WaitingJobDetail(
        **msgspec.structs.asdict(job_detail(job)),
        why_waiting=why,
        progress=report.progress,
        logs=report.lines,
        logs_dropped=report.dropped,
    )


def _retention(policy: QueuePolicy) -> RetentionView:
    keep = policy.retention
    return RetentionView(completed_s=keep.completed_s, completed_count=keep.completed_count, failed_s=keep.failed_s)


def changes_of(wanted: LimitsPatch) -> dict[str, int | None]:
    """The fields of ``QueueOverrides`` that are named, None for those that are to be as declared again. Pure."""
    named: dict[str, int | UnsetType | None] = {
        "concurrency": wanted.concurrency,
        "attempts": wanted.attempts,
        "backoff_ms": wanted.backoff_ms,
        "group_concurrency": wanted.group_concurrency,
    }
    match wanted.rate_limit:
        case None:
            named |= {"rate_max": None, "rate_duration_ms": None}
        case RateLimitPatch(max=most, duration_ms=window_ms):
            named |= {"rate_max": most, "rate_duration_ms": window_ms}
    match wanted.group_rate_limit:
        case None:
            named |= {"group_rate_max": None, "group_rate_duration_ms": None}
        case GroupRatePatch(max=most, duration_ms=window_ms):
            named |= {"group_rate_max": most, "group_rate_duration_ms": window_ms}
    match wanted.retention:
        case None:
            named |= dict.fromkeys(_RETENTION.values())
        case RetentionPatch() as keep:
            named |= {field: getattr(keep, name) for name, field in _RETENTION.items()}
    return {field: value for field, value in named.items() if value is not UNSET}


_RETENTION: Final = {
    "completed_s": "completed_retention_s",
    "completed_count": "completed_retention_count",
    "failed_s": "failed_retention_s",
}


@patch(f"{ADMIN_PATH}/queues/{{name:str}}", opt=WRITE, summary="Change a queue's limits while it runs", tags=["admin"])
async def change_limits(
    request: Request[Principal, Any, Any],
    platform: ThePlatform,
    controls: TheControls,
    name: FromPath[str],
    data: JSONBody[LimitsPatch],
) -> dict[str, Any]:
    queue = full_name(name, platform.engine.registry.queue_names)
    changes = changes_of(data)
    if not changes:
        raise invalid("body", f"names nothing to change; there are {', '.join(_NAMES)}")
    await controls.change(queue, changes)
    await _record(request, platform, "queue.limits", queue, msgspec.to_builtins(data))
    return {"success": True, "data": await queue_detail(platform, queue)}


_NAMES: Final = LimitsPatch.__struct_encode_fields__


async def _record(
    request: Request[Principal, Any, Any], platform: Platform, action: str, subject: str, detail: dict[str, Any]
) -> None:
    change = audit.Change(actor=request.user.id, action=action, subject=subject, detail=detail)
    await audit.record(platform.pool, change)


ROUTES = (change_limits,)
