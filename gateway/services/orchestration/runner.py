"""One attempt at a run: its steps that are left, one after the other, each recorded before the next (O30)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from gateway.jobs.engine import Engine
from gateway.jobs.errors import Fail, Retry, Snooze
from gateway.jobs.job import PRIORITY_MAX
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.registry import TaskContext
from gateway.services.orchestration.agents import Agents
from gateway.services.orchestration.plan import (
    Step,
    StepStatus,
    failure_of,
    left_to_do,
    percent,
    planned,
    result_of,
)
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE
from gateway.services.orchestration.runs import Run, RunStore
from gateway.services.orchestration.schemas import JobType
from gateway.services.orchestration.stepping import Busy, Stepper, Work
from gateway.services.orchestration.telling import RunTeller

log = structlog.get_logger(__name__)

INTERACTIVE: Final = PRIORITY_MAX  # somebody waits in person
MARGIN_S: Final = 5.0  # of an attempt's time, for what comes after the last answer
_MADE_WAY_S: Final = 1.0
_WAY_S: Final = 5.0  # then another batch makes way too: the slot has gone to somebody else
_KEY_TAKEN_S: Final = 30.0


class Ways:
    """Who was made way for in this replica: one batch does it, not all of them at once."""

    def __init__(self) -> None:
        self._made: dict[UUID, float] = {}

    def make_for(self, waiting: Sequence[UUID]) -> UUID | None:
        """The first for whom nobody has lately."""
        now = time.monotonic()
        self._made = {job: at for job, at in self._made.items() if now - at < _WAY_S}
        found = next((job for job in waiting if job not in self._made), None)
        if found is not None:
            self._made[found] = now
        return found


@dataclass(frozen=True, slots=True)
class Parts:
    """What an attempt works with."""

    store: RunStore
    agents: Agents
    stepper: Stepper
    engine: Engine
    ways: Ways


class RunAttempt:
    """Made for one attempt. ``perform`` answers O8, or raises ``Retry``, ``Fail`` or ``Snooze``."""

    def __init__(self, parts: Parts, run: Run, context: TaskContext, teller: RunTeller) -> None:
        self._parts = parts
        self._run = run
        self._context = context
        self._tell = teller
        self._began = time.monotonic()
        self._most = context.job.max_attempts

    async def perform(self) -> dict[str, Any]:
        store, run = self._parts.store, self._run
        if not await store.take_key(run):
            raise Snooze("another run of this kind is at work in the project", after_s=_KEY_TAKEN_S)
        steps = await self._steps()
        self._tell.started()
        busy: list[Busy] = []
        for number, step in enumerate(left_to_do(steps, self._most)):
            if number:
                await self._make_way()
            await self._progress(step, steps)
            if (waits := await self._parts.stepper.do(self._work(step))) is not None:
                busy.append(waits)
            steps = await store.steps(run.id)
        return await self._end(steps, busy)

    async def _steps(self) -> list[Step]:
        """Those that it has, or, at the first attempt, those that are to be done. Another run of the same work may have
        done some of them meanwhile: no step is paid twice."""
        store, run = self._parts.store, self._run
        steps = await store.steps(run.id)
        if not steps and run.retry_of is not None and (earlier := await store.steps(run.retry_of)):
            steps = await store.take_over(run.id, earlier)
        if steps:
            return await store.take_done(run.id) if left_to_do(steps, self._most) else steps
        enabled = [agent.slug for agent in await self._parts.agents.enabled_for(run.project_id)]
        plan = planned(run.work, run.agent_slug, enabled)
        if not plan:
            raise Fail("no agent is enabled in the project")
        return await store.plan(run.id, plan)

    async def _progress(self, step: Step, steps: list[Step]) -> None:
        number = 1 + [each.id for each in steps].index(step.id)
        self._context.log(f"step {number} of {len(steps)}: {step.name}")
        await self._reach(step.name, percent(steps, self._most))

    async def _reach(self, stage: str, done: int) -> None:
        """On the job and on the channels."""
        await self._context.progress(done, stage)
        self._tell.progress(stage, done)

    def _work(self, step: Step) -> Work:
        """Raises ``Fail`` or ``Retry`` when there is no time left for it."""
        run, left_s = self._run, self._context.deadline_s - min(MARGIN_S, self._policy.timeout_s / 10)
        if run.timeout_ms is not None:
            of_run_s = run.timeout_ms / 1000 - self._age_s
            if of_run_s <= 0:
                raise Fail(f"timeout: not done in {run.timeout_ms} ms, the run's own time limit")
            left_s = min(left_s, of_run_s)
        if left_s <= 0:
            raise Retry("timeout: the time of the attempt is used up; the next one goes on here", after_s=0)
        return Work(run, step, self._context.job.fence, time.monotonic() + left_s, self._tell)

    @property
    def _policy(self) -> QueuePolicy:
        """As it holds now."""
        return self._parts.engine.registry.queue(ORCHESTRATION_QUEUE)

    @property
    def _age_s(self) -> float:
        return (self._run.age_s or 0.0) + time.monotonic() - self._began

    async def _make_way(self) -> None:
        """Between two steps a batch gives its slot to somebody who waits in person (T61). It goes on right after."""
        if self._run.work is not JobType.BATCH:
            return
        waiting = await self._parts.store.who_waits(self._run.id, self._policy, INTERACTIVE)
        if (other := self._parts.ways.make_for(waiting)) is not None:
            log.info("run_made_way", run=str(self._run.id), other=str(other))
            raise Snooze(f"made way for {other}, for which somebody waits", after_s=_MADE_WAY_S)

    async def _end(self, steps: list[Step], busy: list[Busy]) -> dict[str, Any]:
        if busy:
            first = min(busy, key=lambda each: each.after_s)
            raise Snooze(first.reason, after_s=first.after_s)
        if left_to_do(steps, self._most) and self._context.job.attempt < self._most:
            raise Retry(failure_of(steps) or "steps are left")
        brought = await self._parts.store.brought(self._run.id)
        result = result_of(self._run.id, steps, brought, round(1000 * self._age_s))
        await self._reach("awaiting_approval" if brought.pending_actions else "done", 100)
        if not any(step.status is StepStatus.COMPLETED for step in steps):
            raise Fail(result.error or "no step was completed")
        return {"success": result.success, **msgspec.to_builtins(result)}
