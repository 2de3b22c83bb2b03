"""The queue of agent jobs (document 003): its numbers."""

from __future__ import annotations

from gateway.jobs.policy import QueuePolicy, RateLimit, Retention, rate_or_none
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
