"""Settling in batches: attempts that end at the same moment share one statement; a lone one never waits.

Endings are never given up: while the ledger is away, or fails for a reason that may pass, they are kept and settled
again. Only a value that the ledger can never store is refused, alone. A job that was taken over meanwhile answers None:
nothing was changed, and its new holder decides.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence

import asyncpg
import structlog

from gateway.infra.postgres import LEDGER_ERRORS
from gateway.jobs.job import Inserted
from gateway.jobs.store import Settlement, Store

log = structlog.get_logger(__name__)

_RETRY_S = 0.25
_MOST = 500
_NEVER = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

Waiting = tuple[Settlement, asyncio.Future[Inserted | None]]


class Refused(Exception):
    """The ledger can never store this settlement's values."""


class Settler:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: list[Waiting] = []
        self._flushing: asyncio.Task[None] | None = None

    async def settle(self, settlement: Settlement) -> Inserted | None:
        """Where the job stands now, or None when this attempt did not hold it any more. Raises ``Refused``."""
        return (await self.settle_all([settlement]))[0]

    async def settle_all(self, settlements: Sequence[Settlement]) -> list[Inserted | None]:
        loop = asyncio.get_running_loop()
        waiting: list[Waiting] = [(settlement, loop.create_future()) for settlement in settlements]
        self._pending += waiting
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="settler", context=contextvars.Context())
        return await asyncio.gather(*(asyncio.shield(future) for _, future in waiting))

    async def _flush(self) -> None:
        asked_before: set[tuple[object, int]] = set()  # their statement's answer was lost: it may have been committed
        size = _MOST
        while self._pending:
            batch, rest = self._pending[:size], self._pending[size:]
            settlements = [settlement for settlement, _ in batch]
            try:
                held = await self._store.settle(settlements)
                again = [s for s in settlements if (s.id, s.fence) in asked_before and (s.id, s.fence) not in held]
                held |= await self._store.settled(again)
            except _NEVER as error:
                if len(batch) == 1:
                    self._pending = self._pending[1:]
                    _answer(batch[0], Refused(str(error)))
                size = max(1, len(batch) // 2)  # one job's value must not spoil its neighbours' endings
                continue
            except LEDGER_ERRORS as error:
                log.warning("settle_waits_for_ledger", jobs=len(batch), error=f"{type(error).__name__}: {error}")
                asked_before |= {(s.id, s.fence) for s in settlements}
                await asyncio.sleep(_RETRY_S)
                continue
            self._pending = self._pending[len(batch) :]
            size = _MOST if not rest else size
            for waiting in batch:
                _answer(waiting, held.get((waiting[0].id, waiting[0].fence)))


def _answer(waiting: Waiting, outcome: Inserted | Refused | None) -> None:
    future = waiting[1]
    if future.done():
        return
    if isinstance(outcome, Refused):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
