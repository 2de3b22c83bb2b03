"""One attempt, as a straight pipeline: perform, settle, publish. Both brokers and every task go through it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog

from gateway.infra.postgres import LEDGER_ERRORS
from gateway.jobs import outcomes
from gateway.jobs.attempt import Attempt, Ignored
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.errors import Cancel, Fail, Snooze, TaskSignal, UnknownTask
from gateway.jobs.events import Events, JobSettled
from gateway.jobs.job import ClaimedJob, Inserted, JobState
from gateway.jobs.outcomes import Cause, Ended, Moment
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.registry import Registry
from gateway.jobs.settler import Refused, Settler
from gateway.jobs.store import Store

log = structlog.get_logger(__name__)

_UNKNOWN_TASK_REST_S = 30.0  # another replica, newer than this one, may know the task


class Executor:
    def __init__(self, registry: Registry, store: Store, dispatcher: Dispatcher, events: Events) -> None:
        self.running: dict[tuple[UUID, int], Attempt] = {}
        self._registry = registry
        self._store = store
        self._dispatcher = dispatcher
        self._events = events
        self._settler = Settler(store)
        self._random = random.Random()  # noqa: S311  spreads retries, protects nothing

    async def run(self, job: ClaimedJob, asked: float) -> None:
        """Run one claimed attempt to its end: a settlement, or a lease that was lost.

        ``asked``: when the claim was asked for, on the monotonic clock. The lease counts from then, so that a process
        that froze between claim and start knows that it may be too late.
        """
        policy = self._registry.queue(job.queue)
        attempt = Attempt(
            job=job,
            worker=self._store.worker,
            timeout_s=policy.timeout_s,
            lease_ends=asked + self._store.lease_ms / 1000,
        )
        self.running[job.id, job.fence] = attempt
        try:
            with structlog.contextvars.bound_contextvars(job_id=str(job.id), queue=job.queue):
                ended = await self._perform(attempt, policy)
                if ended.pause_s is not None:  # first, or another slot would take the job in between
                    await self._pause(job.queue, ended.pause_s, ended.error or "asked to rest")
                settled = await self._settle(attempt, policy, ended)
                self._publish(attempt, ended, settled)
                if settled is not None and settled.state is JobState.WAITING:
                    await self._dispatcher.offer([settled])
        finally:
            del self.running[job.id, job.fence]

    def busy(self, queue: str) -> int:
        return sum(1 for attempt in self.running.values() if attempt.job.queue == queue)

    async def hand_back(self, jobs: list[ClaimedJob]) -> None:
        """Give back claims that were never started (the slots closed meanwhile)."""
        moment = self._moment()
        endings = [outcomes.interrupted(job, moment, "the replica stopped before it began") for job in jobs]
        settled = await self._settler.settle_all([ended.settlement for ended in endings])
        await self._dispatcher.offer([job for job in settled if job is not None])

    async def _perform(self, attempt: Attempt, policy: QueuePolicy) -> Ended:
        job = attempt.job
        if not attempt.still_held():
            return outcomes.interrupted(job, self._moment(), "the process froze before it began")
        try:
            task = self._registry.task(job.task)
            args = msgspec.convert(job.args, task.args)
        except UnknownTask as error:
            rest = Snooze(f"{error} in this version", after_s=_UNKNOWN_TASK_REST_S)
            return outcomes.signalled(job, policy, self._moment(), rest)
        except msgspec.ValidationError as error:
            return outcomes.signalled(job, policy, self._moment(), Fail(f"its arguments do not fit: {error}"))
        return await self._call(attempt, policy, task.perform(args, attempt))

    async def _call(self, attempt: Attempt, policy: QueuePolicy, performing: Coroutine[Any, Any, object]) -> Ended:
        job = attempt.job
        try:
            return outcomes.completed(job, _json(await attempt.perform(performing)))
        except asyncio.CancelledError:
            return self._cancelled(attempt, policy)
        except Ignored:
            log.error("task_ignores_cancellation", task=job.task, cause=attempt.cause, attempt=job.attempt)
            return self._cancelled(attempt, policy)
        except TaskSignal as signal:
            return outcomes.signalled(job, policy, self._moment(), signal)
        except Exception as error:  # whatever a task raises is its failure, never the worker's
            log.warning("task_raised", task=job.task, attempt=job.attempt, exc_info=error)
            return outcomes.signalled(job, policy, self._moment(), error)

    def _cancelled(self, attempt: Attempt, policy: QueuePolicy) -> Ended:
        job, moment = attempt.job, self._moment()
        match attempt.cause:
            case "timeout":
                reason = f"cut after {policy.timeout_s:g} s, the queue's time limit"
                return outcomes.failed(job, policy, moment, Cause("timeout", reason))
            case "cancelled":
                return outcomes.signalled(job, policy, moment, Cancel(attempt.reason))
            case None:  # a task that leaks its own sub-task's cancellation has failed
                reason = "CancelledError: the task was cancelled from inside"
                return outcomes.failed(job, policy, moment, Cause("error", reason))
            case cause:
                return outcomes.interrupted(job, moment, f"interrupted: {cause}")

    async def _settle(self, attempt: Attempt, policy: QueuePolicy, ended: Ended) -> Inserted | None:
        if attempt.cause == "lost":
            return None
        attempt.irrevocable()  # it has ended: nothing is left to cancel, only to settle
        try:
            return await self._settler.settle(ended.settlement)
        except Refused as error:
            log.error("settlement_refused", outcome=ended.kind, exc_info=error)
            reason = f"its result could not be stored: {error}"
            fallback = outcomes.signalled(attempt.job, policy, self._moment(), Fail(reason))
            return await self._settler.settle(fallback.settlement)

    def _publish(self, attempt: Attempt, ended: Ended, settled: Inserted | None) -> None:
        job = attempt.job
        if settled is None:
            log.warning("lease_lost", attempt=job.attempt, outcome=ended.kind)
        self._events.publish(
            JobSettled(
                job=job,
                kind=ended.kind if settled else "lost",
                state=settled.state if settled else None,
                wait_s=max(0.0, (job.claimed_at - job.ready_at).total_seconds()),
                run_s=time.monotonic() - attempt.started,
                error=ended.error,
            )
        )

    async def _pause(self, queue: str, rest_s: float, reason: str) -> None:
        try:
            if await self._store.pause_for(queue, rest_s, reason):
                log.warning("queue_paused", queue=queue, rest_s=rest_s, reason=reason)
        except LEDGER_ERRORS as error:  # the next job that is told to rest asks again
            log.warning("queue_not_paused", queue=queue, reason=reason, error=str(error))

    def _moment(self) -> Moment:
        return Moment(now=datetime.now(UTC), jitter=self._random.random(), worker=self._store.worker)


def _json(result: object) -> str:
    """The result as JSON that PostgreSQL can store. Raises ``TypeError`` for what cannot be written as JSON."""
    text = msgspec.json.encode(result).decode()
    return text.replace("\\u0000", "\\ufffd")
