"""The task ``orchestration.run``: one attempt at a run, in the worker."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.jobs.errors import Fail, Snooze
from gateway.jobs.registry import Task, TaskContext
from gateway.realtime.channel import Publisher
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE, RUN_TASK
from gateway.services.orchestration.runner import Parts, RunAttempt
from gateway.services.orchestration.schemas import RunJobData
from gateway.services.orchestration.telling import RunEnds, RunTeller

log = structlog.get_logger(__name__)

_AGAIN_S: Final = 1.0


class RunTask:
    """Performs ``orchestration.run``."""

    def __init__(self, parts: Parts, publisher: Publisher, ends: RunEnds) -> None:
        self._parts = parts
        self._publisher = publisher
        self._ends = ends

    def task(self) -> Task[RunJobData]:
        return Task(
            name=RUN_TASK,
            queue=ORCHESTRATION_QUEUE,
            args=RunJobData,
            perform=self.perform,
            no_replay="a run's job only names the run; repeat that: POST /api/v1/orchestration/jobs/{id}/retry",
        )

    async def perform(self, data: RunJobData, context: TaskContext) -> dict[str, Any]:
        """The result of document 003. Raises ``Retry``, ``Fail`` or ``Snooze``."""
        job = context.job
        facts = {"jobId": str(job.id), "projectId": data.project_id, "jobType": data.job_type}
        log.info("Processing orchestration job", **facts, attempt=job.attempt, priority=job.priority)
        try:
            result = await self._or_snooze(context)
        except Snooze as snooze:
            log.info("Orchestration job waits", **facts, reason=snooze.reason, after_s=snooze.after_s)
            raise
        except (Exception, asyncio.CancelledError) as error:
            reason = str(error) or "cut: time limit, cancelled, stop or lost lease"
            log.warning("Orchestration job failed", **facts, attempt=job.attempt, error=reason)
            raise
        finally:
            self._ends.expect()
        log.info("Orchestration job completed", **facts, durationMs=result.get("durationMs"))
        return result

    async def _or_snooze(self, context: TaskContext) -> dict[str, Any]:
        """The ledger's absence is not the run's failure: it costs no attempt (invariant F)."""
        try:
            run = await self._parts.store.get(context.job.id)
            if run is None:
                raise Fail("no run has this job's id: runs are started by POST /api/v1/orchestration/jobs")
            return await RunAttempt(
                self._parts, run, context, RunTeller(self._publisher, run.id, run.project_id)
            ).perform()
        except LEDGER_ERRORS as error:
            if not is_unavailable(error):
                raise
            raise Snooze(f"the ledger does not answer: {error}", after_s=_AGAIN_S) from error
