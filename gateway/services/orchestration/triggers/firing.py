"""The task ``orchestration.trigger``: judges a tick, and starts its run.

A replica reads the schedule, judges, and then counts the tick and starts the run in one transaction. The statement that
counts compares the revision that was read: of several replicas one has its way, the others judge again. What became of
a tick is kept by the job that judged it, so a job that runs twice starts one run.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from gateway.feature import Platform
from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.jobs.errors import QueueFull, Retry, Snooze
from gateway.jobs.job import Inserted
from gateway.jobs.registry import Task, TaskContext
from gateway.problem import Problem
from gateway.services.orchestration.projects import Projects
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE
from gateway.services.orchestration.schemas import TriggerSource
from gateway.services.orchestration.starting import Runs
from gateway.services.orchestration.triggers.rule import Skip, SkipCode, judge
from gateway.services.orchestration.triggers.schedules import TRIGGER_TASK, RunSchedule, RunSchedules, Tick
from gateway.services.orchestration.triggers.starting import run_of, skip_of

log = structlog.get_logger(__name__)

_TRIES: Final = 5
_AGAIN_S: Final = 1.0


class TriggerJobData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The job's argument. ``tick``: the moment that the schedule named."""

    trigger_id: str
    tick: datetime


class Fired(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The job's result: the run, or why there is none."""

    run_id: str | None = None
    skipped: str | None = None
    reason: str | None = None


class Firing:
    def __init__(self, platform: Platform, schedules: RunSchedules, runs: Runs, projects: Projects) -> None:
        self._pool = platform.pool
        self._engine = platform.engine
        self._schedules = schedules
        self._runs = runs
        self._projects = projects

    def task(self) -> Task[TriggerJobData]:
        return Task(
            name=TRIGGER_TASK,
            queue=ORCHESTRATION_QUEUE,
            args=TriggerJobData,
            perform=self.perform,
            no_replay="it belongs to its tick; start a run instead: POST /api/v1/orchestration/trigger",
        )

    async def perform(self, data: TriggerJobData, context: TaskContext) -> dict[str, Any]:
        job_id = context.job.id
        try:
            fired = await self._fire(UUID(data.trigger_id), Tick(data.tick, job_id))
        except LEDGER_ERRORS as error:  # its absence is not the tick's failure
            if not is_unavailable(error):
                raise
            raise Snooze(f"the ledger does not answer: {error}", after_s=_AGAIN_S) from error
        log.info(
            "tick_judged", job_id=str(job_id), trigger_id=data.trigger_id, run_id=fired.run_id, skipped=fired.skipped
        )
        result: dict[str, Any] = msgspec.to_builtins(fired)
        return result

    async def _fire(self, schedule_id: UUID, tick: Tick) -> Fired:
        for _ in range(_TRIES):
            made = await self._schedules.made_of(schedule_id, tick.job_id)
            if made is not None:
                return _fired(made["run_id"], made["skip_code"], made["skip_reason"])
            schedule = await self._schedules.find(schedule_id)
            if schedule is None:
                return Fired(skipped="deleted", reason="the schedule was deleted")
            skip = _stands_against(schedule, tick.at)
            if skip is None:
                begun = await self._start(schedule, tick)
                if begun is None:
                    continue
                if isinstance(begun, UUID):
                    return _fired(begun, None, None)
                skip = begun
            await self._schedules.skipped(schedule_id, tick, skip)
            return _fired(None, skip.code, skip.reason)
        raise Retry("the schedule was being changed by others, again and again")

    async def _start(self, schedule: RunSchedule, tick: Tick) -> UUID | Skip | None:
        """The run, or what stands against it. None: the schedule has moved on since it was read."""
        context = {"schedule": {"id": str(schedule.id), "tick": f"{tick.at:%Y-%m-%dT%H:%M:%SZ}"}}
        wanted = run_of(TriggerSource.CRON, schedule.project_id, schedule.agent_slug, context)
        inserted: list[Inserted] = []
        try:
            prepared = await self._runs.prepare(wanted, await self._projects.open(schedule.project_id))
            async with self._pool.acquire() as connection, connection.transaction():
                if not await self._schedules.claim(connection, schedule, tick.at):
                    return None
                started = await self._runs.insert(connection, prepared, inserted)
                await self._schedules.ran(connection, schedule.id, tick, started.run_id)
        except (Problem, QueueFull) as error:  # what was counted is taken back with the transaction
            return skip_of(error)
        await self._engine.offer(inserted)
        return started.run_id


def _stands_against(schedule: RunSchedule, tick: datetime) -> Skip | None:
    if not schedule.enabled:
        return Skip(SkipCode.DISABLED, "the schedule is switched off")
    if schedule.archived_at is not None:
        return Skip(SkipCode.ARCHIVED, "the project is archived")
    return judge(schedule.rule, schedule.past, tick, schedule.seen_at)


def _fired(run_id: UUID | None, code: str | None, reason: str | None) -> Fired:
    return Fired(run_id=str(run_id) if run_id else None, skipped=code, reason=reason)
