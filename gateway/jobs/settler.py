"""Settling in batches: attempts that end at the same moment share one statement; a lone one never waits.

While the ledger is away nothing is given up: endings are kept and settled when it answers again. A job that was taken
over meanwhile answers None: nothing was changed, and its new holder decides.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.jobs.job import Inserted
from gateway.jobs.store import Settlement, Store

log = structlog.get_logger(__name__)

_RETRY_S = 0.25
_MOST = 500


class Settler:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: list[tuple[Settlement, asyncio.Future[Inserted | None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def settle(self, settlement: Settlement) -> Inserted | None:
        """Where the job stands now, or None when this attempt did not hold it any more.

        Raises ``asyncpg.PostgresError`` when the ledger refuses this very settlement (its values, not its state).
        """
        future: asyncio.Future[Inserted | None] = asyncio.get_running_loop().create_future()
        self._pending.append((settlement, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="settler")
        return await asyncio.shield(future)

    async def _flush(self) -> None:
        while self._pending:
            batch, self._pending = self._pending[:_MOST], self._pending[_MOST:]
            try:
                held = await self._store.settle([settlement for settlement, _ in batch])
            except asyncpg.DataError as error:
                await self._one_by_one(batch, error)
            except LEDGER_ERRORS as error:
                if not is_unavailable(error):
                    self._refuse(batch, error)
                    continue
                log.warning("settle_waits_for_ledger", jobs=len(batch), error=str(error))
                self._pending = batch + self._pending
                await asyncio.sleep(_RETRY_S)
            else:
                for settlement, future in batch:
                    if not future.done():
                        future.set_result(held.get(settlement.id))

    async def _one_by_one(
        self, batch: list[tuple[Settlement, asyncio.Future[Inserted | None]]], error: asyncpg.DataError
    ) -> None:
        """One job's value spoilt the statement: its neighbours must not suffer from it."""
        if len(batch) == 1:
            self._refuse(batch, error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            try:
                held = await self._store.settle([settlement for settlement, _ in half])
            except asyncpg.DataError as cause:
                await self._one_by_one(half, cause)
            else:
                for settlement, future in half:
                    if not future.done():
                        future.set_result(held.get(settlement.id))

    @staticmethod
    def _refuse(batch: list[tuple[Settlement, asyncio.Future[Inserted | None]]], error: Exception) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)
