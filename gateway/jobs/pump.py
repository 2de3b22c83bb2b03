"""Feeding slots: one fetch for all that ask at the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from gateway.infra.loops import Loop
from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.events import Events, RateLimited
from gateway.jobs.executor import Executor
from gateway.jobs.job import ClaimedJob
from gateway.jobs.policy import QueuePolicy

log = structlog.get_logger(__name__)

_IDLE_S = 5.0  # notifications are hints: without any, look this often
_LEDGER_RETRY_S = 0.5
_CLOSE_S = 5.0
_HALVES = 64  # slots, from which on two small claims at the same time bring more than one large

Claim = tuple[ClaimedJob, float]
"""A job and the time at which its claim was asked for (monotonic)."""

_Slot = asyncio.Future[Claim | None]


class Pump:
    """A component: gives the slots that wait in line their jobs. ``dismiss``, set by the worker: answers how many of so
    many slots shall end because there are too many now.

    While jobs are plenty two fetches are under way at once: the ledger claims for one half of the slots while the other
    half works. Not so with a rate limit: a fetch that overtakes could give the last permits to the lower priorities,
    and both wait for the same lock anyway.
    """

    def __init__(
        self, policy: QueuePolicy, dispatcher: Dispatcher, executor: Executor, events: Events, fault_event: str
    ) -> None:
        self._policy = policy
        self._dispatcher = dispatcher
        self._executor = executor
        self._events = events
        self._fault_event = fault_event
        self.name = f"pump {policy.name}"
        self.dismiss: Callable[[int], int] = lambda _idle: 0
        self._line: list[_Slot] = []
        self._in_stint: set[_Slot] = set()  # those of the line that ended a job just now
        self._asked = asyncio.Event()
        self._plenty = asyncio.Event()  # the last fetch brought all that it asked for
        self._wanted = 0  # by the fetches under way
        self._fetching = (asyncio.Lock(), asyncio.Lock())
        self._loops: list[Loop] = []
        self._closed = False
        self._down_since: float | None = None
        self._resting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        first, second = self._fetching
        self._loops = [
            Loop(self.name, partial(self._feed, first), fault_event=self._fault_event),
            Loop(self.name, partial(self._feed_more, second), fault_event=self._fault_event),
        ]
        for loop in self._loops:
            await loop.start()

    async def stop(self) -> None:
        """Hand out nothing more; slots in line get None. What a fetch under way claims is handed back. Several may ask
        for it at once: an administrator, SIGTERM, the second signal."""
        if not self._loops:
            return
        self._closed = True
        self._asked.set()
        self._look_again()
        # What a silent ledger claims for us after that is released or rescued by others.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                for fetching in self._fetching:
                    async with fetching:
                        pass
        for loop in self._loops:
            await loop.stop()
        self._loops = []
        self._release(len(self._line))

    def adopt(self, policy: QueuePolicy) -> None:
        """Go by this policy from the next claim on, and make that one now."""
        self._policy = policy
        self._asked.set()
        self._look_again()

    async def claim(self, *, in_stint: bool = False) -> Claim | None:
        """Stand in line for a job. None: the slot shall end, or (``in_stint``: it ended a job just now) no more are
        ready."""
        if self._closed:
            return None
        slot: _Slot = asyncio.get_running_loop().create_future()
        self._line.append(slot)
        if in_stint:
            self._in_stint.add(slot)
        self._asked.set()
        try:
            return await slot
        except asyncio.CancelledError:
            if slot in self._line:
                self._leave(slot)
            raise

    def _leave(self, slot: _Slot, claim: Claim | None = None) -> bool:
        """Let the slot go, with its job or without. Answers whether it was still there to take it."""
        self._line.remove(slot)
        self._in_stint.discard(slot)
        if slot.done():
            return False
        slot.set_result(claim)
        return True

    def _release(self, number: int) -> None:
        """Let so many slots go without a job, those that came last."""
        for slot in self._line[max(0, len(self._line) - number) :]:
            self._leave(slot)

    async def _feed_more(self, fetching: asyncio.Lock) -> float:
        await self._plenty.wait()
        if self._policy.rate is not None:
            self._plenty.clear()
            return 0.0
        return await self._feed(fetching, alone=False)

    async def _feed(self, fetching: asyncio.Lock, *, alone: bool = True) -> float:
        """One fetch for the slots in line; then the ``alone`` one rests while nothing is ready."""
        # Here and not when the policy changes: a fetch under way has its slots counted.
        self._release(self.dismiss(len(self._line) - self._wanted))
        if self._closed or len(self._line) <= self._wanted:
            self._asked.clear()
            await self._asked.wait()
            return 0.0
        if not (want := self._want()):
            await self._executor.settled(self._policy.name)
            return 0.0
        try:
            async with fetching:
                wait_s, limited = await self._fetch(want)
        except LEDGER_ERRORS as error:
            if not is_unavailable(error):
                raise
            if self._down_since is None:  # an outage is two lines
                self._down_since = time.monotonic()
                log.error(self._fault_event, queue=self._policy.name, error=str(error))
            return _LEDGER_RETRY_S
        if self._down_since is not None:
            log.info("worker_recovered", queue=self._policy.name, down_s=round(time.monotonic() - self._down_since, 2))
            self._down_since = None
        if wait_s and alone and not self._closed:
            # A wake-up would not change the limit: then it is slept through.
            await self._rest(asyncio.sleep(wait_s) if limited else self._dispatcher.wait(self._policy.name, wait_s))
        return 0.0

    def _want(self) -> int:
        """How many jobs to fetch now. None while the ledger does not keep up: what has ended and is not settled yet
        counts like what runs."""
        slots = self._policy.concurrency
        room = slots - self._executor.unsettled(self._policy.name)
        return max(0, min(len(self._line) - self._wanted, slots if slots < _HALVES else slots // 2, room))

    async def _fetch(self, want: int) -> tuple[float, bool]:
        """Feed so many slots. Answers how many seconds to wait before the next time (0 when each got its job), and
        whether that is because of the rate limit."""
        asked = time.monotonic()
        self._wanted += want
        try:
            fetched = await self._dispatcher.fetch(self._policy, want)
        finally:
            self._wanted -= want
            self._asked.set()  # the other loop may wait, for slots that this fetch does not feed after all
        left = list(fetched.jobs)
        while left and self._line and not self._closed:
            if self._leave(self._line[0], (left[0], asked)):
                left.pop(0)
        if left:  # the slots closed or were cancelled meanwhile
            await self._executor.hand_back(left)
        if len(fetched.jobs) == want:
            self._plenty.set()
            return 0.0, False
        self._plenty.clear()
        stints_over = [slot for slot in self._line if slot in self._in_stint]
        for slot in stints_over[: max(0, len(self._line) - self._wanted)]:
            self._leave(slot)
        if self._closed or not self._line:
            return 0.0, False
        rest_s = _IDLE_S if fetched.retry_after_s is None else min(_IDLE_S, fetched.retry_after_s)
        if fetched.retry_after_s is not None and not fetched.paused:
            self._events.publish(RateLimited(queue=self._policy.name, wait_s=fetched.retry_after_s))
            return rest_s, True
        return rest_s, False

    async def _rest(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait, but not longer than the queue is open."""
        self._resting = resting = asyncio.create_task(waiting)
        try:
            await asyncio.wait([resting])
        finally:  # also when the pump stops: what waits in Redis ends before its client is closed
            self._resting = None
            if not resting.done():
                resting.cancel()
                await asyncio.wait([resting])
        if not resting.cancelled():
            resting.result()

    def _look_again(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
