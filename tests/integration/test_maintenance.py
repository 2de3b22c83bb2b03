"""Duties: one runner for each tick over all replicas, a row for each run, and what is shown of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest

from gateway.jobs.duties import DAY_S, HOUR_S, Duty, DutyBook
from gateway.jobs.maintenance import Maintenance
from gateway.jobs.records import Records
from gateway.jobs.store import SQL
from gateway.runtime import Runtime
from tests.support.eventually import eventually
from tests.support.people import data, people, refused
from tests.support.web import ADMIN, serving, settings_for

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PATH = "/api/v1/admin/maintenance"


class Work:
    def __init__(self, rows: int = 0) -> None:
        self.rows = rows
        self.times = 0
        self.breaks: Exception | None = None

    async def __call__(self) -> int:
        self.times += 1
        if self.breaks is not None:
            raise self.breaks
        return self.rows


def duty(work: Work, period_s: int = HOUR_S, offset_s: int = 0) -> Duty:
    return Duty("sweep", "Sweeps.", period_s, work, offset_s)


async def lives(pool: Pool, name: str) -> None:
    await pool.execute(
        "INSERT INTO replicas (id, role, version, host, pid, mode, slots)"
        " VALUES ($1, 'all', '1', 'h', 1, 'direct', '{}')",
        name,
    )


async def runs(pool: Pool) -> list[dict[str, Any]]:
    return [dict(row) for row in await pool.fetch("SELECT * FROM maintenance_runs ORDER BY id")]


async def test_of_all_that_ask_one_gets_the_tick(pool: Pool) -> None:
    for name in "abcdefgh":
        await lives(pool, name)
    asked = await asyncio.gather(*(DutyBook(pool, name).begin(duty(Work())) for name in "abcdefgh"))
    assert sum(run_id is not None for run_id, _ in asked) == 1
    assert all(0 < wait_s <= 60 for _, wait_s in asked)


@pytest.mark.parametrize(
    ("period_s", "offset_s", "expected"),
    [
        pytest.param(HOUR_S, 300, "extract(minute FROM tick) = 5", id="hourly at :05"),
        pytest.param(DAY_S, HOUR_S, "to_char(tick AT TIME ZONE 'UTC', 'HH24:MI') = '01:00'", id="daily at 01:00"),
    ],
)
async def test_a_tick_is_the_last_moment_by_the_clock(pool: Pool, period_s: int, offset_s: int, expected: str) -> None:
    await DutyBook(pool, "a").begin(duty(Work(), period_s, offset_s))
    kept = f"tick <= now() AND tick > now() - {period_s} * interval '1 second'"
    assert await pool.fetchval(f"SELECT {expected} AND {kept} FROM maintenance_runs") is True


async def test_a_run_of_a_replica_that_vanished_is_taken_over_and_its_late_end_changes_nothing(pool: Pool) -> None:
    await lives(pool, "a")
    gone, heir = DutyBook(pool, "a"), DutyBook(pool, "b")
    first, _ = await gone.begin(duty(Work()))
    assert (await heir.begin(duty(Work())))[0] is None, "its replica lives"
    await pool.execute("UPDATE replicas SET seen_at = now() - interval '1 minute'")
    second, _ = await heir.begin(duty(Work()))
    assert second == first is not None
    await gone.end(second, rows=9)
    await heir.end(second, rows=4)
    [row] = await runs(pool)
    assert (row["replica"], row["tries"], row["rows"], row["error"]) == ("b", 2, 4, None)


async def test_a_run_whose_end_could_not_be_written_is_done_again_by_the_same_replica(pool: Pool) -> None:
    await lives(pool, "a")
    await lives(pool, "b")
    first, _ = await DutyBook(pool, "a").begin(duty(Work()))  # then the ledger is away for a moment
    assert (await DutyBook(pool, "b").begin(duty(Work())))[0] is None, "it may still run"
    again, _ = await DutyBook(pool, "a").begin(duty(Work()))
    assert again == first is not None


async def test_J_the_last_run_of_each_duty_costs_the_same_however_many_there_were(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO maintenance_runs (duty, tick, replica, rows)"
        " SELECT 'duty ' || n % 4, now() - n * interval '1 minute', 'a', n FROM generate_series(1, 20000) AS n"
    )
    await pool.execute("ANALYZE maintenance_runs")
    last = await DutyBook(pool, "a").last_runs()
    assert {name: run.rows for name, run in last.items()} == {f"duty {n}": n or 4 for n in range(4)}
    [plan] = await pool.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {SQL['duty_last_runs']}")
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 50


async def test_a_failed_run_is_kept_with_its_error_and_tried_again_three_times_at_most(pool: Pool) -> None:
    book = DutyBook(pool, "a")
    for tries in (1, 2, 3):
        run_id, _ = await book.begin(duty(Work()))
        assert run_id is not None
        await book.end(run_id, error=f"ValueError: no. {tries}" + "x" * 600)
        assert (await book.begin(duty(Work())))[0] is None, "not at once"
        await pool.execute("UPDATE maintenance_runs SET finished_at = now() - interval '2 minutes'")
    assert (await book.begin(duty(Work())))[0] is None
    [row] = await runs(pool)
    assert (row["tries"], row["error"][:18], len(row["error"])) == (3, "ValueError: no. 3x", 500)


async def test_replicas_share_a_duty_and_each_run_leaves_a_row(pool: Pool) -> None:
    work, broken = Work(rows=3), Work()
    broken.breaks = RuntimeError("the disk is full")
    duties = (duty(work), Duty("broken", "Breaks.", HOUR_S, broken))
    made = []
    for name in "ab":
        await lives(pool, name)
        made.append(Maintenance(Records(pool), DutyBook(pool, name), name, duties))
    await asyncio.gather(*(each.start() for each in made))
    try:
        rows = await eventually(lambda: _ended(pool, 2))
        assert {row["duty"]: (row["rows"], row["error"]) for row in rows} == {
            "sweep": (3, None),
            "broken": (None, "RuntimeError: the disk is full"),
        }
        assert (work.times, broken.times) == (1, 1)
    finally:
        await asyncio.gather(*(each.stop() for each in made))


async def _ended(pool: Pool, number: int) -> list[dict[str, Any]] | None:
    found = await runs(pool)
    return found if len([row for row in found if row["finished_at"]]) == number else None


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[tuple[httpx.AsyncClient, Runtime]]:
    async with serving(settings_for(database_url)) as (client, runtime):
        client.headers.update(ADMIN)
        yield client, runtime


async def test_duties_and_runs_over_http(served: tuple[httpx.AsyncClient, Runtime]) -> None:
    client, runtime = served

    async def all_ran() -> list[dict[str, Any]] | None:
        found = data(await client.get(PATH))
        return found if all(one["lastRun"] and one["lastRun"]["finishedAt"] for one in found) else None

    found = await eventually(all_ran, 30)
    assert found is not None
    named = {one["name"]: one for one in found}
    assert named.keys() >= {"prune jobs", "prune e-mails", "remove e-mail content", "prune runs", "prune audit"}
    assert (named["prune runs"]["periodS"], named["prune runs"]["offsetS"]) == (DAY_S, HOUR_S)
    assert {one["lastRun"]["error"] for one in found} == {None}
    assert {one["lastRun"]["replica"] for one in found} == {runtime.replica_id}
    first = (await client.get(f"{PATH}/runs?limit=2")).json()
    rest = (await client.get(f"{PATH}/runs?limit=100&cursor={first['page']['nextCursor']}")).json()
    ids = [run["id"] for run in [*first["data"], *rest["data"]]]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) >= len(found)
    only = data(await client.get(f"{PATH}/runs", params={"duty": "prune e-mails"}))
    assert [run["duty"] for run in only] == ["prune e-mails"]


async def test_wrong_questions_name_what_is_wrong(served: tuple[httpx.AsyncClient, Runtime]) -> None:
    client, runtime = served
    for query, field in (("limit=0", "limit"), ("cursor=x", "cursor"), ("duty=prune", "duty"), ("duties=1", "duties")):
        answer = await client.get(f"{PATH}/runs?{query}")
        assert answer.status_code == 400, query
        assert answer.json()["error"]["details"][0]["field"] == field
    user = people(runtime)("ann")
    client.headers.pop("authorization")
    refused(await client.get(PATH, headers=user), 403, "insufficient_scope")


async def test_retention_that_is_off_is_no_duty(database_url: str) -> None:
    off = {f"{name}_retention_days": 0 for name in ("email_content", "email", "run", "conversation", "audit")}
    async with serving(settings_for(database_url, **off)) as (_, runtime):
        names = {each.name for each in runtime.maintenance.duties}
    assert not names & {"remove e-mail content", "prune e-mails", "prune runs", "prune conversations", "prune audit"}
    assert "prune jobs" in names


async def test_a_leader_that_stops_while_it_renews_its_lease_leaves_it_to_another(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.maintenance.LEADER_RENEW_S", 1.0)
    maintenance = Maintenance(Records(pool), DutyBook(pool, "a"), "a", ())
    await maintenance.start()
    await eventually(lambda: maintenance.leading)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE leases")
        await eventually(lambda: _waits_for_a_lock(pool))
        stopping = asyncio.create_task(maintenance.stop())
        await eventually(lambda: not maintenance.leading)
    await stopping
    assert await pool.fetch("SELECT * FROM leases") == []


async def _waits_for_a_lock(pool: Pool) -> bool:
    here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    return bool(await pool.fetchval(f"SELECT count(*) FROM pg_locks WHERE NOT granted AND database = {here}"))
