"""This replica in the register of live ones: role, version, slots, mode, whether it drains."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from gateway import __version__
from gateway.infra.loops import Loop, at_stop
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.records import Records, Replica
from gateway.jobs.worker import QueueWorker

log = structlog.get_logger(__name__)

BEAT_S = 3.0  # a fifth of records.ALIVE_S


class Presence:
    """A component. With each sign of life it learns whether somebody asked this replica to take no further job."""

    name = "presence"

    def __init__(
        self, records: Records, dispatcher: Dispatcher, workers: Sequence[QueueWorker], replica_id: str, role: str
    ) -> None:
        self._records = records
        self._dispatcher = dispatcher
        self._workers = workers
        self._id = replica_id
        self._role = role
        self._started = datetime.now(UTC)
        self._loop = Loop(self.name, self._beat)
        self._shown = False
        self.draining = False

    async def start(self) -> None:
        await self._records.beat(self._replica())
        self._shown = True
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()
        if self._shown:
            self._shown = False
            await at_stop("forget replica", self._records.forget(self._id))

    async def drain(self) -> None:
        """Show everyone that this replica takes no new jobs."""
        self.draining = True
        if self._shown:
            await at_stop("show drain", self._records.beat(self._replica()))

    async def _beat(self) -> float:
        if await self._records.beat(self._replica()) and not self.draining:
            self.draining = True
            log.info("drain_requested", replica=self._id, busy=sum(worker.busy for worker in self._workers))
            await asyncio.gather(*(worker.stop_taking() for worker in self._workers))
            await self._records.beat(self._replica())
        return BEAT_S

    def _replica(self) -> Replica:
        slots = {worker.policy.name: {"slots": worker.slots, "busy": worker.busy} for worker in self._workers}
        return Replica(
            id=self._id,
            role=self._role,
            version=__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            mode=self._dispatcher.mode,
            slots=slots,
            draining=self.draining,
            started_at=self._started,
            seen_at=self._started,
        )
