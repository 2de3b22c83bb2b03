"""Deleting what is old: ended jobs, runs without cost or result, what is only there to look back at, GitHub's pages."""

from __future__ import annotations

from functools import partial
from typing import Final

import asyncpg
import msgspec

from gateway.feature import Platform
from gateway.infra.sqlfiles import load_sql
from gateway.jobs.duties import HOUR_S, Duty, in_batches
from gateway.jobs.job import JobState
from gateway.services.orchestration.budgets import BudgetWatch
from gateway.services.orchestration.github.store import prune
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE
from gateway.services.orchestration.usage import UsageSums
from gateway.settings import Settings

SQL = load_sql("gateway.services.orchestration")

MINUTE_S: Final = 60
DAY_S: Final = 86_400.0
KEPT_S: Final = 30 * DAY_S  # ticks and deliveries: as long as a delivery of GitHub's is known when it is repeated
_ENDED: Final = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
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
    logs = await in_batches(pool, SQL["clean_texts"], age_s) + await in_batches(pool, SQL["clean_ticks"], age_s)
    logs += await in_batches(pool, SQL["clean_deliveries"], max(age_s, KEPT_S))
    return Cleaned(
        queue_jobs_cleaned=sum(jobs.values()),
        db_jobs_cleaned=await in_batches(pool, SQL["clean_runs"], age_s),
        logs_cleaned=logs,
        cache_cleaned=await in_batches(pool, SQL["clean_pages"], age_s),
    )


async def prune_triggers(pool: asyncpg.Pool[asyncpg.Record]) -> int:
    """Ticks and deliveries older than ``KEPT_S``; answers how many."""
    ticks = await in_batches(pool, SQL["clean_ticks"], KEPT_S)
    return ticks + await in_batches(pool, SQL["clean_deliveries"], KEPT_S)


def upkeep_duties(pool: asyncpg.Pool[asyncpg.Record], settings: Settings, budgets: BudgetWatch) -> tuple[Duty, ...]:
    """Runs go at one in the night, UTC: what they cost is counted as before (docs/maintenance.md)."""
    duties = [
        Duty(
            "prune pages of GitHub", "Drops answers of GitHub that are old or too many.", HOUR_S, partial(prune, pool)
        ),
        Duty(
            "prune ticks and deliveries",
            "Deletes ticks of schedules and deliveries of webhooks after 30 days.",
            HOUR_S,
            partial(prune_triggers, pool),
        ),
        *_usage_duties(UsageSums(pool), budgets),
    ]
    if days := settings.run_retention_days:
        does = f"Deletes runs that ended {days} days ago, and keeps what they cost."
        run = partial(in_batches, pool, SQL["prune_runs"], days * DAY_S)
        duties.append(Duty("prune runs", does, int(DAY_S), run, offset_s=HOUR_S))
    return tuple(duties)


def _usage_duties(sums: UsageSums, budgets: BudgetWatch) -> tuple[Duty, ...]:
    return (
        Duty(
            "sum usage by hour",
            "Adds up what agents cost in each hour that is over, and again where it changed since.",
            HOUR_S,
            sums.hours,
            offset_s=5 * MINUTE_S,
        ),
        Duty(
            "sum usage by day",
            "Puts the sums of a day's hours together once the day is over.",
            int(DAY_S),
            sums.days,
            offset_s=HOUR_S,
        ),
        Duty(
            "budget alerts",
            "Tells of budgets that are nearly or wholly spent, if no look in between has.",
            HOUR_S,
            budgets.tell,
            offset_s=10 * MINUTE_S,
        ),
    )
