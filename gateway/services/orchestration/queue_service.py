"""What document 003 names of the orchestration queue, for the gateway's own code: runs go the one way in."""

from __future__ import annotations

import msgspec

from gateway.jobs.engine import Engine
from gateway.jobs.job import PRIORITY_MAX, QueueCounts
from gateway.services.orchestration.checking import NewRun
from gateway.services.orchestration.conflicts import OnConflict
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE
from gateway.services.orchestration.schemas import OrchestrationJobData
from gateway.services.orchestration.starting import Runs, Started


class OrchestrationQueueService:
    """Puts agent runs into the queue, and says how it stands. Raises what ``Runs`` raises."""

    def __init__(self, engine: Engine, runs: Runs) -> None:
        self._engine = engine
        self._runs = runs

    async def add_job(self, data: OrchestrationJobData, on_conflict: OnConflict = OnConflict.REJECT) -> Started:
        """Accept a run with its own priority, else 5. When this returns it is a committed row."""
        return await self._runs.start(NewRun(data=data, on_conflict=on_conflict))

    async def add_high_priority_job(self, data: OrchestrationJobData) -> Started:
        """Before everything else that waits: priority 10, whatever ``data`` says."""
        return await self.add_job(msgspec.structs.replace(data, priority=PRIORITY_MAX))

    async def get_stats(self) -> QueueCounts:
        return await self._engine.counts(ORCHESTRATION_QUEUE)

    async def retry_all_failed(self) -> int:
        """How many failed jobs wait again now; each goes on with the steps that it left undone."""
        return await self._engine.retry_all_failed(ORCHESTRATION_QUEUE)
