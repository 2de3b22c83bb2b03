"""Admission to a model, and what became of the call: both in the ledger, so that they hold over all replicas.

Before a call the ledger must answer, else there is none (it would escape the limits). After it the answer is worth more
than exact figures: what cannot be told then is logged, and the estimate stays.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar
from uuid import UUID

import msgspec
import structlog

from gateway.infra.postgres import LEDGER_ERRORS
from gateway.infra.uuid7 import uuid7
from gateway.llm.model import ModelBusy, ModelError
from gateway.llm.store import LaneStore, Price

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LEDGER_AGAIN_S: Final = 1.0
_BUSY_LEAST_S: Final = 0.5  # whoever waits less comes too early, by its clock or by the ledger's
_WHY: Final = {
    "requests": "as many requests as its limit allows were made in the last minute",
    "tokens": "its limit of tokens in a minute is used up",
    "rate_limited": "its provider asked to wait",
    "failing": "its provider failed several times in a row",
    "by_hand": "an administrator paused its provider",
}


class Ticket(msgspec.Struct, frozen=True):
    """A call that may be made. ``turn`` is the lane's at that time."""

    call_id: UUID
    provider: str
    turn: int


class Ending(msgspec.Struct, frozen=True):
    """How a call ended. ``fault``: the provider failed, rather than the request or the answer; None: nobody knows, as
    it was given too little time."""

    error: ModelError | None = None
    fault: bool | None = False


class Lanes:
    """The providers' lanes and the models' limits."""

    def __init__(self, store: LaneStore) -> None:
        self._store = store

    async def price(self, names: tuple[str, ...]) -> Price | None:
        return await _or_busy(self._store.price(names))

    async def known_models(self) -> list[str]:
        return await _or_busy(self._store.known_models())

    async def admit(self, provider: str, model: str, tokens: int) -> Ticket:
        """Reserve a request and so many tokens. Raises ``ModelBusy`` where the lane rests or a limit is used up."""
        call_id = uuid7()
        admission = await _or_busy(self._store.reserve(provider, model, call_id, tokens))
        if admission.why is None:
            return Ticket(call_id, provider, admission.turn)
        after_s = max(_BUSY_LEAST_S, admission.wait_s)
        raise ModelBusy("rate_limited", f"{model} rests: {_WHY[admission.why]}.", after_s=after_s)

    async def close(self, ticket: Ticket, tokens: int, ending: Ending) -> None:
        """The true figure, and what the call says of its provider. Fills in ``ModelBusy.after_s``."""
        error, provider, turn = ending.error, ticket.provider, ticket.turn
        await _or_logged(self._store.settle(ticket.call_id, tokens))
        if isinstance(error, ModelBusy):
            wait_s = await _or_logged(self._store.busy(provider, turn, error.after_s or None, str(error)))
            error.after_s = max(_BUSY_LEAST_S, error.after_s if wait_s is None else wait_s)
            log.warning("model_provider_rests", provider=provider, why="rate_limited", seconds=round(error.after_s, 1))
        elif error is not None and ending.fault:
            if await _or_logged(self._store.failed(provider, turn, str(error))):
                log.warning("model_provider_rests", provider=provider, why="failing", kind=error.kind)
        elif ending.fault is not None:
            await _or_logged(self._store.answered(provider, turn))


async def _or_busy(asking: Awaitable[T]) -> T:
    try:
        return await asking
    except LEDGER_ERRORS as error:
        message = f"the ledger does not answer: {error}"
        raise ModelBusy("unavailable", message, after_s=_LEDGER_AGAIN_S) from error


async def _or_logged(telling: Awaitable[T]) -> T | None:
    try:
        return await telling
    except LEDGER_ERRORS as error:
        log.warning("model_call_not_settled", error=str(error) or type(error).__name__)
        return None
