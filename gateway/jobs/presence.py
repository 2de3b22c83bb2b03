"""This replica in the register of live ones: role, version, slots, mode, whether it drains."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from gateway import __version__
from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.records import Records, Replica
from gateway.jobs.worker import QueueWorker

log = structlog.get_logger(__name__)

BEAT_S = 3.0  # a fifth of records.ALIVE_S


class Presence:
    """A component."""

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
        self._loop: asyncio.Task[None] | None = None
        self.draining = False

    async def start(self) -> None:
        await self._records.beat(self._replica())
        self._loop = asyncio.create_task(self._beat(), name=self.name)

    async def stop(self) -> None:
        if self._loop is None:
            return
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        self._loop = None
        try:
            await self._records.forget(self._id)
        except LEDGER_ERRORS as error:
            log.info("replica_not_forgotten", error=str(error))  # it ages out

    async def drain(self) -> None:
        """Show everyone that this replica takes no new jobs."""
        self.draining = True
        if self._loop is not None:
            await self._say()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            await self._say()

    async def _say(self) -> None:
        try:
            await self._records.beat(self._replica())
        except LEDGER_ERRORS as error:
            if is_unavailable(error):
                log.debug("beat_waits_for_ledger", error=str(error))
            else:
                log.error("beat_failed", exc_info=error)

    def _replica(self) -> Replica:
        slots = {
            worker.policy.name: {"slots": worker.policy.concurrency, "busy": worker.busy} for worker in self._workers
        }
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
