"""Deleting what is old: ended jobs, runs without cost or result, what is only there to look back at, GitHub's pages."""

from __future__ import annotations

from typing import Final

import asyncpg
import msgspec

from gateway.feature import Platform
from gateway.infra.sqlfiles import load_sql
from gateway.jobs.job import JobState
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE

SQL = load_sql("gateway.services.orchestration")

DAY_S: Final = 86_400.0
KEPT_S: Final = 30 * DAY_S  # ticks and deliveries: as long as a delivery of GitHub's is known when it is repeated
PRUNE_S: Final = 3600.0
_ENDED: Final = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
_AT_ONCE: Final = 2000  # rows of one statement
_JOBS_MAX: Final = 1_000_000


class Cleaned(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Rows: jobs of the queue; runs; texts of cut steps, ticks and deliveries; pages of GitHub."""

    queue_jobs_cleaned: int
    db_jobs_cleaned: int
    logs_cleaned: int
    cache_cleaned: int


async def clean(platform: Platform, days: int) -> Cleaned:
    """What is older than ``days``. What was paid, and what agents brought, is kept for good; deliveries for at least
    ``KEPT_S``."""
    pool, age_s = platform.pool, days * DAY_S
    jobs = await platform.inspector.clean(ORCHESTRATION_QUEUE, age_s, _ENDED, _JOBS_MAX)
    logs = await _all(pool, SQL["clean_texts"], age_s) + await _all(pool, SQL["clean_ticks"], age_s)
    logs += await _all(pool, SQL["clean_deliveries"], max(age_s, KEPT_S))
    return Cleaned(
        queue_jobs_cleaned=sum(jobs.values()),
        db_jobs_cleaned=await _all(pool, SQL["clean_runs"], age_s),
        logs_cleaned=logs,
        cache_cleaned=await _all(pool, SQL["clean_pages"], age_s),
    )


async def prune_triggers(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """A chore: ticks and deliveries older than ``KEPT_S``."""
    await _all(pool, SQL["clean_ticks"], KEPT_S)
    await _all(pool, SQL["clean_deliveries"], KEPT_S)


async def _all(pool: asyncpg.Pool[asyncpg.Record], statement: str, age_s: float) -> int:
    """In parts, so that no statement holds many rows; answers how many."""
    total = 0
    while part := int((await pool.execute(statement, age_s, _AT_ONCE)).rpartition(" ")[2]):
        total += part
    return total
