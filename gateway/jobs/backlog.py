"""The bound of a queue's length: submits are refused while so many jobs wait already.

The counts are read once a second, and what this process admitted since is added: asking costs no query. Other replicas'
submits of that second are not seen, so the bound may be exceeded by as many.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from gateway.infra.loops import Loop
from gateway.jobs.errors import QueueFull
from gateway.jobs.job import QueueCounts
from gateway.jobs.registry import Registry

READ_EVERY_S = 1.0
_RETRY_MAX_S = 60
_COMMIT_S = 0.2  # what was admitted longer ago is committed, and so in the counts


class Backlog:
    """A component; without any bounded queue it reads nothing."""

    name = "backlog"

    def __init__(self, registry: Registry, read: Callable[[], Awaitable[dict[str, QueueCounts]]]) -> None:
        self._registry = registry
        self._read = read
        self._counts: dict[str, QueueCounts] = {}
        # What was admitted and may be missing in the counts: when, queue, how many; and its sums.
        self._admitted: deque[tuple[float, str, int]] = deque()
        self._sums: Counter[str] = Counter()
        self._loop = Loop(self.name, self._look)

    async def start(self) -> None:
        if any(policy.max_waiting for policy in self._registry.queues):
            await self.refresh()
            await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()

    def admit(self, queue: str, number: int = 1) -> None:
        """Count ``number`` jobs as accepted. Raises ``QueueFull`` when the queue has as many as it may; jobs that come
        together are accepted together, so the last of them may exceed the bound."""
        policy = self._registry.queue(queue)
        if not policy.max_waiting:
            return
        counts = self._counts.get(queue, QueueCounts())
        if counts.waiting + counts.delayed + self._sums[queue] >= policy.max_waiting:
            window_s = math.ceil(policy.rate.duration_ms / 1000) if policy.rate else 1
            raise QueueFull(queue, policy.max_waiting, max(1, min(window_s, _RETRY_MAX_S)))
        self._admitted.append((time.monotonic(), queue, number))
        self._sums[queue] += number

    async def refresh(self) -> None:
        committed = time.monotonic() - _COMMIT_S
        self._counts = await self._read()
        while self._admitted and self._admitted[0][0] < committed:
            _, queue, number = self._admitted.popleft()
            self._sums[queue] -= number

    async def _look(self) -> float:
        await self.refresh()
        return READ_EVERY_S
