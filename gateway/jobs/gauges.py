"""What the metrics say of the ledger: whole queues, replicas, its clock.

The connections are those that no job and no request can take: while all others are busy the numbers are needed most,
and an autoscaler that gets none changes nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from statistics import fmean
from typing import Final

import asyncpg
import msgspec

from gateway.jobs.job import QueueCounts
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.records import Records, Replica
from gateway.jobs.registry import Registry
from gateway.jobs.store import SQL, Row

USED_UP: Final = 0.9  # of a limit: what is left to workers that are quick is no reason for more of them


class QueueGauge(msgspec.Struct, frozen=True, kw_only=True):
    """A whole queue. ``oldest_s``: age of the job that is ready longest, ``job_s``: see ``Records.job_seconds``;
    ``limit_used``: starts in the rate limit's window, of those that it allows; None: no limit."""

    policy: QueuePolicy
    counts: QueueCounts
    oldest_s: float | None
    job_s: float | None
    limit_used: float | None
    paused: bool


class Gauges:
    """``vital``: the pool of what must not wait behind the work."""

    def __init__(self, vital: asyncpg.Pool[Row], registry: Registry) -> None:
        self.registry = registry
        self._pool = vital
        self._records = Records(vital)

    async def queues(self) -> dict[str, QueueGauge]:
        """Each declared queue."""
        counts = await self._records.counts()
        return {
            policy.name: await self._queue(policy, counts.get(policy.name, QueueCounts()))
            for policy in self.registry.queues
        }

    async def _queue(self, policy: QueuePolicy, counts: QueueCounts) -> QueueGauge:
        rate, used = policy.rate, None
        if rate is not None:
            used = await self._pool.fetchval(SQL["limit_starts"], policy.name, float(rate.duration_ms)) / rate.max
        return QueueGauge(
            policy=policy,
            counts=counts,
            oldest_s=await self._records.oldest_waiting_s(policy.name),
            job_s=await self._records.job_seconds(policy.name),
            limit_used=used,
            paused=(await self._records.pause_state(policy.name))[0],
        )

    async def replicas(self) -> list[Replica]:
        return await self._records.replicas()

    async def ledger_time(self) -> datetime:
        found: datetime = await self._pool.fetchval(SQL["ledger_time"])
        return found


class Lately:
    """One queue over the last readings. A moment's number of short jobs, or of starts in a short window, says little:
    what counts is the mean."""

    def __init__(self, readings: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._active: deque[int] = deque(maxlen=readings)
        self._used: deque[float] = deque(maxlen=readings)
        self._held_at: float | None = None

    def see(self, gauge: QueueGauge) -> None:
        self._active.append(gauge.counts.active)
        if gauge.limit_used is None:
            self._used.clear()
        else:
            self._used.append(gauge.limit_used)
        if gauge.paused or (self.limit_used or 0.0) >= USED_UP:
            self._held_at = self._clock()

    @property
    def active(self) -> float:
        return fmean(self._active) if self._active else 0.0

    @property
    def limit_used(self) -> float | None:
        """None: no limit."""
        return fmean(self._used) if self._used else None

    def startable_s(self, oldest_s: float | None) -> float:
        """For how long the oldest job could have started and did not: 0 while the queue is paused or its limit is used
        up, and counted from the end of that. Workers are missing, or do not work."""
        if oldest_s is None:
            return 0.0
        return oldest_s if self._held_at is None else min(oldest_s, self._clock() - self._held_at)
