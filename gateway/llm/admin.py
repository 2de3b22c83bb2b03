"""Models as administrators see and change them."""

from __future__ import annotations

from datetime import MAXYEAR, date, datetime
from typing import TypeAlias

import asyncpg
import msgspec

from gateway.llm.store import SQL

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class ModelRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Micros are millionths of a US dollar for a million tokens; None: there is no price. Limits None: no limit.
    ``requests_now`` and ``tokens_now`` are those of the last minute, counted where there is a limit."""

    model: str
    provider: str | None
    input_micros: int | None
    output_micros: int | None
    valid_from: datetime | None
    seen_on: date | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    requests_now: int
    tokens_now: int


class LaneRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``paused_until`` None: it is open; ``forever``: until somebody opens it. ``rests`` and ``failures`` in a row."""

    provider: str
    paused_until: datetime | None
    forever: bool
    kind: str | None
    reason: str | None
    rests: int
    failures: int


class NewPrice(msgspec.Struct, frozen=True, kw_only=True):
    """``valid_from`` None: from now on."""

    model: str
    provider: str
    input_micros: int
    output_micros: int
    valid_from: datetime | None = None


async def model_rows(pool: Pool) -> list[ModelRow]:
    return [ModelRow(**row) for row in await pool.fetch(SQL["admin_models"])]


async def lane_rows(pool: Pool) -> list[LaneRow]:
    return [_lane(row) for row in await pool.fetch(SQL["admin_lanes"])]


def _lane(row: asyncpg.Record) -> LaneRow:
    # asyncpg reads 'infinity' as the last moment that Python knows.
    until = row["paused_until"]
    forever = until is not None and until.year == MAXYEAR
    facts = dict(row)
    if until is None:
        facts["kind"] = facts["reason"] = None
    return LaneRow(**facts | {"forever": forever, "paused_until": None if forever else until})


async def set_limit(pool: Pool, model: str, requests: int | None, tokens: int | None, actor: str) -> None:
    await pool.execute(SQL["admin_limit"], model, requests, tokens, actor)


async def set_price(pool: Pool, price: NewPrice) -> None:
    await pool.execute(
        SQL["admin_price"], price.model, price.provider, price.input_micros, price.output_micros, price.valid_from
    )


async def pause(pool: Pool, provider: str, until: datetime | None, reason: str) -> None:
    await pool.execute(SQL["admin_pause"], provider, until, reason)


async def resume(pool: Pool, provider: str) -> None:
    await pool.execute(SQL["admin_resume"], provider)
