"""One step of a run: what its agent is told, the call of its model, and all that came of it in one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import structlog

from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.infra.tracing import NO_SPAN, Span
from gateway.jobs.engine import Engine
from gateway.llm.model import (
    ModelAnswer,
    ModelBusy,
    ModelError,
    ModelRequest,
    Models,
    Spent,
    spent_when_cancelled,
)
from gateway.problem import Problem
from gateway.realtime.words import PARTIAL_MAX, Words
from gateway.services.orchestration.agents import Agent, Agents
from gateway.services.orchestration.budgets import MICROS_PER_CENT, Budgets
from gateway.services.orchestration.context import RECENT_SUGGESTIONS, Material, digest, messages_of
from gateway.services.orchestration.github import Analyses, GitHub, GitHubBusy, GitHubError
from gateway.services.orchestration.outcomes import Outcomes, Recorded
from gateway.services.orchestration.plan import Step, StepKind, StepStatus
from gateway.services.orchestration.projects import Project, Projects
from gateway.services.orchestration.runs import Run, RunStore, StepEnd
from gateway.services.orchestration.step_trace import note_end, step_span
from gateway.services.orchestration.telling import RunTeller

log = structlog.get_logger(__name__)

PERIOD_HOURS: Final = 24
_GITHUB: Final = "github"  # the tool that lets an agent read the analysis
_LEDGER_RETRY_S: Final = 0.25
_SCHEMA_NAME: Final = "agent_answer"

T = TypeVar("T")


class Busy(msgspec.Struct, frozen=True):
    """The step is to be tried again in ``after_s``; nothing failed."""

    reason: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """A step that is to be done. ``fence`` proves whose attempt it is; ``ends``: on the monotonic clock, when there is
    no time left for it; ``span``: its part of the trace."""

    run: Run
    step: Step
    fence: int
    ends: float
    tell: RunTeller
    span: Span = NO_SPAN

    @property
    def left_s(self) -> float:
        return max(1.0, self.ends - time.monotonic())


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded. ``agent`` and ``output``: whose answer it is, and which."""

    end: StepEnd
    spent: Spent = Spent()
    agent: Agent | None = None
    output: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a step's material comes from."""

    projects: Projects
    agents: Agents
    analyses: Analyses
    github: GitHub
    budgets: Budgets


class Stepper:
    def __init__(self, store: RunStore, engine: Engine, models: Models, outcomes: Outcomes, sources: Sources) -> None:
        self._store = store
        self._engine = engine
        self._models = models
        self._outcomes = outcomes
        self._from = sources

    async def do(self, work: Work) -> Busy | None:
        """Do the step and record how it ended. Raises what asyncpg raises as long as nothing was paid."""
        with step_span(work.run.id, work.step) as traced:
            return await self._do(replace(work, span=traced))

    async def _do(self, work: Work) -> Busy | None:
        project = await self._from.projects.get(work.run.project_id)
        if project is None:
            await self._refuse(work, "not_found", "its project is gone")
            return None
        if project.archived_at is not None:
            await self._refuse(work, "archived", f"the project {project.name!r} was archived meanwhile")
            return None
        if (reason := await self._spent_out(work.run)) is not None:
            await self._refuse(work, "budget", reason)
            return None
        if work.step.kind is StepKind.ANALYSIS:
            return await self._analyse(work, project)
        agent = await self._from.agents.get(work.step.agent_slug or "")
        if agent is None:
            await self._refuse(work, "unknown_agent", f"there is no agent {work.step.agent_slug!r} any more")
            return None
        return await self._ask(work, project, agent)

    async def _ask(self, work: Work, project: Project, agent: Agent) -> Busy | None:
        messages = messages_of(agent.prompt, await self._material(work.run, project, agent))
        if not await self._begin(work, agent.model, digest(messages, agent.output_schema)):
            return None
        request = ModelRequest(
            model=agent.model,
            messages=messages,
            deadline_s=min(agent.timeout_s, work.left_s),
            purpose=agent.slug,
            schema=agent.output_schema,
            schema_name=_SCHEMA_NAME,
            max_output_tokens=agent.max_output_tokens,
            budgeted=work.run.budget_micros is not None or project.monthly_budget_micros is not None,
        )
        words = Words(partial(work.tell.tokens, work.step.id))
        try:
            answer = await self._answer(request, words)
        except asyncio.CancelledError as cancelled:
            end = StepEnd(status=StepStatus.WAITING, partial=words.text or None, error="cut before it had ended")
            await _in_any_case(self._record(work, Ended(end=end, spent=spent_when_cancelled(cancelled))))
            raise
        except ModelBusy as busy:
            await self._keep(work, Ended(end=_waiting(busy.kind, str(busy)), spent=busy.spent))
            return Busy(str(busy), busy.after_s)
        except ModelError as error:
            await self._keep(work, Ended(end=_failed(error.kind, str(error), error.partial), spent=error.spent))
            return None
        await self._keep(work, _answered(answer, agent))
        return None

    async def _answer(self, request: ModelRequest, words: Words) -> ModelAnswer:
        try:
            return await self._models.complete(request, words)
        finally:
            words.flush()

    async def _analyse(self, work: Work, project: Project) -> Busy | None:
        if project.repository is None:
            await self._refuse(work, "no_repository", f"the project {project.name!r} names no repository")
            return None
        if not await self._begin(work):
            return None
        hours = work.run.context.get("periodHours", PERIOD_HOURS)
        try:
            analysis = await self._from.github.analyse(project.repository, hours, deadline_s=work.left_s)
        except GitHubBusy as busy:
            await self._keep(work, Ended(end=_waiting(busy.kind, str(busy))))
            return Busy(str(busy), busy.after_s)
        except GitHubError as error:
            await self._keep(work, Ended(end=_failed(error.kind, str(error))))
            return None
        if not work.run.dry_run:
            await self._from.analyses.store.keep(project.id, analysis, work.run.id)
        end = StepEnd(status=StepStatus.COMPLETED, output=msgspec.to_builtins(analysis, str_keys=True))
        await self._keep(work, Ended(end=end))
        return None

    async def _material(self, run: Run, project: Project, agent: Agent) -> Material:
        return Material(
            project=project.name,
            repository=project.repository,
            facts=project.facts,
            analysis=await self._analysis(project) if _GITHUB in agent.tools else None,
            suggestions=await self._store.recent_suggestions(project.id, RECENT_SUGGESTIONS),
            request=run.context,
            dry_run=run.dry_run,
            moment=run.created_at,
        )

    async def _analysis(self, project: Project) -> list[str] | None:
        """An agent works without it when GitHub gives none: it is told so."""
        if project.repository is None:
            return None
        try:
            shown = await self._from.analyses.current(project.id, project.repository, PERIOD_HOURS)
        except Problem as problem:
            return [f"There is no analysis of the repository: {problem.message}"]
        return [*shown.analysis.summary, *([shown.note] if shown.note else [])]

    async def _spent_out(self, run: Run) -> str | None:
        """Why the run may spend no more; None: it may."""
        if run.budget_micros is not None:
            now = await self._store.get(run.id)
            if now is not None and now.cost_micros >= run.budget_micros:
                return f"the run's own budget of {run.budget_micros / MICROS_PER_CENT:g} cents is used up"
        try:
            await self._from.budgets.check(run.project_id)
        except Problem as problem:
            return problem.message
        return None

    async def _begin(self, work: Work, model: str | None = None, prompt_sha256: str | None = None) -> bool:
        begun = await self._store.begin(work.step.id, work.fence, model, prompt_sha256)
        if begun:
            work.tell.step(work.step, StepStatus.RUNNING)
        return begun

    async def _refuse(self, work: Work, kind: str, reason: str) -> None:
        """The step fails without anybody having been asked."""
        if await self._begin(work):
            await self._keep(work, Ended(end=_failed(kind, reason)))

    async def _keep(self, work: Work, ended: Ended) -> None:
        """Record, then tell."""
        note_end(work.span, ended.end, ended.spent)
        recorded = await _in_any_case(self._record(work, ended))
        if recorded is None:
            return
        work.tell.step(work.step, ended.end.status)
        for action_id, status in recorded.actions:
            work.tell.approval(action_id, status)

    async def _record(self, work: Work, ended: Ended) -> Recorded | None:
        """Also when the ledger is away for a while: what was paid must not be paid again. None: another attempt has the
        step, and nothing but the cost was kept."""
        while True:
            try:
                return await self._record_now(work, ended)
            except LEDGER_ERRORS as error:
                if not is_unavailable(error):
                    raise
                log.warning("step_waits_for_ledger", run=str(work.run.id), step=str(work.step.id), error=str(error))
                await asyncio.sleep(_LEDGER_RETRY_S)

    async def _record_now(self, work: Work, ended: Ended) -> Recorded | None:
        recorded: Recorded | None = None
        async with self._store.pool.acquire() as connection, connection.transaction():
            if await self._store.end(connection, work.step, work.fence, ended.end, ended.spent):
                recorded = Recorded()
                if ended.agent is not None and ended.output is not None:
                    recorded = await self._outcomes.record(
                        connection, work.run, work.step.id, ended.agent, ended.output
                    )
        if recorded is not None and recorded.act_jobs:
            await self._engine.offer(recorded.act_jobs)
        return recorded


def _answered(answer: ModelAnswer, agent: Agent) -> Ended:
    facts: dict[str, Any] = {"provider": answer.provider, "demo": answer.demo}
    if answer.refusal is not None:
        end = StepEnd(status=StepStatus.REFUSED, refusal=answer.refusal, error_kind="refusal", **facts)
        return Ended(end=end, spent=answer.spent)
    output = answer.parsed or {}
    end = StepEnd(status=StepStatus.COMPLETED, output=output, **facts)
    return Ended(end=end, spent=answer.spent, agent=agent, output=output)


def _failed(kind: str, reason: str, partial: str = "") -> StepEnd:
    return StepEnd(status=StepStatus.FAILED, error=reason, error_kind=kind, partial=partial[:PARTIAL_MAX] or None)


def _waiting(kind: str, reason: str) -> StepEnd:
    return StepEnd(status=StepStatus.WAITING, error=reason, error_kind=kind)


async def _in_any_case(recording: Awaitable[T]) -> T:
    """Also when the attempt is cut meanwhile: a stop may end the work, not the record of what was paid."""
    task = asyncio.ensure_future(recording)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
