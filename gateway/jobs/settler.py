"""Settling in batches, for as long as it takes.

Endings are never given up: while the ledger is away, or fails for a reason that may pass, they are kept and settled
again. Only a value that the ledger can never store is refused, alone. A job that was taken over meanwhile answers None:
nothing was changed, and its new holder decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from gateway.infra.postgres import LEDGER_ERRORS
from gateway.jobs.batcher import NEVER, Batcher
from gateway.jobs.job import Inserted
from gateway.jobs.store import Settlement, Store

log = structlog.get_logger(__name__)

_RETRY_S = 0.25
_MOST = 500


class Refused(Exception):
    """The ledger can never store this settlement's values."""


class Settler:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._batches: Batcher[Settlement, Inserted | None] = Batcher("settler", self._until_settled, _MOST)

    async def settle(self, settlement: Settlement) -> Inserted | None:
        """Where the job stands now, or None when this attempt did not hold it any more. Raises ``Refused``."""
        try:
            return await self._batches.add(settlement)
        except NEVER as error:
            raise Refused(str(error)) from error

    def put(self, settlement: Settlement) -> asyncio.Future[Inserted | None]:
        """``settle`` for one who goes on meanwhile; where that raises ``Refused``, the future has one of ``NEVER``."""
        return self._batches.put(settlement)

    async def settle_all(self, settlements: Sequence[Settlement]) -> list[Inserted | None]:
        try:
            return await self._batches.add_all(settlements)
        except NEVER as error:
            raise Refused(str(error)) from error

    async def _until_settled(self, settlements: Sequence[Settlement]) -> list[Inserted | None]:
        again = False
        while True:
            try:
                held = await self._store.settle(settlements)
                if again:  # an answer was lost, and what it told may have been committed
                    held |= await self._store.settled([s for s in settlements if (s.id, s.fence) not in held])
            except NEVER:
                raise
            except LEDGER_ERRORS as error:
                log.warning("settle_waits_for_ledger", jobs=len(settlements), error=f"{type(error).__name__}: {error}")
                again = True
                await asyncio.sleep(_RETRY_S)
            else:
                return [held.get((settlement.id, settlement.fence)) for settlement in settlements]
