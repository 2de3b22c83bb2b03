"""The queue of agent jobs (document 003): its numbers, and the service that fills it."""

from __future__ import annotations

import msgspec

from gateway.infra.uuid7 import uuid7
from gateway.jobs.engine import Engine
from gateway.jobs.job import PRIORITY_MAX, Inserted, NewJob, QueueCounts
from gateway.jobs.policy import QueuePolicy, RateLimit, Retention, rate_or_none
from gateway.services.orchestration.schemas import OrchestrationJobData
from gateway.settings import Settings

ORCHESTRATION_QUEUE = "orchestration-queue"
RUN_TASK = "orchestration.run"
DEFAULT_PRIORITY = 5  # document 003, addJob


def orchestration_policy(settings: Settings) -> QueuePolicy:
    """O1 to O6: 3 at once in each replica, 5 a minute over all, 3 attempts after 30 and 60 s, 10 minutes each, the last
    500 completed kept 24 h and failed ones 7 d."""
    return QueuePolicy(
        name=ORCHESTRATION_QUEUE,
        concurrency=settings.orchestration_queue_concurrency,
        rate=RateLimit(settings.orchestration_rate_max, settings.orchestration_rate_duration_ms),
        attempts=settings.orchestration_attempts,
        backoff_ms=settings.orchestration_backoff_ms,
        timeout_s=settings.orchestration_timeout_ms / 1000,
        retention=Retention(
            completed_s=settings.completed_retention_s,
            completed_count=settings.orchestration_completed_retention_count,
            failed_s=settings.failed_retention_s,
        ),
        max_waiting=settings.orchestration_queue_max_waiting,
        group_concurrency=settings.orchestration_group_concurrency or None,
        group_rate=rate_or_none(settings.orchestration_group_rate_max, settings.orchestration_group_rate_duration_ms),
        default_priority=DEFAULT_PRIORITY,
    )


class OrchestrationQueueService:
    """Puts agent runs into the queue, and says how it stands."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add_job(self, data: OrchestrationJobData) -> Inserted:
        """Accept a run with its own priority, else 5. When this returns it is a committed row."""
        priority = DEFAULT_PRIORITY if data.priority is None else data.priority
        with_priority = msgspec.structs.replace(data, priority=priority)
        return await self._engine.submit(
            NewJob(
                id=uuid7(),
                queue=ORCHESTRATION_QUEUE,
                task=RUN_TASK,
                args=msgspec.to_builtins(with_priority),
                priority=priority,
            )
        )

    async def add_high_priority_job(self, data: OrchestrationJobData) -> Inserted:
        """Before everything else that waits: priority 10, whatever ``data`` says."""
        return await self.add_job(msgspec.structs.replace(data, priority=PRIORITY_MAX))

    async def get_stats(self) -> QueueCounts:
        return await self._engine.counts(ORCHESTRATION_QUEUE)

    async def retry_all_failed(self) -> int:
        """How many failed jobs wait again now."""
        return await self._engine.retry_all_failed(ORCHESTRATION_QUEUE)
