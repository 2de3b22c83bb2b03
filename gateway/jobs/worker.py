"""SAQ inside our loop: ``saq.Worker`` runs the slots, our ``saq.Queue`` feeds them from the broker.

SAQ's slot asks ``dequeue`` for one job; the pump fetches for all slots that ask at the same moment. While more jobs are
ready a slot goes on with the next one inside the same SAQ job, its *stint* (docs/decisions/0014-slots-go-on.md).
What SAQ would write about a job (started, finished, retried) is not written here: the executor settles in the ledger,
so SAQ's own bookkeeping hooks are empty (``saq_queue``). Only ``SIGNALS``, ``upkeep``, ``stop`` and
``_process`` of its worker are replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any

import saq
import structlog

from gateway.jobs.attempt import CANCEL_GRACE_S
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.events import Events
from gateway.jobs.executor import Executor
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.pump import Claim, Pump
from gateway.jobs.saq_queue import SlotJob, SlotQueue

log = structlog.get_logger(__name__)

_CLOSE_S = 5.0
_HAND_BACK_S = CANCEL_GRACE_S + 2.0  # until a stubborn task is given up, and its job settled


class LedgerQueue(SlotQueue):
    """A ``saq.Queue`` that hands out claims."""

    def __init__(self, name: str, pump: Pump) -> None:
        super().__init__(name, dump=None, load=None)
        self.idle: set[asyncio.Task[Any]] = set()  # slots that wait for a job
        self._pump = pump

    async def connect(self) -> None:
        await super().connect()
        await self._pump.start()

    async def disconnect(self) -> None:
        await self._pump.stop()

    async def dequeue(self, timeout: float = 0.0, poll_interval: float = 0.0) -> saq.Job | None:
        slot = asyncio.current_task()
        assert slot is not None  # noqa: S101  SAQ makes one for each slot
        self.idle.add(slot)
        try:
            claim = await self._pump.claim()
        finally:
            self.idle.discard(slot)
        if claim is None:
            return None
        job, _ = claim
        return SlotJob(function=PERFORM, key=f"{job.id}/{job.fence}", kwargs={"claim": claim}, queue=self, timeout=0)


PERFORM = "perform"


def title(queue: str) -> str:
    """ "Email" for "email-queue": how document 003's log lines name a queue."""
    return queue.removesuffix("-queue").replace("-", " ").capitalize()


class SlotWorker(saq.Worker[Any]):
    """``saq.Worker`` without its signals and its upkeep, with a number of slots that may change while they run, and a
    way to take no further job."""

    SIGNALS = []  # noqa: RUF012  the server owns the signals
    draining = False
    idle: Collection[asyncio.Task[Any]] = ()  # see LedgerQueue
    _dismissed = 0  # told to end; any slot that ends counts as one of them, and opens again if it was not

    async def upkeep(self) -> list[asyncio.Task[None]]:
        return []

    async def stop(self) -> None:
        """As SAQ's, but what the slots perform is cancelled rather than the slots. SAQ's cancelled slot waits for its
        task in a way that asyncio complains of when it is cancelled again, as at the end of a process."""
        if not self.event.is_set():
            self.event.set()
            for task in (*self.idle, *(context["task"] for context in self.job_task_contexts.values())):
                task.cancel()
        if slots := set(self.tasks):
            await asyncio.wait(slots)
        await super().stop()

    def dismiss(self, idle: int) -> int:
        """How many of so many idle slots shall end because there are too many; whoever asks lets them go."""
        number = max(0, min(idle, len(self.tasks) - self._dismissed - self.concurrency))
        self._dismissed += number
        return number

    def resize(self, slots: int) -> None:
        """Open slots that are missing. One too many ends by itself: with its job, or when the queue releases it."""
        self.concurrency = slots
        for _ in range(slots - len(self.tasks)):
            self._process()

    def _process(self, previous_task: asyncio.Task[Any] | None = None) -> None:
        if previous_task is not None:
            self.tasks.discard(previous_task)
            self._dismissed = max(0, self._dismissed - 1)
        if not self.draining and len(self.tasks) < self.concurrency:
            super()._process()


class QueueWorker:
    """A component: the slots of one queue in this replica."""

    def __init__(self, policy: QueuePolicy, dispatcher: Dispatcher, executor: Executor, events: Events) -> None:
        self.name = f"worker {policy.name}"
        self.policy = policy
        self._executor = executor
        self._pump = Pump(policy, dispatcher, executor, events, f"{title(policy.name)} worker error")
        self._queue = LedgerQueue(policy.name, self._pump)
        self._worker = SlotWorker(self._queue, [(PERFORM, self._perform)], concurrency=policy.concurrency)
        self._worker.idle = self._queue.idle
        self._pump.dismiss = self._worker.dismiss
        self._running: asyncio.Task[None] | None = None
        self._grace_over = False  # what has not begun does not begin here any more

    @property
    def busy(self) -> int:
        return self._executor.performing(self.policy.name)

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
        self._pump.adopt(policy)

    async def _perform(self, _context: Any, *, claim: Claim | None) -> None:
        while claim is not None:
            if self._grace_over:
                await self._executor.hand_back([claim[0]])
            else:
                await self._executor.run(*claim)
            claim = await self._pump.claim(in_stint=True)

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
        await self._pump.stop()

    async def drain(self, grace_s: float) -> None:
        """Take no further job, let the running ones end for ``grace_s`` seconds, hand the rest back uncounted."""
        await self.stop_taking()
        slots = [task for task in self._worker.tasks if not task.done()]
        if slots:
            await asyncio.wait(slots, timeout=grace_s)
        self._grace_over = True
        for attempt in list(self._executor.running.values()):
            if attempt.job.queue == self.policy.name:
                attempt.cancel("shutdown")
        left = [task for task in slots if not task.done()]
        if left:
            await asyncio.wait(left, timeout=_HAND_BACK_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HAND_BACK_S):
                while self._executor.unsettled(self.policy.name):
                    await self._executor.settled(self.policy.name)

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
                log.warning(
                    "jobs_left_to_rescue",
                    queue=self.policy.name,
                    jobs=self.busy + self._executor.unsettled(self.policy.name),
                )
                stopping.cancel()
                running.cancel()

    async def _stop_slots(self, running: asyncio.Task[None]) -> None:
        await self.drain(0)
        await self._worker.stop()
        await asyncio.gather(running, return_exceptions=True)
