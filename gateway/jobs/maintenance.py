"""The chores that one replica at a time does for all: promote, relay, rescue, prune, and the features' own.

The leader is whoever holds a row's lease by ledger time, so a leader that freezes loses it by itself. Two leaders for a
moment are harmless: every chore is a statement that may run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.jobs.broker import BrokerDown
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.events import Events, JobStalled
from gateway.jobs.job import PRIORITY_MAX, PRIORITY_MIN, JobState
from gateway.jobs.policy import StallPolicy
from gateway.jobs.records import Records
from gateway.jobs.registry import Registry
from gateway.jobs.store import Store

log = structlog.get_logger(__name__)

LEADER_TTL_S = 15.0
LEADER_RENEW_S = 5.0
_DUE_POLL_S = 1.0  # a job that becomes due is promoted at its time; one scheduled meanwhile for sooner waits this long
_SOONEST_S = 0.02
_HEAD = 1000
_PAGE = 5000
_PASSES_BEFORE_REBUILD = 3


@dataclass(frozen=True, slots=True)
class Chore:
    """Runs on the leader every ``every_s`` seconds; it may answer a shorter wait until its next run."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[float | None]] | Callable[[], Awaitable[None]]


class Maintenance:
    """A component."""

    name = "maintenance"

    def __init__(self, records: Records, holder: str, chores: tuple[Chore, ...]) -> None:
        self._records = records
        self._holder = holder
        self._chores = chores
        self._leading = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def leading(self) -> bool:
        return self._leading.is_set()

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._lead(), name="leader")]
        self._tasks += [asyncio.create_task(self._loop(chore), name=f"chore {chore.name}") for chore in self._chores]

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks and self._leading.is_set():
            self._leading.clear()
            try:
                await self._records.release_lease("maintenance", self._holder)
            except LEDGER_ERRORS as error:
                log.info("leader_not_released", error=str(error))  # its lease ends by itself

    async def _lead(self) -> None:
        while True:
            try:
                held = await self._records.hold_lease("maintenance", self._holder, LEADER_TTL_S)
            except LEDGER_ERRORS as error:
                if not is_unavailable(error):
                    log.error("leader_election_failed", exc_info=error)
                held = False
            if held != self._leading.is_set():
                log.info("leader_elected" if held else "leader_lost", holder=self._holder)
                (self._leading.set if held else self._leading.clear)()
            await asyncio.sleep(LEADER_RENEW_S)

    async def _loop(self, chore: Chore) -> None:
        while True:
            await self._leading.wait()
            wait_s = chore.every_s
            try:
                sooner = await chore.run()
                wait_s = wait_s if sooner is None else min(wait_s, max(_SOONEST_S, sooner))
            except BrokerDown as error:
                log.debug("chore_waits_for_redis", chore=chore.name, error=str(error))
            except Exception as error:  # a chore that fails once must run again: log it and go on
                if not (isinstance(error, LEDGER_ERRORS) and is_unavailable(error)):
                    log.error("chore_failed", chore=chore.name, exc_info=error)
            await asyncio.sleep(wait_s)


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

    def chores(self, stalls: StallPolicy) -> tuple[Chore, ...]:
        async def rescue() -> float | None:
            return await self.rescue(stalls)

        return (
            Chore("promote", _DUE_POLL_S, self.promote),
            Chore("rescue", min(stalls.interval_ms, stalls.lease_ms) / 1000, rescue),
            Chore("relay", 2.0, self.relay),
            Chore("fold", 2.0, self._store.fold_counts),
            Chore("prune", 60.0, self.prune),
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
            await self._dispatcher.offer([r.job for r in lost if r.job.state is JobState.WAITING])
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
                await self.rebuild(queue)
                continue
            waiting = counts[queue].waiting if queue in counts else 0
            if ready >= waiting:
                self._short_passes[queue] = 0
                continue
            self._short_passes[queue] = self._short_passes.get(queue, 0) + 1
            await redis.offer(await self._store.waiting_head(queue, _HEAD))
            if self._short_passes[queue] >= _PASSES_BEFORE_REBUILD:
                await self.rebuild(queue)

    async def rebuild(self, queue: str) -> int:
        """Tell Redis a whole queue again, next in line first. Answers how many jobs. Raises ``BrokerDown``."""
        redis = self._dispatcher.redis
        if redis is None:
            return 0
        told = 0
        for priority in range(PRIORITY_MAX, PRIORITY_MIN - 1, -1):
            after = 0
            while page := await self._store.waiting_page(queue, priority, after, _PAGE):
                await redis.offer(page)
                told, after = told + len(page), page[-1].seq
        await redis.mark_told(queue)
        self._short_passes[queue] = 0
        log.info("queue_rebuilt", queue=queue, jobs=told)
        return told

    async def prune(self) -> None:
        """Delete what retention no longer keeps: by age, and completed jobs by number."""
        for policy in self._registry.queues:
            keep = policy.retention
            ages = {
                JobState.COMPLETED: keep.completed_s,
                JobState.FAILED: keep.failed_s,
                JobState.CANCELLED: keep.failed_s,
            }
            for state, keep_s in ages.items():
                while await self._store.prune_by_age(policy.name, state, keep_s):
                    pass
            while await self._store.prune_by_count(policy.name, keep.completed_count):
                pass
