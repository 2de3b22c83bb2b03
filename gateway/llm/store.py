"""Models in the ledger: prices, lanes, limits. One statement each: a process that hangs holds no lock."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql

SQL = load_sql("gateway.llm")
FAILURES_MAX: Final = 5  # in a row, then the lane rests
FIRST_REST_S: Final = 15.0  # after failures; doubled each time
LONGEST_REST_S: Final = 300.0
PROBE_S: Final = 30.0
FIRST_WAIT_S: Final = 5.0  # after a 429 without a time; doubled each time
LONGEST_WAIT_S: Final = 60.0
_MILLION: Final = 1_000_000

Row = asyncpg.Record


class Price(msgspec.Struct, frozen=True):
    """Millionths of a US dollar for a million tokens. ``model`` is the table's name of it."""

    model: str
    provider: str
    input_micros: int
    output_micros: int

    def cost_micros(self, input_tokens: int, output_tokens: int) -> int:
        """Rounded up: what is counted is never less than what is paid."""
        return -(-(input_tokens * self.input_micros + output_tokens * self.output_micros) // _MILLION)


class Admission(msgspec.Struct, frozen=True):
    """``why`` None: the call may be made. Else rate_limited, failing or by_hand (the lane rests), requests or tokens
    (the model's limit), and ``wait_s``. ``turn`` is the lane's: what becomes of the call is told with it."""

    turn: int
    why: str | None
    wait_s: float


class LaneStore:
    """One method per named statement."""

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self._pool = pool

    async def price(self, names: tuple[str, ...]) -> Price | None:
        row = await self._pool.fetchrow(SQL["price"], names)
        return None if row is None else Price(*row.values())

    async def known_models(self) -> list[str]:
        return [row["model"] for row in await self._pool.fetch(SQL["known_models"])]

    async def reserve(self, provider: str, model: str, call_id: UUID, tokens: int) -> Admission:
        (row,) = await self._pool.fetch(SQL["reserve"], provider, model, call_id, tokens, PROBE_S)
        return Admission(row["turn"] or 0, row["why"], row["wait_s"] or 0.0)

    async def settle(self, call_id: UUID, tokens: int) -> None:
        await self._pool.execute(SQL["settle_call"], call_id, tokens)

    async def answered(self, provider: str, turn: int) -> None:
        await self._pool.execute(SQL["lane_answered"], provider, turn)

    async def busy(self, provider: str, turn: int, after_s: float | None, reason: str) -> float:
        """Let the lane rest; answers for how many seconds from now."""
        wait_s = await self._pool.fetchval(
            SQL["lane_busy"], provider, turn, after_s, FIRST_WAIT_S, LONGEST_WAIT_S, reason
        )
        return FIRST_WAIT_S if wait_s is None else max(0.0, float(wait_s))

    async def failed(self, provider: str, turn: int, reason: str) -> bool:
        """Count a failure; answers whether the lane rests because of it."""
        return bool(
            await self._pool.fetchval(
                SQL["lane_failed"], provider, turn, FAILURES_MAX, FIRST_REST_S, LONGEST_REST_S, reason
            )
        )
