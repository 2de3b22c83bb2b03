"""A run that is wanted: is it possible, and what are its row and its job?"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.infra.uuid7 import uuid7
from gateway.jobs.job import NewJob
from gateway.problem import Problem
from gateway.services.orchestration.agents import Agents
from gateway.services.orchestration.budgets import Budgets
from gateway.services.orchestration.conflicts import OnConflict
from gateway.services.orchestration.github.service import PERIOD_MAX_HOURS
from gateway.services.orchestration.plan import StepStatus, dedupe_key, dry_key
from gateway.services.orchestration.projects import Project
from gateway.services.orchestration.queue import DEFAULT_PRIORITY, ORCHESTRATION_QUEUE, RUN_TASK
from gateway.services.orchestration.runs import FINAL, Run, RunStore
from gateway.services.orchestration.schemas import JobType, OrchestrationJobData, RunJobData

CONTEXT_MAX_BYTES: Final = 20_000  # as JSON: what an agent is shown of it


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is wanted. ``budget_micros``: of this run alone; ``timeout_ms``: from its first start to its end;
    ``key``: a dedupe key of the caller's own instead of the one for project and type; ``retry_of``: for retries."""

    data: OrchestrationJobData
    scheduled_at: datetime | None = None
    key: str | None = None
    on_conflict: OnConflict = OnConflict.REJECT
    dry_run: bool = False
    budget_micros: int | None = None
    timeout_ms: int | None = None
    retry_of: UUID | None = None


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was checked: the columns of its row, its job, and its key."""

    row: dict[str, Any]
    job: NewJob
    key: str
    on_conflict: OnConflict


class Checks:
    """Raises ``Problem``, and what asyncpg raises."""

    def __init__(self, store: RunStore, agents: Agents, budgets: Budgets) -> None:
        self._store = store
        self._agents = agents
        self._budgets = budgets

    async def prepare(self, wanted: NewRun, project: Project) -> Prepared:
        """Check a run. Raises Problem 402 ``budget_exhausted``, 404, 409 and 422 naming the field."""
        data = wanted.data
        earlier = await self._earlier(wanted, project) if data.job_type is JobType.RETRY else None
        work = data.job_type if earlier is None else earlier.work
        agent = data.agent_slug if earlier is None else earlier.agent_slug
        context = (data.context or {}) if earlier is None else earlier.context
        if earlier is None:
            await self._check_work(data, project)
        _check_context(work, context)
        await self._budgets.check(project.id)
        run_id, priority = uuid7(), DEFAULT_PRIORITY if data.priority is None else data.priority
        dry_run = wanted.dry_run or (earlier is not None and earlier.dry_run)
        key = dedupe_key(project.id, work, agent, wanted.key)
        key = dry_key(key) if dry_run else key
        row = {
            "id": run_id,
            "project_id": project.id,
            "job_type": data.job_type,
            "work": work,
            "agent_slug": agent,
            "triggered_by": data.triggered_by,
            "user_id": data.user_id,
            "context": context,
            "dry_run": dry_run,
            "budget_micros": wanted.budget_micros,
            "timeout_ms": wanted.timeout_ms,
            "retry_of": None if earlier is None else earlier.id,
            "priority": priority,
            "scheduled_at": wanted.scheduled_at,
            "dedupe_key": key,
        }
        args = RunJobData(
            project_id=str(project.id),
            triggered_by=data.triggered_by,
            job_type=data.job_type,
            user_id=data.user_id,
            priority=priority,
            agent_slug=agent,
            run_id=str(run_id),
        )
        job = NewJob(
            id=run_id,
            queue=ORCHESTRATION_QUEUE,
            task=RUN_TASK,
            args=msgspec.to_builtins(args),
            priority=priority,
            run_at=wanted.scheduled_at,
            group=str(project.id),
        )
        return Prepared(row=row, job=job, key=key, on_conflict=wanted.on_conflict)

    async def _earlier(self, wanted: NewRun, project: Project) -> Run:
        """The run that a retry repeats: the one that is named, else the project's newest that failed."""
        named = wanted.retry_of or _named_run(wanted.data.context or {})
        run_id = named or await self._store.last_failed(project.id, wanted.data.agent_slug)
        run = None if run_id is None else await self._store.get(run_id)
        if run is None or run.project_id != project.id:
            if named is not None:
                raise refused("context.runId", "names no run of this project")
            raise refused("jobType", "the project has no failed run to retry")
        if run.status not in FINAL:
            raise Problem(409, "not_finished", f"the run {run.id} is {run.status}; it can be retried when it has ended")
        steps = await self._store.steps(run.id)
        done = {step.position for step in await self._store.done_elsewhere(run.id)}
        left = [step for step in steps if step.status is not StepStatus.COMPLETED and step.position not in done]
        if steps and not left:
            raise Problem(409, "nothing_to_retry", f"every step of the run {run.id} was completed, there or by a retry")
        return run

    async def _check_work(self, data: OrchestrationJobData, project: Project) -> None:
        if data.job_type is not JobType.SINGLE_AGENT and data.agent_slug is not None:
            raise refused("agentSlug", f"is for single_agent, not for {data.job_type}")
        match data.job_type:
            case JobType.SINGLE_AGENT:
                await self._check_agent(data.agent_slug)
            case JobType.GITHUB_ANALYSIS if project.repository is None:
                raise refused("projectId", "the project names no repository; PATCH it with repository: owner/name")
            case JobType.BATCH if not await self._agents.enabled_for(project.id):
                raise refused("jobType", "no agent is enabled in the project, so a batch would do nothing")
            case _:
                return

    async def _check_agent(self, slug: str | None) -> None:
        if slug is None:
            raise refused("agentSlug", "is required for single_agent")
        agent = await self._agents.get(slug)
        if agent is None:
            known = ", ".join(defined.slug for defined in await self._agents.all_defined())
            raise refused("agentSlug", f"there is no agent {slug[:100]!r}; known: {known}", code="unknown_agent")
        if not agent.enabled:
            raise refused("agentSlug", f"the agent {slug!r} is switched off", code="agent_disabled")


def refused(field: str, message: str, code: str = "validation_error") -> Problem:
    return Problem(422, code, f"{field}: {message}", details=[{"field": field, "message": message}])


def _named_run(context: dict[str, Any]) -> UUID | None:
    text = context.get("runId")
    if text is None:
        return None
    try:
        return UUID(text if isinstance(text, str) else "")
    except ValueError:
        raise refused("context.runId", "is not the id of a run") from None


def _check_context(work: JobType, context: dict[str, Any]) -> None:
    size = len(msgspec.json.encode(context))
    if size > CONTEXT_MAX_BYTES:
        raise refused("context", f"has {size} bytes as JSON, at most {CONTEXT_MAX_BYTES} are taken")
    hours = context.get("periodHours", 1)
    whole = isinstance(hours, int) and not isinstance(hours, bool)
    if work is JobType.GITHUB_ANALYSIS and not (whole and 1 <= hours <= PERIOD_MAX_HOURS):
        raise refused("context.periodHours", f"must be a whole number from 1 to {PERIOD_MAX_HOURS}")
