"""What a run consists of, what is left to do of it, and what its steps mean together. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from gateway.services.orchestration.schemas import JobType, OrchestrationJobResult

# Why a step failed, where another try would fail the same way (O29): kinds of ``llm.model.ModelRefusedCall``, of
# ``github.GitHubRefused``, and our own.
_FOR_GOOD: Final = frozenset(
    {
        *("auth", "bad_request", "context_length", "not_configured", "unknown_model"),
        *("not_found", "forbidden", "invalid", "bad_repository", "gone", "too_large"),
        *("unknown_agent", "budget", "no_repository", "archived"),
    }
)
_ERROR_MAX: Final = 1000  # characters


class StepKind(StrEnum):
    AGENT = "agent"
    ANALYSIS = "github_analysis"


class StepStatus(StrEnum):
    """``failed`` may be tried again while attempts are left (``left_to_do``); ``refused``: the model would not."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"


class Planned(NamedTuple):
    kind: StepKind
    agent_slug: str | None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One agent of a run, or its analysis. Tokens, cost and ``latency_ms`` are of all tries. ``taken_from``: the step
    of an earlier run whose output it has, for nothing."""

    id: UUID
    run_id: UUID
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
    input_tokens: int
    output_tokens: int
    cost_micros: int
    latency_ms: int | None
    demo: bool
    started_at: datetime | None
    finished_at: datetime | None
    taken_from: UUID | None

    @property
    def name(self) -> str:
        """For people, and the stage that progress tells."""
        return self.agent_slug or str(self.kind)


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has added to its project."""

    suggestions: int = 0
    tasks: int = 0
    pending_actions: int = 0


def planned(work: JobType, agent_slug: str | None, enabled: Sequence[str]) -> tuple[Planned, ...]:
    """The steps of a run. ``work``: what it does (of a retry, the job type of what it repeats); ``enabled``: slugs of
    the project's agents, in their order."""
    match work:
        case JobType.GITHUB_ANALYSIS:
            return (Planned(StepKind.ANALYSIS, None),)
        case JobType.SINGLE_AGENT:
            return (Planned(StepKind.AGENT, agent_slug),)
        case _:
            return tuple(Planned(StepKind.AGENT, slug) for slug in enabled)


def left_to_do(steps: Sequence[Step], max_attempts: int) -> list[Step]:
    """The steps that are not over, in their order: never begun, cut, or failed in a way that may pass and tried fewer
    than ``max_attempts`` times. What was completed or refused is never done again (O30)."""
    return [step for step in steps if not is_over(step, max_attempts)]


def is_over(step: Step, max_attempts: int) -> bool:
    match step.status:
        case StepStatus.WAITING | StepStatus.RUNNING:
            return False
        case StepStatus.FAILED:
            return step.error_kind in _FOR_GOOD or step.attempts >= max_attempts
        case _:
            return True


def percent(steps: Sequence[Step], max_attempts: int) -> int:
    over = sum(is_over(step, max_attempts) for step in steps)
    return round(100 * over / len(steps)) if steps else 0


def result_of(
    run_id: UUID, steps: Sequence[Step], brought: Brought, duration_ms: int | None, error: str | None = None
) -> OrchestrationJobResult:
    """O8. A run is a success when one of its steps is: a batch of which every agent failed is a failure (T25). What
    went wrong is in ``error`` also when others succeeded; ``error`` is why the run itself ended early."""
    agents = [step for step in steps if step.kind is StepKind.AGENT]
    succeeded = [step for step in agents if step.status is StepStatus.COMPLETED]
    failed = [step for step in agents if step.status in (StepStatus.FAILED, StepStatus.REFUSED)]
    done = any(step.status is StepStatus.COMPLETED for step in steps)
    return OrchestrationJobResult(
        success=done and error is None,
        job_id=str(run_id),
        agents_executed=len(succeeded) + len(failed),
        agents_succeeded=len(succeeded),
        agents_failed=len(failed),
        tasks_created=brought.tasks,
        suggestions_created=brought.suggestions,
        error=error or failure_of(steps),
        duration_ms=duration_ms,
    )


def failure_of(steps: Sequence[Step]) -> str | None:
    """What went wrong in the steps, in one sentence; None: nothing."""
    failed = [step for step in steps if step.status in (StepStatus.FAILED, StepStatus.REFUSED)]
    if not failed:
        return None
    reasons = "; ".join(f"{step.name}: {_reason(step)}" for step in failed)
    if len(steps) == 1:
        return reasons[:_ERROR_MAX]
    return f"{len(failed)} of {len(steps)} steps failed: {reasons}"[:_ERROR_MAX]


def _reason(step: Step) -> str:
    if step.status is StepStatus.REFUSED:
        return "the model refused"  # its words stand in the step, for those who may read them
    return step.error or "failed"


def dedupe_key(project_id: UUID, work: JobType, agent_slug: str | None, own: str | None) -> str:
    """At most one open run has it. ``own``: a key that the caller chose instead; it holds inside the project."""
    if own is not None:
        return f"run:{project_id}:key:{own}"
    agent = f":{agent_slug}" if work is JobType.SINGLE_AGENT else ""
    return f"run:{project_id}:{work}{agent}"


def dry_key(key: str) -> str:
    """Of a dry run: it changes nothing, so a real one need not wait for it."""
    return f"{key}:dry"


def next_key(key: str) -> str:
    """Of the one run that waits until the holder of ``key`` has ended (migration 0017 gives it ``key`` then)."""
    return f"{key}:next"


def later_key(key: str, moment: datetime) -> str:
    """Of a run that is scheduled: it does not hold ``key`` before it begins."""
    return f"{key}@{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
