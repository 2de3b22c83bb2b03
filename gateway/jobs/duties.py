"""Upkeep that is done once in each period over all replicas, each time with a row that says what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from gateway.jobs.records import ALIVE_S
from gateway.jobs.store import SQL, Row

HOUR_S: Final = 3600
DAY_S: Final = 86_400
TRIES_MAX: Final = 3  # of one tick
RETRY_S: Final = 60.0
KEPT_S: Final = 30.0 * DAY_S
SILENT_REPLICAS_S: Final = 7.0 * DAY_S
BATCH: Final = 1000  # rows of one statement: it ends in milliseconds, so it holds nobody up
_ERROR_MAX: Final = 500  # characters


@dataclass(frozen=True, slots=True)
class Duty:
    """``run`` answers how many rows it took or wrote. It is due at each multiple of ``period_s`` since 1970, plus
    ``offset_s``, by ledger time: 3600 and 300 is five past each hour, UTC. A tick that passed while no replica was up
    is caught up with, the newest one only.

    ``does``: for people, one sentence.
    """

    name: str
    does: str
    period_s: int
    run: Callable[[], Awaitable[int]]
    offset_s: int = 0


class DutyRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``tick``: when it was due. ``finished_at`` None: it runs, or its replica vanished."""

    id: int
    duty: str
    tick: datetime
    replica: str
    tries: int
    started_at: datetime
    finished_at: datetime | None
    rows: int | None
    error: str | None


class DutyBook:
    """Whose turn it is, and what came of it. Raises what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool[Row], replica: str) -> None:
        self._pool = pool
        self._replica = replica

    async def begin(self, duty: Duty) -> tuple[int | None, float]:
        """The id of a run that is now this replica's, or None; and the seconds until it makes sense to ask again."""
        row = await self._pool.fetchrow(
            SQL["duty_begin"],
            duty.name,
            float(duty.period_s),
            float(duty.offset_s),
            self._replica,
            ALIVE_S,
            TRIES_MAX,
            RETRY_S,
        )
        return (None, RETRY_S) if row is None else (row["id"], row["wait_s"])

    async def end(self, run_id: int, *, rows: int | None = None, error: str | None = None) -> None:
        shown = None if error is None else error[:_ERROR_MAX]
        await self._pool.execute(SQL["duty_end"], run_id, self._replica, rows, shown)

    async def newest(self, duty: str | None, before: int | None, limit: int) -> list[DutyRun]:
        rows = await self._pool.fetch(SQL["duty_runs"], duty, before, limit)
        return [DutyRun(**row) for row in rows]

    async def last_runs(self) -> dict[str, DutyRun]:
        """The newest run of each duty that ever ran."""
        return {row["duty"]: DutyRun(**row) for row in await self._pool.fetch(SQL["duty_last_runs"])}


async def in_batches(pool: asyncpg.Pool[Row], statement: str, *arguments: object, batch: int = BATCH) -> int:
    """Run a statement whose last parameter is how many rows it may take, until it takes none; answers how many."""
    total = 0
    while part := rows_of(await pool.execute(statement, *arguments, batch)):
        total += part
    return total


def rows_of(status: str) -> int:
    """``DELETE 12`` is 12: what PostgreSQL answers to a statement that returns no rows."""
    return int(status.rpartition(" ")[2])


def own_duties(pool: asyncpg.Pool[Row]) -> tuple[Duty, ...]:
    """Of the tables that these duties themselves need."""

    async def prune_runs() -> int:
        return await in_batches(pool, SQL["duty_prune"], KEPT_S)

    async def prune_replicas() -> int:
        return await in_batches(pool, SQL["prune_replicas"], SILENT_REPLICAS_S)

    return (
        Duty("prune runs of duties", "Deletes these rows after 30 days.", DAY_S, prune_runs),
        Duty("prune replicas", "Forgets replicas that fell silent 7 days ago.", DAY_S, prune_replicas),
    )
