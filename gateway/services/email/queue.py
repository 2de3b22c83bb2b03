"""The queue of e-mails (document 003): its numbers, and the service that puts existing mails into it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import structlog

from gateway.infra.uuid7 import uuid7
from gateway.jobs.engine import Engine
from gateway.jobs.errors import JobNotFound, WrongState
from gateway.jobs.job import OPEN, PRIORITY_MAX, Inserted, JobRecord, JobState, NewJob
from gateway.jobs.policy import QueuePolicy, RateLimit, Retention, rate_or_none
from gateway.services.email.schemas import EmailJobData, SendTimes
from gateway.services.email.store import Held, MailStore
from gateway.settings import Settings

log = structlog.get_logger(__name__)

EMAIL_QUEUE = "email-queue"
SEND_TASK = "email.send"
RECONCILE_S = 60.0
_RECONCILE_BATCH = 500
LOW_PRIORITY = 1  # document 003: low is 1, high is 10


def email_policy(settings: Settings) -> QueuePolicy:
    """E1 to E5: 5 at once in each replica, 10 a second over all, 3 attempts after 60 and 120 s, kept 24 h and 7 d."""
    return QueuePolicy(
        name=EMAIL_QUEUE,
        concurrency=settings.email_queue_concurrency,
        rate=RateLimit(settings.email_rate_max, settings.email_rate_duration_ms),
        attempts=settings.email_attempts,
        backoff_ms=settings.email_backoff_ms,
        timeout_s=settings.email_timeout_ms / 1000,
        retention=Retention(
            completed_s=settings.completed_retention_s,
            completed_count=settings.completed_retention_count,
            failed_s=settings.failed_retention_s,
        ),
        max_waiting=settings.email_queue_max_waiting,
        group_concurrency=settings.email_group_concurrency or None,
        group_rate=rate_or_none(settings.email_group_rate_max, settings.email_group_rate_duration_ms),
    )


def send_job(
    job_id: UUID, data: EmailJobData, times: SendTimes, tags: Sequence[dict[str, str]], group: str | None
) -> NewJob:
    """The job of a mail. It carries ids and the mail's tags: what the mail says stays in its row."""
    return NewJob(
        id=job_id,
        queue=EMAIL_QUEUE,
        task=SEND_TASK,
        args=msgspec.to_builtins(data),
        priority=data.priority,
        run_at=times.scheduled_at,
        expires_at=times.expires_at,
        tags=job_tags(tags),
        group=group,
    )


def job_tags(tags: Sequence[dict[str, str]]) -> tuple[str, ...]:
    """A mail's tags as its job has them: ``name:value``, or the name alone when there is no value."""
    return tuple(dict.fromkeys(f"{tag['name']}:{tag['value']}" if tag["value"] else tag["name"] for tag in tags))


class QueueStats(msgspec.Struct, frozen=True):
    """Jobs by state; ``total`` is the sum of the others (document 003)."""

    waiting: int
    active: int
    completed: int
    failed: int
    delayed: int
    total: int


class FailedJob(msgspec.Struct, frozen=True, rename="camel"):
    """As document 003 lists it. ``timestamp``: when the job was created, in milliseconds since 1970."""

    id: UUID
    data: dict[str, Any]
    failed_reason: str
    attempts_made: int
    timestamp: int


class MailNotFound(LookupError):
    """No mail row has this id."""


class EmailQueueService:
    """Puts mails that exist as rows into the queue, and says how the queue stands.

    A mail has at most one open job: adding it again answers with that one, unchanged. A mail whose job has ended gets a
    new job, and its refused recipients another try; who accepted it once is not sent to again.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], engine: Engine) -> None:
        self._pool = pool
        self._engine = engine
        self._store = MailStore(pool)

    async def add(self, data: EmailJobData, run_at: datetime | None = None) -> Inserted:
        """Raises ``MailNotFound``, also when ``queue_id`` is no id."""
        mail_id = _mail_id(data.queue_id)
        async with self._pool.acquire() as connection, connection.transaction():
            held = await self._store.lock(connection, mail_id)
            if held is None:
                raise MailNotFound(f"no mail {data.queue_id}")
            if held.job_state in OPEN:
                return _open_job(held)
            job = send_job(uuid7(), data, SendTimes(run_at, held.expires_at), held.tags, held.group_key)
            await self._store.set_job(connection, mail_id, job)
            added = await self._engine.insert(connection, [job])
        await self._engine.offer(added)
        return added[0]

    async def add_high_priority(self, queue_id: str, user_id: str | None = None) -> Inserted:
        return await self.add(EmailJobData(queue_id=queue_id, priority=PRIORITY_MAX, user_id=user_id))

    async def add_low_priority(self, queue_id: str, user_id: str | None = None) -> Inserted:
        return await self.add(EmailJobData(queue_id=queue_id, priority=LOW_PRIORITY, user_id=user_id))

    async def schedule_email(self, data: EmailJobData, moment: datetime) -> Inserted:
        """Send not before ``moment``; a past one means now."""
        return await self.add(data, moment)

    async def reconcile(self) -> None:
        """A chore: see ``restore``."""
        await self.restore(_RECONCILE_BATCH)

    async def restore(self, limit: int) -> int:
        """Give up to ``limit`` mails that lost their job a new one (N6); answers how many. They are found by their
        rows, so nothing accepted is forgotten."""
        orphans = await self._store.orphans(limit)
        for data, moment in orphans:
            added = await self.add(data, moment)
            log.warning("email_job_restored", queueId=data.queue_id, jobId=str(added.id))
        return len(orphans)

    async def get_stats(self) -> QueueStats:
        counts = await self._engine.counts(EMAIL_QUEUE)
        total = counts.waiting + counts.active + counts.completed + counts.failed + counts.delayed
        return QueueStats(counts.waiting, counts.active, counts.completed, counts.failed, counts.delayed, total)

    async def get_failed_jobs(self, limit: int = 50) -> list[FailedJob]:
        """The newest failures first."""
        return [_failed(job) for job in await self._engine.failed(EMAIL_QUEUE, limit)] if limit else []

    async def retry_job(self, job_id: UUID) -> JobRecord:
        """Only a failed e-mail job. Raises ``JobNotFound`` and ``WrongState``."""
        job = await self._engine.get(job_id)
        if job.queue != EMAIL_QUEUE:
            raise JobNotFound(job_id)
        if job.state != "failed":
            raise WrongState(job_id, job.state, "only a failed job can be retried")
        return await self._engine.retry(job_id)

    async def retry_all_failed(self) -> int:
        return await self._engine.retry_all_failed(EMAIL_QUEUE)


def _mail_id(queue_id: str) -> UUID:
    try:
        return UUID(queue_id)
    except ValueError:
        raise MailNotFound(f"{queue_id!r} is not the id of a mail") from None


def _open_job(held: Held) -> Inserted:
    return Inserted(
        id=held.job_id,
        queue=EMAIL_QUEUE,
        state=JobState(held.job_state or JobState.WAITING),
        priority=held.priority or 0,
        seq=held.seq or 0,
        duplicate=True,
    )


def _failed(job: JobRecord) -> FailedJob:
    return FailedJob(
        id=job.id,
        data=job.args,
        failed_reason=job.error or "",
        attempts_made=job.attempts,
        timestamp=int(job.created_at.timestamp() * 1000),
    )
