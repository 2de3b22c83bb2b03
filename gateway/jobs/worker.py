"""SAQ inside our loop: ``saq.Worker`` runs the slots, our ``saq.Queue`` feeds them from the broker.

SAQ's slot asks ``dequeue`` for one job; a pump gathers the slots that ask at the same moment and fetches for all of
them at once. What SAQ would write about a job (started, finished, retried) is not written here: the executor settles in
the ledger, so SAQ's own bookkeeping hooks are empty (``saq_queue``). Only ``SIGNALS``, ``upkeep`` and ``_process`` of
its worker are replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import saq
import structlog

from gateway.infra.loops import Loop
from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.jobs.attempt import CANCEL_GRACE_S
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.events import Events, RateLimited
from gateway.jobs.executor import Executor
from gateway.jobs.job import ClaimedJob
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.saq_queue import SlotJob, SlotQueue

log = structlog.get_logger(__name__)

_IDLE_S = 5.0  # notifications are hints: without any, look this often
_LEDGER_RETRY_S = 0.5
_CLOSE_S = 5.0
_HAND_BACK_S = CANCEL_GRACE_S + 2.0  # until a stubborn task is given up, and its job settled


Slot = asyncio.Future[tuple[ClaimedJob, float] | None]
"""A slot's wish for a job; it gets one with the time at which it was asked for (monotonic)."""


class LedgerQueue(SlotQueue):
    """A ``saq.Queue`` that hands out claims. ``surplus``, set by the worker: how many slots are too many now."""

    def __init__(self, policy: QueuePolicy, dispatcher: Dispatcher, executor: Executor, events: Events) -> None:
        super().__init__(policy.name, dump=None, load=None)
        self._policy = policy
        self._error_event = f"{title(policy.name)} worker error"
        self._dispatcher = dispatcher
        self._executor = executor
        self._events = events
        self._slots: list[Slot] = []
        self.surplus: Callable[[], int] = lambda: 0
        self._asked = asyncio.Event()
        self._closed = False
        self._fetching = asyncio.Lock()
        self._down_since: float | None = None
        self._pump: Loop | None = None
        self._resting: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await super().connect()
        self._pump = Loop(f"pump {self.name}", self._feed, fault_event=self._error_event)
        await self._pump.start()

    async def close_intake(self) -> None:
        """Hand out nothing more; slots that wait get None. A fetch under way is waited for, its claims handed back."""
        self._closed = True
        if self._pump is not None:
            self._asked.set()
            if self._resting is not None:
                self._resting.cancel()
            # A fetch under way is waited for: what it claims is handed back. What a silent ledger claims for us after
            # that is released or rescued by others.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._fetching.acquire()
            await self._pump.stop()
            self._pump = None
        self._release(len(self._slots))

    async def disconnect(self) -> None:
        await self.close_intake()

    async def dequeue(self, timeout: float = 0.0, poll_interval: float = 0.0) -> saq.Job | None:
        if self._closed:
            return None
        slot: Slot = asyncio.get_running_loop().create_future()
        self._slots.append(slot)
        self._asked.set()
        try:
            claimed = await slot
        except asyncio.CancelledError:
            if slot in self._slots:
                self._slots.remove(slot)
            raise
        if claimed is None:
            return None
        job, asked = claimed
        kwargs = {"job": job, "asked": asked}
        return SlotJob(function=PERFORM, key=f"{job.id}/{job.fence}", kwargs=kwargs, queue=self, timeout=0)

    def adopt(self, policy: QueuePolicy) -> None:
        """Go by this policy from the next claim on, and make that one now."""
        self._policy = policy
        self._asked.set()
        if self._resting is not None:
            self._resting.cancel()

    async def _feed(self) -> float:
        """The pump: one fetch for all slots that wait."""
        # Here and not when the policy changes: a fetch under way has its slots counted.
        self._release(self.surplus())
        if not self._slots or self._closed:
            self._asked.clear()
            await self._asked.wait()
            return 0.0
        try:
            async with self._fetching:
                wait_s, limited = await self._fetch()
        except LEDGER_ERRORS as error:
            if not is_unavailable(error):
                raise
            if self._down_since is None:  # an outage is two lines
                self._down_since = time.monotonic()
                log.error(self._error_event, queue=self.name, error=str(error))
            return _LEDGER_RETRY_S
        if self._down_since is not None:
            log.info("worker_recovered", queue=self.name, down_s=round(time.monotonic() - self._down_since, 2))
            self._down_since = None
        if wait_s and not self._closed:
            # A wake-up would not change the limit: then it is slept through.
            await self._rest(asyncio.sleep(wait_s) if limited else self._dispatcher.wait(self.name, wait_s))
        return 0.0

    async def _fetch(self) -> tuple[float, bool]:
        """Feed the waiting slots once. Answers how many seconds to wait before the next time (0 when every slot got its
        job), and whether that is because of the rate limit."""
        want, asked = len(self._slots), time.monotonic()
        fetched = await self._dispatcher.fetch(self._policy, want)
        left = list(fetched.jobs)
        while left and self._slots and not self._closed:
            slot = self._slots.pop(0)
            if not slot.done():
                slot.set_result((left.pop(0), asked))
        if left:  # the slots closed or were cancelled meanwhile
            await self._executor.hand_back(left)
        if self._closed or not self._slots or len(fetched.jobs) == want:
            return 0.0, False
        rest_s = _IDLE_S if fetched.retry_after_s is None else min(_IDLE_S, fetched.retry_after_s)
        if fetched.retry_after_s is not None and not fetched.paused:
            self._events.publish(RateLimited(queue=self.name, wait_s=fetched.retry_after_s))
            return rest_s, True
        return rest_s, False

    async def _rest(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait, but not longer than the queue is open."""
        self._resting = asyncio.create_task(waiting)
        await asyncio.wait([self._resting])
        resting, self._resting = self._resting, None
        if not resting.cancelled():
            resting.result()

    def _release(self, number: int) -> None:
        """Let so many of the waiting slots end without a job, those that came last."""
        for slot in self._slots[max(0, len(self._slots) - number) :]:
            self._slots.remove(slot)
            if not slot.done():
                slot.set_result(None)


PERFORM = "perform"


def title(queue: str) -> str:
    """ "Email" for "email-queue": how document 003's log lines name a queue."""
    return queue.removesuffix("-queue").replace("-", " ").capitalize()


class SlotWorker(saq.Worker[Any]):
    """``saq.Worker`` without its signals and its upkeep, with a number of slots that may change while they run, and a
    way to take no further job."""

    SIGNALS = []  # noqa: RUF012  the server owns the signals
    draining = False

    async def upkeep(self) -> list[asyncio.Task[None]]:
        return []

    @property
    def surplus(self) -> int:
        return max(0, len(self.tasks) - self.concurrency)

    def resize(self, slots: int) -> None:
        """Open slots that are missing. One too many ends by itself: with its job, or when the queue releases it."""
        self.concurrency = slots
        for _ in range(slots - len(self.tasks)):
            self._process()

    def _process(self, previous_task: asyncio.Task[Any] | None = None) -> None:
        if previous_task is not None:
            self.tasks.discard(previous_task)
        if not self.draining and len(self.tasks) < self.concurrency:
            super()._process()


class QueueWorker:
    """A component: the slots of one queue in this replica."""

    def __init__(self, policy: QueuePolicy, dispatcher: Dispatcher, executor: Executor, events: Events) -> None:
        self.name = f"worker {policy.name}"
        self.policy = policy
        self._executor = executor
        self._queue = LedgerQueue(policy, dispatcher, executor, events)
        self._worker = SlotWorker(self._queue, [(PERFORM, self._perform)], concurrency=policy.concurrency)
        self._queue.surplus = lambda: self._worker.surplus
        self._running: asyncio.Task[None] | None = None

    @property
    def busy(self) -> int:
        return self._executor.busy(self.policy.name)

    @property
    def slots(self) -> int:
        """How many jobs it may run at once; 0 once it takes no further one."""
        return 0 if self._worker.draining else self.policy.concurrency

    def adopt(self, policy: QueuePolicy) -> None:
        """Go by this policy from now on. What runs goes on, also when there are fewer slots now."""
        self.policy = policy
        if self._running is None:
            self._worker.concurrency = policy.concurrency
        else:
            self._worker.resize(policy.concurrency)
        self._queue.adopt(policy)

    async def _perform(self, _context: Any, *, job: ClaimedJob, asked: float) -> None:
        await self._executor.run(job, asked)

    async def start(self) -> None:
        await self._queue.connect()
        self._running = asyncio.create_task(self._worker.start(), name=self.name)
        self._running.add_done_callback(self._report_death)
        event = f"{title(self.policy.name)} queue initialized"
        log.info(event, queue=self.policy.name, concurrency=self.policy.concurrency)

    def _report_death(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            event = f"{title(self.policy.name)} worker error"
            log.error(event, queue=self.policy.name, exc_info=error)

    async def stop_taking(self) -> None:
        """Take no further job; what runs goes on."""
        self._worker.draining = True
        await self._queue.close_intake()

    async def drain(self, grace_s: float) -> None:
        """Take no further job, let the running ones end for ``grace_s`` seconds, hand the rest back uncounted."""
        await self.stop_taking()
        slots = [task for task in self._worker.tasks if not task.done()]
        if slots:
            await asyncio.wait(slots, timeout=grace_s)
        for attempt in list(self._executor.running.values()):
            if attempt.job.queue == self.policy.name:
                attempt.cancel("shutdown")
        left = [task for task in slots if not task.done()]
        if left:
            await asyncio.wait(left, timeout=_HAND_BACK_S)

    async def stop(self) -> None:
        """Returns in bounded time: what a silent ledger does not let settle is left to be rescued by others."""
        if self._running is None:
            return
        running, self._running = self._running, None
        stopping = asyncio.create_task(self._stop_slots(running), name=f"stop {self.name}")
        try:
            await asyncio.wait([stopping], timeout=_HAND_BACK_S + _CLOSE_S)
        finally:
            if not stopping.done():
                log.warning("jobs_left_to_rescue", queue=self.policy.name, jobs=self.busy)
                stopping.cancel()
                running.cancel()

    async def _stop_slots(self, running: asyncio.Task[None]) -> None:
        await self.drain(0)
        await self._worker.stop()
        await asyncio.gather(running, return_exceptions=True)
