"""Which broker now: Redis while it answers, else the ledger itself.

A breaker decides while running, never at start: a failed command or a missed ping trips it, a good ping closes it
again. An outage is two log lines.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from gateway.infra.loops import Loop
from gateway.jobs.broker import Broker, BrokerDown, Fetched
from gateway.jobs.direct_broker import DirectBroker
from gateway.jobs.events import BrokerChanged, Events
from gateway.jobs.groups import Grouped, Groups
from gateway.jobs.job import Inserted
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.redis_broker import RedisBroker

log = structlog.get_logger(__name__)

PING_EVERY_S = 0.25  # with the command client's time-out of 0.6 s: direct within a second, also when Redis hangs
GOOD_PINGS = 3  # in a row before Redis is used again: one that answers now and then would only flap

R = TypeVar("R")


class Dispatcher:
    """A component; without Redis (nothing ``attach``ed) it is the direct broker and nothing else.

    ``up``: is Redis dispatching.
    """

    name = "dispatcher"

    def __init__(self, direct: DirectBroker, events: Events, groups: Groups | None = None) -> None:
        self.redis: RedisBroker | None = None
        self._groups = groups
        if groups is not None:
            groups.offer = self._offer_ready
        self._direct = direct
        self._events = events
        self._fetches: list[float] = []  # when those that are under way began, monotonic
        self._up = False
        self._down_since: float | None = None
        self._changed = asyncio.Event()
        self._good_pings = 0
        self._monitor: Loop | None = None

    @property
    def up(self) -> bool:
        return self._up

    @property
    def mode(self) -> str:
        return self._current.mode

    @property
    def fetching_s(self) -> float:
        """How long the oldest fetch has been under way; 0: none is. Read by the lease keeper."""
        return time.monotonic() - min(self._fetches) if self._fetches else 0.0

    @property
    def _current(self) -> Broker:
        return self.redis if self._up and self.redis is not None else self._direct

    def attach(self, redis: RedisBroker) -> None:
        """Use this Redis from ``start`` on."""
        self.redis = redis

    async def start(self) -> None:
        if self.redis is None:
            return
        await self._ping(self.redis)
        self._monitor = Loop("redis monitor", partial(self._ping, self.redis))
        await self._monitor.start()

    async def stop(self) -> None:
        if self._monitor is not None:
            await self._monitor.stop()
            self._monitor = None

    async def offer(self, jobs: Sequence[Inserted]) -> str:
        """Say that jobs wait: they are ready, or their groups' turn has to be given. Never fails: what Redis was not
        told, the ledger has. Answers the mode."""
        self.moved(jobs)
        await self._offer_ready([job for job in jobs if job.group is None])
        return self.mode

    def moved(self, jobs: Iterable[Grouped]) -> None:
        """Say that jobs came, went or ended: others of their groups may have their turn."""
        if self._groups is not None:
            self._groups.moved(jobs)

    async def _offer_ready(self, jobs: Sequence[Inserted]) -> None:
        if jobs:
            await self._or_direct(lambda broker: broker.offer(jobs))

    async def fetch(self, policy: QueuePolicy, limit: int) -> Fetched:
        began = time.monotonic()
        self._fetches.append(began)
        try:
            return await self._or_direct(lambda broker: broker.fetch(policy, limit))
        finally:
            self._fetches.remove(began)

    async def wake(self, queue: str) -> None:
        await self._or_direct(lambda broker: broker.wake(queue))

    async def wait(self, queue: str, timeout_s: float) -> None:
        """Return when a job may be ready, when the broker changed, or after ``timeout_s``."""
        changed = self._changed
        waits = [
            asyncio.ensure_future(self._or_direct(lambda broker: broker.wait(queue, timeout_s))),
            asyncio.ensure_future(changed.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _or_direct(self, call: Callable[[Broker], Awaitable[R]]) -> R:
        try:
            return await call(self._current)
        except BrokerDown as error:
            self._trip(str(error))
            return await call(self._direct)

    async def _ping(self, redis: RedisBroker) -> float:
        try:
            await redis.ping()
        except BrokerDown as error:
            self._trip(str(error))
        else:
            self._good_pings += 1
            if self._down_since is None or self._good_pings >= GOOD_PINGS:
                self._close()
        return PING_EVERY_S

    def _trip(self, reason: str) -> None:
        self._good_pings = 0
        if not self._up and self._down_since is not None:
            return
        self._up = False
        self._down_since = time.monotonic()
        log.warning("redis_down", reason=reason, mode=self._direct.mode)
        self._announce(BrokerChanged(mode=self._direct.mode, reason=reason))

    def _close(self) -> None:
        if self._up:
            return
        down_s = None if self._down_since is None else time.monotonic() - self._down_since
        self._up, self._down_since = True, None
        log.info("redis_up", down_s=None if down_s is None else round(down_s, 2), mode="queue")
        self._announce(BrokerChanged(mode="queue", reason="redis answers", down_s=down_s))

    def _announce(self, event: BrokerChanged) -> None:
        """Let everyone who waits on the old broker look at the new one."""
        self._events.publish(event)
        self._changed.set()
        self._changed = asyncio.Event()
