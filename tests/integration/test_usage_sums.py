"""Sums of what agents cost: usage that is read from them is what their steps say, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from gateway.infra.migrate import load_migrations, migrate
from gateway.infra.postgres import open_pool
from gateway.infra.sqlfiles import load_sql
from gateway.infra.uuid7 import uuid7
from gateway.problem import Problem
from gateway.services.orchestration.budgets import Budgets, BudgetWatch, cents
from gateway.services.orchestration.upkeep import upkeep_duties
from gateway.services.orchestration.usage import ROWS_MAX, RUN, Usage, UsageFilter, UsageSums
from gateway.settings import Settings
from tests.support.run_rows import project_row

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
SQL: Final = load_sql("gateway.services.orchestration")
GROUPINGS: Final = ((), ("agent",), ("model", "day"), ("agent", "model", "project"), ("project", "day"), (RUN,))
AGENTS, MODELS = ("developer", "marketer", None), ("gpt-5", "gpt-5-mini", None)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


async def begin(pool: Pool, project: UUID, *begun: datetime, **same: Any) -> list[UUID]:
    """A run with steps that were begun then, each of one call and one cent; answers their ids."""
    run = uuid7()
    await pool.execute(
        "INSERT INTO runs (id, project_id, job_type, triggered_by, status, finished_at, told)"
        " VALUES ($1, $2, 'batch', 'api', 'completed', $3, 'completed')",
        *(run, project, begun[-1]),
    )
    steps = []
    for position, at in enumerate(begun):
        steps.append(step := uuid7())
        facts = {"agent": "developer", "model": "gpt-5", "micros": 10_000} | same
        await pool.execute(
            "INSERT INTO run_steps (id, run_id, position, kind, agent_slug, model, started_at, cost_micros, calls,"
            " input_tokens, output_tokens) VALUES ($1, $2, $3, 'agent', $4, $5, $6, $7, 1, 100, 10)",
            *(step, run, position, facts["agent"], facts["model"], at, facts["micros"]),
        )
    return steps


async def spend(connection: Any, step: UUID, micros: int) -> None:
    await connection.execute(SQL["step_spend"], step, 7, 3, micros, 5, False, 1)


async def truth(pool: Pool, wanted: UsageFilter) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What ``Usage.of`` must answer, added up from the steps one by one."""
    steps = await pool.fetch("SELECT * FROM begun_steps ORDER BY started_at, position")
    of_member = await pool.fetch("SELECT project_id FROM project_members WHERE principal = $1", wanted.member)
    mine = {row["project_id"] for row in of_member}
    known: set[tuple[Any, ...]] = set()
    total = _nothing()
    groups: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(_nothing)
    for step in steps:
        if wanted.project_id not in (None, step["project_id"]) or (wanted.member and step["project_id"] not in mine):
            continue
        own = {"agent": step["agent_slug"], "model": step["model"], "project": step["project_id"], RUN: step["run_id"]}
        own["day"] = step["started_at"].astimezone(UTC).date()
        key = tuple(own[name] for name in wanted.by)
        of_run = (step["run_id"],)
        of_group = (*of_run, *(own[name] for name in wanted.by if name in ("agent", "model")), "group")
        first_of_run, first_of_group = of_run not in known, of_group not in known
        known |= {of_run, of_group}
        if wanted.since <= step["started_at"] < wanted.until:
            _add(total, step, first_of_run)
            _add(groups[key], step, first_of_group)
            if RUN in wanted.by:
                groups[key]["runs"] = 1
    named = [dict(zip(wanted.by, key, strict=True)) | _priced(found) for key, found in groups.items()]
    return _priced(total), named if wanted.by else []


def _nothing() -> dict[str, Any]:
    return {"runs": 0, "calls": 0, "inputTokens": 0, "outputTokens": 0, "costCents": 0}


def _add(into: dict[str, Any], step: asyncpg.Record, first: bool) -> None:
    for name, number in zip(
        into, (first, step["calls"], step["input_tokens"], step["output_tokens"], step["cost_micros"]), strict=True
    ):
        into[name] += int(number)


def _priced(figures: dict[str, Any]) -> dict[str, Any]:
    return figures | {"costCents": cents(figures["costCents"])}


async def assert_exact(pool: Pool, *spans: tuple[datetime, datetime], **whose: Any) -> None:
    for since, until in spans:
        for by in GROUPINGS:
            wanted = UsageFilter(since=since, until=until, by=by, **whose)
            total, rows = await Usage(pool).of(wanted)
            true_total, true_rows = await truth(pool, wanted)
            assert plain(total) == true_total, (since, until, by)
            assert sorted(rows, key=str) == sorted(true_rows, key=str), (since, until, by)


def plain(total: Any) -> dict[str, Any]:
    return {
        "runs": total.runs,
        "calls": total.calls,
        "inputTokens": total.input_tokens,
        "outputTokens": total.output_tokens,
        "costCents": total.cost_cents,
    }


async def periods(pool: Pool) -> Sequence[tuple[datetime, timedelta]]:
    rows = await pool.fetch("SELECT starts_at, ends_at - starts_at AS long FROM usage_periods ORDER BY 1")
    return [(row["starts_at"], row["long"]) for row in rows]


def day_of(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_happens_usage_is_what_the_steps_say(pool: Pool, seed: int) -> None:
    """Runs begin, go on, are tried again, pay late, are pruned; sums are made at any time between."""
    random, moment = Random(seed), now()
    projects = [await project_row(pool, owner=owner) for owner in ("ann", "ann", "bob")]
    steps: list[UUID] = []

    def some_time() -> datetime:
        return moment - timedelta(seconds=random.choice((600, 7200, 100_000, 500_000)) * random.random())

    for _ in range(8):
        for _ in range(6):
            match random.randrange(5):
                case 0 | 1:
                    begun = sorted(some_time() for _ in range(random.randint(1, 4)))
                    facts = {"agent": random.choice(AGENTS), "model": random.choice(MODELS)}
                    steps += await begin(pool, random.choice(projects), *begun, **facts)
                case 2 if steps:
                    await spend(pool, random.choice(steps), random.choice((0, 1, 12_345)))
                case 3 if steps:  # a retry
                    again = "UPDATE run_steps SET started_at = $2, model = $3 WHERE id = $1"
                    await pool.execute(again, random.choice(steps), some_time(), random.choice(MODELS))
                case 4:
                    await pool.execute(SQL["prune_runs"], 200_000 * random.random(), random.randint(1, 2))
        for _ in range(random.randrange(3)):
            await pool.fetchval(SQL["usage_sum"], random.random() < 0.3)
        if random.random() < 0.3:
            await UsageSums(pool).hours()
        whole = (moment - 6 * DAY, moment + HOUR)
        await assert_exact(pool, whole, (some_time() - HOUR, some_time() + 2 * HOUR), (some_time() - 2 * DAY, moment))
        await assert_exact(pool, whole, project_id=projects[0])
        await assert_exact(pool, whole, member="ann")
    assert await periods(pool), "it went through sums"


async def test_what_is_summed_is_not_read_from_the_steps(pool: Pool) -> None:
    moment = now()
    project = await project_row(pool)
    for days in (1, 2, 40, 300):
        await begin(pool, project, day_of(moment) - days * DAY + HOUR, day_of(moment) - days * DAY + 3 * HOUR)
    wanted = UsageFilter(since=day_of(moment) - 300 * DAY, until=moment, by=("day",))
    before = await Usage(pool).of(wanted)
    assert (before[0].runs, before[0].cost_cents, len(before[1])) == (4, 8.0, 4)
    assert await UsageSums(pool).hours() > 0
    await pool.execute("ALTER TABLE run_steps DISABLE TRIGGER USER; DELETE FROM run_steps")
    assert await Usage(pool).of(wanted) == before
    assert await UsageSums(pool).hours() == 0, "nothing changed"


async def test_hours_of_a_day_that_is_over_become_one_period_and_late_changes_its_sums(pool: Pool) -> None:
    moment = now()
    project, day = await project_row(pool), day_of(moment - HOUR) - 3 * DAY
    [step, _] = await begin(pool, project, day + HOUR, day + 5 * HOUR)
    # As they were when the day was not over.
    await pool.execute("DELETE FROM usage_marks")
    for hour in (1, 5):
        await pool.execute(
            "INSERT INTO usage_periods VALUES ($1, $1::timestamptz + interval '1 hour')", day + hour * HOUR
        )
    assert await UsageSums(pool).days() > 0
    assert await periods(pool) == [(day, DAY)]
    assert await UsageSums(pool).days() == 0
    span = (day - DAY, moment)
    await assert_exact(pool, span)
    await spend(pool, step, 1)
    await assert_exact(pool, span)
    assert await UsageSums(pool).hours() > 0
    assert await periods(pool) == [(day, DAY)]
    await assert_exact(pool, span)


async def test_an_hour_that_is_not_over_is_read_from_its_steps(pool: Pool) -> None:
    moment = now()
    project = await project_row(pool)
    await begin(pool, project, hour_of(moment) - timedelta(minutes=1), hour_of(moment) + HOUR)
    assert await UsageSums(pool).hours() > 0
    assert [since + long for since, long in await periods(pool)] == [hour_of(moment)]
    assert await pool.fetch("SELECT hour FROM usage_marks") == [(hour_of(moment) + HOUR,)]
    await assert_exact(pool, (moment - DAY, moment + DAY))


async def test_a_change_that_is_not_committed_yet_is_neither_lost_nor_counted_twice(pool: Pool) -> None:
    moment = now()
    project = await project_row(pool)
    [step] = await begin(pool, project, moment - 30 * HOUR)
    span = (moment - 3 * DAY, moment)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await spend(connection, step, 5)
        assert await UsageSums(pool).hours() > 0
        await assert_exact(pool, span)
        await transaction.commit()
    await assert_exact(pool, span)
    assert await UsageSums(pool).hours() > 0
    await assert_exact(pool, span)
    assert await pool.fetchval("SELECT cost_micros FROM usage_sums WHERE grain = 0") == 10_005


async def test_a_day_is_one_of_utc_whatever_the_session_s_time_zone(pool: Pool) -> None:
    """Where clocks were put forward the day has 23 hours: its last hour was summed again and again, without end."""
    short = datetime(2026, 3, 29, 23, 30, tzinfo=UTC)
    await begin(pool, await project_row(pool), short - 3 * HOUR, short)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL timezone = 'Europe/Berlin'")
        assert await connection.fetchval(SQL["usage_sum"], False) > 0
        assert await connection.fetchval(SQL["usage_sum"], False) is None
        assert await connection.fetchval(SQL["usage_sum"], True) is None
    assert await periods(pool) == [(day_of(short), DAY)]


async def test_two_replicas_sum_at_once_and_one_that_ends_in_the_middle_leaves_nothing_half_done(pool: Pool) -> None:
    moment = now()
    project = await project_row(pool)
    for hours in range(2, 200, 6):
        await begin(pool, project, moment - hours * HOUR)
    span = (moment - 10 * DAY, moment)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await connection.fetchval(SQL["usage_sum"], False) > 0
        await transaction.rollback()
    assert await periods(pool) == []
    await assert_exact(pool, span)
    written = await asyncio.gather(*(UsageSums(pool).hours() for _ in range(4)))
    assert sum(written) == await pool.fetchval("SELECT count(*) FROM usage_sums")
    await assert_exact(pool, span)


async def test_pruned_runs_leave_nothing_to_sum_again_and_deleted_ones_do(pool: Pool) -> None:
    moment = now()
    project = await project_row(pool)
    await begin(pool, project, moment - 60 * DAY, moment - 60 * DAY)
    await begin(pool, project, moment - 50 * DAY, micros=0)
    await UsageSums(pool).hours()
    await pool.execute(SQL["prune_runs"], 55 * 86_400.0, 10)
    assert await pool.fetchval("SELECT count(*) FROM pruned_steps") == 2
    assert await pool.fetchval("SELECT count(*) FROM usage_marks") == 0
    span = (moment - 70 * DAY, moment)
    await assert_exact(pool, span)
    await pool.execute("DELETE FROM runs")
    assert await pool.fetchval("SELECT count(*) FROM usage_marks") == 1
    await assert_exact(pool, span)
    await UsageSums(pool).hours()
    await assert_exact(pool, span)


async def test_a_ledger_of_the_version_before_is_summed_by_the_first_run(empty_database_url: str) -> None:
    before = [each for each in load_migrations() if each.name < "0027"]
    await migrate(empty_database_url, migrations=before)
    pool = await open_pool(empty_database_url, max_size=2)
    try:
        moment = now()
        project = await project_row(pool)
        for days in (90, 2, 1, 0):
            await begin(pool, project, moment - days * DAY - HOUR)
        await migrate(empty_database_url)
        span = (moment - 100 * DAY, moment)
        await assert_exact(pool, span)
        await UsageSums(pool).hours()
        found = await periods(pool)
        assert found[0] == (day_of(moment - 90 * DAY - HOUR), DAY) and len(found) >= 90
        await assert_exact(pool, span)
    finally:
        await pool.close()


async def test_a_question_by_run_is_refused_before_many_are_read(pool: Pool) -> None:
    project, day = await project_row(pool), day_of(now() - HOUR) - 2 * DAY
    await pool.execute("INSERT INTO usage_periods VALUES ($1, $1::timestamptz + interval '1 day')", day)
    columns = "(starts_at, grain, runs, steps, calls, input_tokens, output_tokens, cost_micros, uncounted)"
    await pool.execute(f"INSERT INTO usage_sums {columns} VALUES ($1, 0, $2, 9, 9, 9, 9, 9, 0)", day, ROWS_MAX + 1)
    wanted = UsageFilter(since=day, until=day + DAY, by=(RUN,))
    with pytest.raises(Problem, match="more than 2000 rows"):
        await Usage(pool).of(wanted)
    assert (await Usage(pool).of(UsageFilter(since=day, until=day + DAY, by=(RUN,), project_id=project)))[1] == []


async def test_sums_are_made_at_five_past_days_at_one_in_the_night_and_alerts_at_ten_past(pool: Pool) -> None:
    settings = Settings(database_url="postgresql://unused")
    duties = {duty.name: duty for duty in upkeep_duties(pool, settings, BudgetWatch(Budgets(pool)))}
    hourly, daily = duties["sum usage by hour"], duties["sum usage by day"]
    assert (hourly.period_s, hourly.offset_s) == (3600, 300)
    assert (daily.period_s, daily.offset_s) == (86_400, 3600)
    alerts = duties["budget alerts"]
    assert (alerts.period_s, alerts.offset_s) == (3600, 600)
    assert [await duty.run() for duty in (hourly, daily, alerts)] == [0, 0, 0]
