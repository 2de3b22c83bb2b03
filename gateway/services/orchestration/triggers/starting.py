"""The runs that triggers want, and what stands against one in a trigger's words."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from gateway.jobs.errors import QueueFull
from gateway.problem import Problem
from gateway.services.orchestration.conflicts import OnConflict
from gateway.services.orchestration.schemas import JobType, OrchestrationJobData, TriggerSource
from gateway.services.orchestration.starting import NewRun
from gateway.services.orchestration.triggers.rule import Skip, SkipCode

_CODES = {
    "already_running": SkipCode.RUNNING,
    "budget_exhausted": SkipCode.BUDGET,
    "project_archived": SkipCode.ARCHIVED,
}


def run_of(
    source: TriggerSource,
    project_id: UUID,
    agent_slug: str | None,
    context: dict[str, Any],
    on_conflict: OnConflict = OnConflict.REJECT,
) -> NewRun:
    """``agent_slug`` None: a batch of all agents of the project."""
    data = OrchestrationJobData(
        project_id=str(project_id),
        triggered_by=source,
        job_type=JobType.BATCH if agent_slug is None else JobType.SINGLE_AGENT,
        agent_slug=agent_slug,
        context=context,
    )
    return NewRun(data=data, on_conflict=on_conflict)


def skip_of(error: Problem | QueueFull) -> Skip:
    """Why no run was started, for the trigger's row."""
    if isinstance(error, QueueFull):
        return Skip(SkipCode.QUEUE_FULL, str(error))
    return Skip(_CODES.get(error.code, SkipCode.REFUSED), error.message)
