"""What people change about queues and replicas while they run: rows of the ledger that every replica reads.

A change is a committed row, so it outlives every restart; each replica looks every two seconds, so all of them go by it
within five.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg
import msgspec
import structlog

from gateway.infra.loops import Loop
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.policy import QueueOverrides, QueuePolicy
from gateway.jobs.records import ALIVE_S
from gateway.jobs.registry import Registry
from gateway.jobs.store import SQL, Row

log = structlog.get_logger(__name__)

LOOK_S = 2.0

Adopt = Callable[[QueuePolicy], None]


class Controls:
    """A component. Writes what it reads into the registry and tells those who ``watch`` a queue."""

    name = "queue controls"

    def __init__(self, pool: asyncpg.Pool[Row], registry: Registry, dispatcher: Dispatcher) -> None:
        self._pool = pool
        self._registry = registry
        self._dispatcher = dispatcher
        self._refused: dict[str, Any] = {}  # rows that were complained of, by queue
        self._watchers: dict[str, list[Adopt]] = {}
        self._reading = asyncio.Lock()  # what was read first must not be applied last
        self._loop = Loop(self.name, self._look)

    def watch(self, queue: str, adopt: Adopt) -> None:
        """Call ``adopt`` with the policy whenever it changes."""
        self._watchers.setdefault(queue, []).append(adopt)

    async def start(self) -> None:
        await self.refresh()
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()

    async def change(self, queue: str, changes: Mapping[str, int | None]) -> None:
        """Replace parts of a queue's policy on all replicas. ``changes``: fields of ``QueueOverrides``; None is as
        declared again, a field that is not named stays. Raises ``UnknownQueue``."""
        self._registry.declared(queue)
        await self._pool.execute(SQL["override_queue"], queue, dict(changes))
        await self.refresh()

    async def request_drain(self, replica_id: str, within_s: float | None = None) -> bool:
        """Ask a replica to take no further job; with ``within_s``, to be empty before so many seconds are over. False:
        no live replica has this id."""
        return await self._pool.fetchval(SQL["request_drain"], replica_id, ALIVE_S, within_s) is not None

    async def refresh(self) -> None:
        """Read the rows once and go by them."""
        async with self._reading:
            rows = await self._pool.fetch(SQL["queue_overrides"])
            found = {row["queue"]: row["changes"] for row in rows}
            for queue in self._registry.queue_names:
                overrides = self._understood(queue, found.get(queue, {}))
                if overrides is not None and self._registry.override(queue, overrides):
                    await self._adopt(self._registry.queue(queue))

    def _understood(self, queue: str, changes: Any) -> QueueOverrides | None:
        """None for a row that somebody wrote by hand and wrongly: it is said once, and changes nothing."""
        try:
            return msgspec.convert(changes, QueueOverrides)
        except msgspec.ValidationError as error:
            if self._refused.get(queue) != changes:
                self._refused[queue] = changes
                log.error("queue_override_refused", queue=queue, changes=changes, error=str(error))
            return None

    async def _adopt(self, policy: QueuePolicy) -> None:
        limit = f"{policy.rate.max} per {policy.rate.duration_ms} ms" if policy.rate else None
        log.info("queue_limits_changed", queue=policy.name, concurrency=policy.concurrency, rate_limit=limit)
        for adopt in self._watchers.get(policy.name, []):
            # Slots that open now outlive the request that asked for them: its ids do not belong in their log lines.
            contextvars.Context().run(adopt, policy)
        # Redis may still hold the queue because of the limit that was.
        await self._dispatcher.wake(policy.name)

    async def _look(self) -> float:
        await self.refresh()
        return LOOK_S
