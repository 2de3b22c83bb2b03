"""The chores that one replica at a time does for all: promote, relay, rescue, the features' own, and duties, which are
chores by the clock that leave a row each time.

The leader is whoever holds a row's lease by ledger time, so a leader that freezes loses it by itself. Two leaders for a
moment are harmless: every chore is a statement that may run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import structlog

from gateway.infra.loops import Loop, Step, at_stop
from gateway.jobs.broker import BrokerDown
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.duties import Duty, DutyBook
from gateway.jobs.events import Events, JobStalled
from gateway.jobs.job import JobState
from gateway.jobs.policy import StallPolicy
from gateway.jobs.rebuild import rebuild
from gateway.jobs.records import Records
from gateway.jobs.registry import Registry
from gateway.jobs.store import Store

log = structlog.get_logger(__name__)

LEADER_TTL_S = 15.0
LEADER_RENEW_S = 5.0
PRUNE_S = 60
_DUE_POLL_S = 1.0  # a job that becomes due is promoted at its time; one scheduled meanwhile for sooner waits this long
_SOONEST_S = 0.02
_HEAD = 1000
_PASSES_BEFORE_REBUILD = 3


@dataclass(frozen=True, slots=True)
class Chore:
    """Runs on the leader every ``every_s`` seconds; it may answer a shorter wait until its next run."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[float | None]] | Callable[[], Awaitable[None]]


Chores: TypeAlias = tuple[Chore | Duty, ...]


class Maintenance:
    """A component. ``duties`` are those among the chores, in their order."""

    name = "maintenance"

    def __init__(self, records: Records, book: DutyBook, holder: str, chores: Chores) -> None:
        self._records = records
        self.book = book
        self._holder = holder
        self._leading = asyncio.Event()
        self._led = False  # the lease may be ours, also when nobody could tell lately
        self.duties = tuple(chore for chore in chores if isinstance(chore, Duty))
        self._loops = [
            Loop("leader", self._lead),
            *(Loop(f"chore {chore.name}", self._step(chore)) for chore in chores),
        ]

    @property
    def leading(self) -> bool:
        return self._leading.is_set()

    async def start(self) -> None:
        for loop in self._loops:
            await loop.start()

    async def stop(self) -> None:
        await asyncio.gather(*(loop.stop() for loop in self._loops))
        if self._led:
            self._led = False
            self._leading.clear()
            await at_stop("release leadership", self._records.release_lease("maintenance", self._holder))

    async def _lead(self) -> float:
        held = False
        try:
            async with asyncio.timeout(LEADER_RENEW_S):
                held = await self._records.hold_lease("maintenance", self._holder, LEADER_TTL_S)
                self._led |= held
        finally:  # who cannot ask does not lead
            if held != self._leading.is_set():
                log.info("leader_elected" if held else "leader_lost", holder=self._holder)
                (self._leading.set if held else self._leading.clear)()
        return LEADER_RENEW_S

    def _step(self, chore: Chore | Duty) -> Step:
        return partial(self._fulfil, chore) if isinstance(chore, Duty) else partial(self._do, chore)

    async def _fulfil(self, duty: Duty) -> float:
        await self._leading.wait()
        run_id, wait_s = await self.book.begin(duty)
        if run_id is None:
            return wait_s
        try:
            rows = await duty.run()
        except Exception as error:
            await self.book.end(run_id, error=f"{type(error).__name__}: {error}")
            raise
        await self.book.end(run_id, rows=rows)
        if rows:
            log.info("duty_done", duty=duty.name, rows=rows)
        return wait_s

    async def _do(self, chore: Chore) -> float:
        await self._leading.wait()
        try:
            sooner = await chore.run()
        except BrokerDown as error:
            log.debug("chore_waits_for_redis", chore=chore.name, error=str(error))
            sooner = None
        return chore.every_s if sooner is None else min(chore.every_s, max(_SOONEST_S, sooner))


class Keeper:
    """The engine's own chores."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        records: Records,
        dispatcher: Dispatcher,
        events: Events,
    ) -> None:
        self._registry = registry
        self._store = store
        self._records = records
        self._dispatcher = dispatcher
        self._events = events
        self._short_passes: dict[str, int] = {}

    def chores(self, stalls: StallPolicy) -> Chores:
        async def rescue() -> float | None:
            return await self.rescue(stalls)

        return (
            Chore("promote", _DUE_POLL_S, self.promote),
            Chore("rescue", min(stalls.interval_ms, stalls.lease_ms) / 1000, rescue),
            Chore("relay", 2.0, self.relay),
            Chore("fold", 2.0, self._store.fold_counts),
            Duty("prune jobs", "Deletes ended jobs after the retention of their queue.", PRUNE_S, self.prune),
        )

    async def promote(self) -> float | None:
        """Due jobs become waiting. Answers the seconds until the next one is due."""
        while due := await self._store.promote():
            await self._dispatcher.offer(due)
        return await self._store.next_due()

    async def rescue(self, stalls: StallPolicy) -> float | None:
        """Jobs whose holder vanished wait again, or fail at the limit. Answers the seconds until a lease ends."""
        while lost := await self._store.rescue(stalls.max_stalls):
            for rescued in lost:
                log.warning(
                    "Job stalled",  # document 003's words
                    job_id=str(rescued.job.id),
                    queue=rescued.job.queue,
                    stalls=rescued.stalls,
                    worker=rescued.worker,
                    state=rescued.job.state,
                )
                self._events.publish(
                    JobStalled(
                        job_id=str(rescued.job.id),
                        queue=rescued.job.queue,
                        stalls=rescued.stalls,
                        state=rescued.job.state,
                        worker=rescued.worker,
                    )
                )
            self._dispatcher.moved(rescued.job for rescued in lost)
            await self._dispatcher.offer([rescued.job for rescued in lost if rescued.job.state is JobState.WAITING])
        return await self._store.next_lease_end()

    async def relay(self) -> None:
        """Tell Redis about waiting jobs that nobody told it about: an offer was lost, or Redis forgot."""
        redis = self._dispatcher.redis
        if redis is None or not self._dispatcher.up:
            return
        counts = await self._records.counts()
        for policy in self._registry.queues:
            queue = policy.name
            ready, told = await redis.ready(queue)
            if not told:
                await rebuild(self._store, redis, queue)
                continue
            waiting = counts[queue].waiting if queue in counts else 0
            if ready >= waiting:
                self._short_passes[queue] = 0
                continue
            self._short_passes[queue] = self._short_passes.get(queue, 0) + 1
            head = await self._store.waiting_head(queue, _HEAD)
            unknown = await redis.tell(head)
            # Jobs in flight look missing too, but never so many, and blocked ones do: then the head has to show that
            # Redis lacks ready ones. A short head was all that is ready. What is beyond the head moves up to it.
            missing = waiting - ready if len(head) == _HEAD else 0
            if (
                self._short_passes[queue] >= _PASSES_BEFORE_REBUILD
                and missing > _HEAD
                and (unknown > _HEAD // 2 or not await self._store.any_blocked(queue))
            ):
                await rebuild(self._store, redis, queue)
                self._short_passes[queue] = 0

    async def prune(self) -> int:
        """Delete what retention no longer keeps: by age, and completed jobs by number. Answers how many."""
        pruned = 0
        for policy in self._registry.queues:
            keep = policy.retention
            ages = {
                JobState.COMPLETED: keep.completed_s,
                JobState.FAILED: keep.failed_s,
                JobState.CANCELLED: keep.failed_s,
            }
            for state, keep_s in ages.items():
                while part := await self._store.prune_by_age(policy.name, state, keep_s):
                    pruned += part
            while part := await self._store.prune_by_count(policy.name, keep.completed_count):
                pruned += part
        return pruned
