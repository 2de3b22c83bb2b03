"""The tables of migration 0013: one method per named statement."""

from __future__ import annotations

from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.jobs.duties import in_batches, rows_of
from gateway.services.orchestration.github.figures import Analysis

SQL = load_sql("gateway.services.orchestration.github")

PAGES_KEPT_S: Final = 7 * 86_400
PAGES_MAX_BYTES: Final = 256_000_000
PAGE_MAX_BYTES: Final = 2_000_000
ANALYSES_KEPT_S: Final = 30 * 86_400

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class KeptPage(msgspec.Struct, frozen=True, kw_only=True):
    """``fresh``: not older than was asked for. ``body`` is our JSON of it."""

    etag: str | None
    next: str | None
    body: bytes
    fresh: bool


class KeptAnalysis(msgspec.Struct, frozen=True, kw_only=True):
    analysis: Analysis
    analysed_at: datetime
    age_s: float


class Pages:
    """Pages and the rest of one lane (``Api.lane``)."""

    def __init__(self, pool: Pool, lane: str) -> None:
        self._pool = pool
        self._lane = lane

    async def read(self, key: bytes, age_s: float) -> tuple[KeptPage | None, float]:
        """The page, and for how many seconds the lane must rest (0: it need not)."""
        row = await self._pool.fetchrow(SQL["read_page"], key, self._lane, age_s)
        if row is None:
            return None, 0.0
        page = None
        if row["body"] is not None:
            page = KeptPage(etag=row["etag"], next=row["next"], body=row["body"], fresh=row["fresh"])
        return page, row["rest_s"]

    async def keep(self, key: bytes, of: tuple[str, str], page: KeptPage) -> None:
        """``of``: repository and kind. What is larger than ``PAGE_MAX_BYTES`` is not kept."""
        if len(page.body) <= PAGE_MAX_BYTES:
            await self._pool.execute(SQL["keep_page"], key, *of, page.etag, page.next, page.body)

    async def confirm(self, key: bytes) -> None:
        """It stands as it did: GitHub said 304."""
        await self._pool.execute(SQL["confirm_page"], key)

    async def rest(self, after_s: float, reason: str) -> None:
        """No call of this lane for ``after_s`` seconds, in any replica."""
        await self._pool.execute(SQL["rest_lane"], self._lane, after_s, reason)

    async def rests_s(self) -> float:
        return float(await self._pool.fetchval(SQL["lane_rest"], self._lane) or 0.0)


class AnalysisStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep(self, project_id: UUID, analysis: Analysis, run_id: UUID | None = None) -> None:
        """The later analysis stays, whichever comes first."""
        await self._pool.execute(
            SQL["keep_analysis"],
            project_id,
            analysis.period_hours,
            analysis.repository,
            run_id,
            analysis,
            analysis.until,
        )

    async def latest(self, project_id: UUID, period_hours: int) -> KeptAnalysis | None:
        row = await self._pool.fetchrow(SQL["latest_analysis"], project_id, period_hours)
        if row is None:
            return None
        analysis = msgspec.convert(row["analysis"], Analysis)
        return KeptAnalysis(analysis=analysis, analysed_at=row["analysed_at"], age_s=row["age_s"])


async def prune(pool: Pool) -> int:
    """Pages that are old, or too many in bytes (the oldest go), and analyses nobody renewed; answers how many."""
    pages = await in_batches(pool, SQL["prune_pages"], float(PAGES_KEPT_S), PAGES_MAX_BYTES)
    await pool.execute(SQL["prune_lanes"])
    return pages + rows_of(await pool.execute(SQL["prune_analyses"], float(ANALYSES_KEPT_S)))
