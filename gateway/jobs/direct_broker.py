"""The broker without Redis: due rows straight from the ledger.

Same order, limits, pauses and leases as with Redis, because both claim by the same rules; only the wake-up differs: a
job accepted by this process wakes it at once, one accepted elsewhere is found by polling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.jobs.broker import Fetched
from gateway.jobs.job import Inserted
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.store import Store

POLL_S = 1.0  # how long a job accepted by another process may go unnoticed


class DirectBroker:
    mode = "direct"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wakes: dict[str, asyncio.Event] = {}

    async def offer(self, jobs: Sequence[Inserted]) -> None:
        for queue in {job.queue for job in jobs}:
            await self.wake(queue)

    async def fetch(self, policy: QueuePolicy, limit: int) -> Fetched:
        self._wake(policy.name).clear()  # before the look: an offer during it must not be slept through
        return await self._store.claim_due(policy, limit)

    async def wait(self, queue: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(min(timeout_s, POLL_S)):
                await self._wake(queue).wait()
        except TimeoutError:
            return

    async def wake(self, queue: str) -> None:
        self._wake(queue).set()

    def _wake(self, queue: str) -> asyncio.Event:
        return self._wakes.setdefault(queue, asyncio.Event())
