"""This replica in the register of live ones: role, version, settings, slots, mode, whether it drains."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from gateway import __version__
from gateway.infra.loops import Loop, at_stop
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.records import Records, Replica
from gateway.jobs.worker import QueueWorker

log = structlog.get_logger(__name__)

BEAT_S = 3.0  # a fifth of records.ALIVE_S
# Of the seconds until its machine goes: for tasks that are slow to end, and for the last words to the ledger.
HAND_BACK_S = 15.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same while a replica lives. ``configuration``: see ``settings.shared_settings``."""

    id: str
    role: str
    configuration: Mapping[str, str]


class Presence:
    """A component. With each sign of life it learns whether somebody asked this replica to take no further job, or to
    be empty soon because its machine goes.

    ``leaving``: why it wants no more traffic; None: it does.
    """

    name = "presence"

    def __init__(
        self,
        records: Records,
        dispatcher: Dispatcher,
        workers: Sequence[QueueWorker],
        identity: Identity,
        vitals: Callable[[], dict[str, float]] = dict,
    ) -> None:
        self._records = records
        self._dispatcher = dispatcher
        self._workers = workers
        self._identity = identity
        self._vitals = vitals
        self._started = datetime.now(UTC)
        self._loop = Loop(self.name, self._beat)
        self._shown = False
        self._emptying: asyncio.Task[None] | None = None
        self._empty_at: float | None = None  # on the loop's clock
        self.draining = False
        self.leaving: str | None = None

    async def start(self) -> None:
        await self._records.beat(self._replica())
        self._shown = True
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()
        if self._emptying is not None:
            self._emptying.cancel()
        if self._shown:
            self._shown = False
            await at_stop("forget replica", self._records.forget(self._identity.id))

    async def drain(self) -> None:
        """Show everyone that this replica takes no new jobs."""
        self.draining = True
        if self._shown:
            await at_stop("show drain", self._records.beat(self._replica()))

    async def _beat(self) -> float:
        asked = await self._records.beat(self._replica())
        if asked.drain and not self.draining:
            self.draining = True
            log.info("drain_requested", replica=self._identity.id, busy=self._busy, within_s=asked.within_s)
            await asyncio.gather(*(worker.stop_taking() for worker in self._workers))
            await self._records.beat(self._replica())
        if asked.within_s is not None:
            self._leave(asked.within_s)
        return BEAT_S

    @property
    def _busy(self) -> int:
        return sum(worker.busy for worker in self._workers)

    def _leave(self, within_s: float) -> None:
        """Have it empty by then. The ledger keeps the earliest moment, and each sign of life tells what is left."""
        ends = asyncio.get_running_loop().time() + within_s
        if self._empty_at is not None and ends > self._empty_at - BEAT_S:
            return
        self._empty_at = ends
        self.leaving = f"leaving: this replica was asked to be empty within {within_s:.0f} s"
        if self._emptying is not None:
            self._emptying.cancel()
        self._emptying = asyncio.create_task(self._empty(max(0.0, within_s - HAND_BACK_S)), name="leave")

    async def _empty(self, grace_s: float) -> None:
        """Running jobs may end for so long; the rest goes back uncounted, and other replicas take it at once."""
        await asyncio.gather(*(worker.drain(grace_s) for worker in self._workers))
        log.info("replica_empty", replica=self._identity.id, busy=self._busy)

    def _replica(self) -> Replica:
        slots = {
            worker.policy.name: {"slots": worker.slots, "busy": worker.busy, "limits": worker.policy.revision}
            for worker in self._workers
        }
        return Replica(
            id=self._identity.id,
            role=self._identity.role,
            version=__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            mode=self._dispatcher.mode,
            slots=slots,
            draining=self.draining,
            started_at=self._started,
            seen_at=self._started,
            configuration=dict(self._identity.configuration),
            vitals=self._vitals(),
        )
