"""One attempt, as a straight pipeline: perform, settle, publish. Both brokers and every task go through it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import structlog

from gateway.infra.postgres import LEDGER_ERRORS
from gateway.jobs import outcomes
from gateway.jobs.attempt import Attempt, Ignored, log_fields
from gateway.jobs.batcher import NEVER
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.errors import Cancel, Fail, Snooze, TaskSignal, UnknownTask
from gateway.jobs.events import Events, JobSettled
from gateway.jobs.job import ClaimedJob, Inserted, JobState
from gateway.jobs.outcomes import Cause, Ended, Moment
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.registry import Registry
from gateway.jobs.reporter import Reporter
from gateway.jobs.settler import Settler
from gateway.jobs.store import Store

log = structlog.get_logger(__name__)

_UNKNOWN_TASK_REST_S = 30.0  # another replica, newer than this one, may know the task


class Executor:
    def __init__(
        self, registry: Registry, store: Store, dispatcher: Dispatcher, events: Events, reporter: Reporter
    ) -> None:
        self.running: dict[tuple[UUID, int], Attempt] = {}  # until they are settled: their leases are renewed
        self._performing: Counter[str] = Counter()  # by queue
        self._settling: defaultdict[str, set[asyncio.Future[Any]]] = defaultdict(set)  # by queue: their last steps
        self._registry = registry
        self._store = store
        self._dispatcher = dispatcher
        self._events = events
        self._reporter = reporter
        self._settler = Settler(store)
        self._random = random.Random()  # noqa: S311  spreads retries, protects nothing

    async def run(self, job: ClaimedJob, asked: float) -> None:
        """Run one claimed attempt until its task ended. What came of it is settled behind this call, so that a slot's
        next job does not wait for a commit; ``settled`` waits for that.

        ``asked``: when the claim was asked for, on the monotonic clock. The lease counts from then, so that a process
        that froze between claim and start knows that it may be too late.
        """
        policy = self._registry.queue(job.queue)
        attempt = Attempt(
            job=job,
            worker=self._store.worker,
            timeout_s=policy.timeout_s,
            lease_ends=asked + self._store.lease_ms / 1000,
            reporter=self._reporter,
        )
        self.running[job.id, job.fence] = attempt
        self._performing[job.queue] += 1
        try:
            ended = await self._perform(attempt, policy)
        except BaseException:
            self._performing[job.queue] -= 1
            self._forget(attempt)
            raise
        try:
            if ended.pause_s is not None:  # first, or another slot would take the job in between
                await self._pause(job.queue, ended.pause_s, ended.error or "asked to rest")
        finally:  # it has ended, also when its slot is being stopped
            self._performing[job.queue] -= 1
            attempt.ended = time.monotonic()
            self._settle(attempt, policy, ended)

    def performing(self, queue: str) -> int:
        """How many attempts run."""
        return self._performing[queue]

    def unsettled(self, queue: str) -> int:
        """How many attempts have ended and are not settled yet."""
        return len(self._settling[queue])

    async def settled(self, queue: str) -> None:
        """Returns once one of the queue's endings has been settled, or at once when none is left."""
        if settling := self._settling[queue]:
            await asyncio.wait(settling, return_when=asyncio.FIRST_COMPLETED)

    async def hand_back(self, jobs: list[ClaimedJob]) -> None:
        """Give back claims that were never started (the slots closed meanwhile)."""
        moment = self._moment()
        ended = [outcomes.interrupted(job, moment, "the replica stopped before it began") for job in jobs]
        settled = await self._settler.settle_all([outcomes.not_begun(each).settlement for each in ended])
        await self._dispatcher.offer([job for job in settled if job is not None])

    async def _perform(self, attempt: Attempt, policy: QueuePolicy) -> Ended:
        job = attempt.job
        if not attempt.still_held():
            return outcomes.not_begun(outcomes.interrupted(job, self._moment(), "the process froze before it began"))
        try:
            task = self._registry.task(job.task)
            args = msgspec.convert(job.args, task.args)
        except UnknownTask as error:
            rest = Snooze(f"{error} in this version", after_s=_UNKNOWN_TASK_REST_S)
            return outcomes.not_begun(outcomes.signalled(job, policy, self._moment(), rest))
        except msgspec.ValidationError as error:
            return outcomes.signalled(job, policy, self._moment(), Fail(f"its arguments do not fit: {error}"))
        attempt.report_after_s = task.report_after_s
        return await self._call(attempt, policy, task.perform(args, attempt))

    async def _call(self, attempt: Attempt, policy: QueuePolicy, performing: Coroutine[Any, Any, object]) -> Ended:
        job = attempt.job
        try:
            return outcomes.completed(job, _json(await attempt.perform(performing)))
        except asyncio.CancelledError:
            return self._cancelled(attempt, policy)
        except Ignored:
            log.error(
                "task_ignores_cancellation",
                **log_fields(attempt.job),
                task=job.task,
                cause=attempt.cause,
                attempt=job.attempt,
            )
            return self._cancelled(attempt, policy)
        except TaskSignal as signal:
            return outcomes.signalled(job, policy, self._moment(), signal)
        except Exception as error:  # whatever a task raises is its failure, never the worker's
            log.warning("task_raised", **log_fields(attempt.job), task=job.task, attempt=job.attempt, exc_info=error)
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

    def _settle(self, attempt: Attempt, policy: QueuePolicy, ended: Ended) -> None:
        if attempt.cause == "lost":
            self._forget(attempt)
            self._publish(attempt, ended, None)
            return
        attempt.irrevocable()  # it has ended: nothing is left to cancel, only to settle
        settling = self._settler.put(ended.settlement)
        settling.add_done_callback(partial(self._settled_as, attempt, policy, ended))
        self._until_settled(attempt, settling)

    def _until_settled(self, attempt: Attempt, last_step: asyncio.Future[Any]) -> None:
        steps = self._settling[attempt.job.queue]
        steps.add(last_step)
        last_step.add_done_callback(steps.discard)

    def _settled_as(
        self, attempt: Attempt, policy: QueuePolicy, ended: Ended, settling: asyncio.Future[Inserted | None]
    ) -> None:
        error = settling.exception()
        if isinstance(error, NEVER) and ended.settlement.result is not None:
            log.error("settlement_refused", **log_fields(attempt.job), outcome=ended.kind, exc_info=error)
            reason = f"its result could not be stored: {error}"
            self._settle(attempt, policy, outcomes.signalled(attempt.job, policy, self._moment(), Fail(reason)))
            return
        self._forget(attempt)
        if error is not None:  # nobody holds it now: its lease runs out, and it is rescued
            log.error("settlement_failed", **log_fields(attempt.job), outcome=ended.kind, exc_info=error)
            return
        settled = settling.result()
        self._publish(attempt, ended, settled)
        if settled is not None and settled.group is not None:
            self._dispatcher.moved([settled])
        if settled is not None and settled.state is JobState.WAITING:
            self._until_settled(attempt, asyncio.ensure_future(self._dispatcher.offer([settled])))

    def _forget(self, attempt: Attempt) -> None:
        del self.running[attempt.job.id, attempt.job.fence]

    def _publish(self, attempt: Attempt, ended: Ended, settled: Inserted | None) -> None:
        job = attempt.job
        attempt.close_report(held=settled is not None, completed=ended.kind == "completed")
        if settled is None:
            log.warning("lease_lost", **log_fields(attempt.job), attempt=job.attempt, outcome=ended.kind)
        self._events.publish(
            JobSettled(
                job=job,
                kind=ended.kind if settled else "lost",
                state=settled.state if settled else None,
                wait_s=max(0.0, (job.claimed_at - job.ready_at).total_seconds()),
                run_s=attempt.ended - attempt.started,
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
