"""Shapes of the API of runs, and reading what callers sent. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec

from gateway.access import Principal
from gateway.jobs.job import PRIORITY_MAX, PRIORITY_MIN
from gateway.problem import Problem
from gateway.services.orchestration.budgets import MICROS_PER_CENT
from gateway.services.orchestration.checking import NewRun, refused
from gateway.services.orchestration.conflicts import OnConflict
from gateway.services.orchestration.plan import StepKind, StepStatus
from gateway.services.orchestration.runs import RunStatus
from gateway.services.orchestration.schemas import JobType, OrchestrationJobData, OrchestrationJobResult, TriggerSource

BATCH_MAX: Final = 100
REASON_MAX: Final = 500
_KEY_MAX: Final = 200
_NAME_MAX: Final = 255
_LONGEST_MS: Final = 86_400_000

_Line = r"^[^\x00-\x1f\x7f]*$"
_Priority = Annotated[int, msgspec.Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)]
_Slug = Annotated[str, msgspec.Meta(min_length=1, max_length=60, pattern=_Line)]
_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=_KEY_MAX, pattern=_Line)]
_UserId = Annotated[str, msgspec.Meta(min_length=1, max_length=_NAME_MAX, pattern=_Line)]
_Cents = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
_Timeout = Annotated[int, msgspec.Meta(ge=1000, le=_LONGEST_MS)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=REASON_MAX, pattern=_Line)]


class TriggerBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``agentSlug``: this agent; without it, all that are enabled in the project."""

    project_id: str
    agent_slug: _Slug | None = None


class RunBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``jobType``: batch, single_agent (with ``agentSlug``), github_analysis, or retry (of ``context.runId``, else of
    the project's newest run that failed). ``context``: what the agents are told, at most 20,000 bytes as JSON.

    ``onConflict``: what happens while a run of the same project and type (and agent) is open; ``dedupeKey`` replaces
    project and type in that. ``dryRun``: decide and show, change nothing. ``budgetCents``: US cents, for this run.
    ``timeoutMs``: from its first start to its end.
    """

    project_id: str
    job_type: str
    triggered_by: TriggerSource = TriggerSource.API
    user_id: _UserId | None = None
    priority: _Priority | None = None
    agent_slug: _Slug | None = None
    context: dict[str, Any] | None = None
    scheduled_at: _Moment | None = None
    dedupe_key: _Key | None = None
    on_conflict: OnConflict = OnConflict.REJECT
    dry_run: bool = False
    budget_cents: _Cents | None = None
    timeout_ms: _Timeout | None = None


class CancelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: _Reason | None = None


RunBodies = Annotated[list[RunBody], msgspec.Meta(min_length=1, max_length=BATCH_MAX)]


class StartedView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``jobId`` is the run's id too. ``duplicate``: that run waited already and stands for this one."""

    job_id: UUID
    status: str
    mode: str
    message: str
    duplicate: bool = False


class StartedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    success: Literal[True]
    data: StartedView


class StartedBatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    success: Literal[True]
    data: list[StartedView]


class UsageView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``costCents`` in US cents."""

    input_tokens: int
    output_tokens: int
    cost_cents: float


class StepView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry of a run's log. ``partialText``: what had come when it was cut. ``promptSha256``: of all that the model
    was told. ``demo``: no model answered, the labelled demonstration did. ``takenFrom``: the step of an earlier run."""

    id: UUID
    position: int
    kind: StepKind
    agent_slug: str | None
    status: StepStatus
    attempts: int
    output: Any
    partial_text: str | None
    refusal: str | None
    error: str | None
    error_kind: str | None
    model: str | None
    provider: str | None
    prompt_sha256: str | None
    latency_ms: int | None
    demo: bool
    taken_from: UUID | None
    usage: UsageView
    started_at: datetime | None
    finished_at: datetime | None


class RunView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One run in a list. ``result`` is document 003's, null while it is not over."""

    id: UUID
    job_id: UUID
    project_id: UUID
    job_type: JobType
    agent_slug: str | None
    triggered_by: str
    user_id: str | None
    priority: int
    dry_run: bool
    budget_cents: float | None
    timeout_ms: int | None
    retry_of: UUID | None
    status: RunStatus
    result: OrchestrationJobResult | None
    error: str | None
    demo: bool
    usage: UsageView
    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


class ProgressView(msgspec.Struct, frozen=True):
    """``stage``: the agent at work, or a word; ``percent``: 0 to 100."""

    stage: str
    percent: int


class RunDetail(RunView, frozen=True, kw_only=True, rename="camel"):
    """One run in full. ``state`` is its job's (waiting, delayed, active, completed, failed, cancelled), null when that
    is no longer kept; ``attempts`` its attempts. ``steps`` is its log. ``contentHidden``: ``context``, outputs and
    words of models are left out, as the caller is no member and lacks the scope admin:content."""

    context: dict[str, Any]
    state: str | None
    attempts: int | None
    max_attempts: int | None
    progress: ProgressView
    suggestions_created: int
    tasks_created: int
    pending_approvals: int
    steps: list[StepView]
    content_hidden: bool = False


class QueueStatsView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``configured``: an agent can be run, as a model's provider is set."""

    configured: bool
    is_paused: bool
    stats: dict[str, int]


def triggered(body: TriggerBody, caller: Principal) -> NewRun:
    """A click: before everything else that waits."""
    return NewRun(
        data=OrchestrationJobData(
            project_id=body.project_id,
            triggered_by=TriggerSource.MANUAL,
            job_type=JobType.BATCH if body.agent_slug is None else JobType.SINGLE_AGENT,
            user_id=_person(caller),
            priority=PRIORITY_MAX,
            agent_slug=body.agent_slug,
        )
    )


def wanted_run(body: RunBody, caller: Principal, path: str = "") -> NewRun:
    """Raises Problem 422 naming the field; ``path`` stands before it."""
    if body.job_type not in list(JobType):
        raise refused(
            f"{path}jobType",
            f"must be one of {', '.join(JobType)}, not {body.job_type[:40]!r}",
            code="unknown_job_type",
        )
    if body.triggered_by is TriggerSource.RETRY_SCHEDULER:
        raise refused(f"{path}triggeredBy", "retry_scheduler is written by the gateway alone")
    person = _person(caller)
    if person is not None and body.user_id not in (None, person):
        raise refused(f"{path}userId", "is somebody else; leave it out")
    return NewRun(
        data=OrchestrationJobData(
            project_id=body.project_id,
            triggered_by=body.triggered_by,
            job_type=JobType(body.job_type),
            user_id=person or body.user_id,
            priority=body.priority,
            agent_slug=body.agent_slug,
            context=body.context,
        ),
        scheduled_at=body.scheduled_at,
        key=body.dedupe_key,
        on_conflict=body.on_conflict,
        dry_run=body.dry_run,
        budget_micros=None if body.budget_cents is None else max(1, round(body.budget_cents * MICROS_PER_CENT)),
        timeout_ms=body.timeout_ms,
    )


def wanted_runs(bodies: Sequence[RunBody], caller: Principal) -> list[NewRun]:
    """Raises Problem 422 naming the run and its field, 400 for none or too many."""
    if not 1 <= len(bodies) <= BATCH_MAX:
        message = f"has {len(bodies)} runs, not 1 to {BATCH_MAX}"
        raise Problem(400, "validation_error", message, details=[{"field": "body", "message": message}])
    return [wanted_run(body, caller, f"[{at}].") for at, body in enumerate(bodies)]


def _person(caller: Principal) -> str | None:
    return caller.id if caller.kind == "user" else None
