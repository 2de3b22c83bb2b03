"""Each named statement of the engine: it prepares, it is used, and its plan does not depend on statistics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.jobs.job import JobState, NewJob
from gateway.jobs.store import SQL, Settlement, Store
from tests.support.engine import QUEUE, TASK, policy, rate

Pool = asyncpg.Pool
JOBS = Path(__file__).parents[2] / "gateway" / "jobs"


@pytest.mark.parametrize("name", sorted(SQL))
async def test_each_statement_prepares_with_the_types_that_its_header_names(pool: Pool, name: str) -> None:
    async with pool.acquire() as connection:
        statement = await connection.prepare(SQL[name])
        described = [param.type for param in SQL.describe(name).params]
        aliases = {"int2": "smallint", "int4": "integer", "int8": "bigint", "float8": "double precision"}
        prepared = []
        for parameter in statement.get_parameters():
            base = parameter.name.removesuffix("[]")
            prepared.append(aliases.get(base, base) + ("[]" if parameter.name.endswith("[]") else ""))
        assert prepared == described


def test_each_statement_is_used() -> None:
    code = "".join(path.read_text() for path in JOBS.glob("*.py"))
    used = set(re.findall(r'SQL\["(\w+)"\]', code))
    assert used == set(SQL)


def _new(n: int, **changes: Any) -> NewJob:
    return NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}, **changes)


@pytest.fixture
async def store(pool: Pool) -> Store:
    made = Store(pool, "replica-1", 30_000)
    await made.ensure_queues([QUEUE])
    return made


async def _plan(pool: Pool, name: str, *args: object) -> str:
    rows = await pool.fetch(f"EXPLAIN {SQL[name]}", *args)
    return "\n".join(row[0] for row in rows)


async def test_I_plans_hold_with_the_statistics_of_an_empty_table(pool: Pool, store: Store) -> None:
    """A burst comes between two analyses: the planner still believes that nothing waits and nothing runs."""
    await pool.execute("ANALYZE jobs")
    await store.insert([_new(n) for n in range(3000)], [3] * 3000)
    claimed = (await store.claim_due(policy(), 20)).jobs
    ids: list[UUID] = [job.id for job in claimed]
    fences = [job.fence for job in claimed]
    n = len(ids)
    plans = {
        "claim_due": await _plan(pool, "claim_due", QUEUE, 10, "w", 30_000, None, None),
        "claim_ids": await _plan(pool, "claim_ids", QUEUE, ids, "w", 30_000, None, None),
        "settle": await _plan(
            pool,
            "settle",
            *(ids, fences, ["completed"] * n, [None] * n, [None] * n, [None] * n),
            *([0.0] * n, [0] * n, [True] * n),
        ),
        "renew": await _plan(pool, "renew", ids, fences, 30_000),
    }
    for name, plan in plans.items():
        assert "Seq Scan on jobs" not in plan, f"{name}\n{plan}"
    for name in ("claim_ids", "settle", "renew"):
        assert "jobs_pkey" in plans[name], f"{name}\n{plans[name]}"
        assert "jobs_active" not in plans[name], f"{name}\n{plans[name]}"
    assert "jobs_waiting" in plans["claim_due"]


async def test_I_a_claim_reads_no_more_with_a_hundred_times_the_backlog(pool: Pool, store: Store) -> None:
    async def buffers() -> int:
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {SQL['claim_due']}", QUEUE, 10, "w", 30_000, None, None
            )
            plan = rows[0][0][0]["Plan"]
            raise _Undo(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    async def measure() -> int:
        try:
            return await buffers()
        except _Undo as undo:
            return undo.value

    await store.insert([_new(n) for n in range(200)], [3] * 200)
    small = await measure()
    for _ in range(20):
        await store.insert([_new(n) for n in range(1000)], [3] * 1000)
    assert await measure() <= small * 2


class _Undo(Exception):
    def __init__(self, value: int) -> None:
        self.value = value


async def test_B_a_settlement_with_an_old_fence_changes_nothing(pool: Pool, store: Store) -> None:
    await store.insert([_new(1)], [3])
    old = (await store.claim_due(policy(), 1)).jobs[0]
    await pool.execute("UPDATE jobs SET lease_until = now() - interval '1 s'")
    await store.rescue(2)
    new = (await store.claim_due(policy(), 1)).jobs[0]
    stale = Settlement(id=old.id, fence=old.fence, state=JobState.COMPLETED, result='"stale"')
    assert await store.settle([stale]) == {}
    assert await store.renew([(old.id, old.fence), (new.id, new.fence)]) == {(new.id, new.fence)}
    fresh = Settlement(id=new.id, fence=new.fence, state=JobState.COMPLETED, result='"fresh"')
    assert set(await store.settle([stale, fresh])) == {(new.id, new.fence)}
    assert await pool.fetchval("SELECT result FROM jobs") == "fresh"


async def test_D_the_window_counts_claims_whoever_makes_them(pool: Pool, store: Store) -> None:
    limited = policy(rate=rate(10, 60_000))
    other = Store(pool, "replica-2", 30_000)
    inserted = await store.insert([_new(n) for n in range(30)], [3] * 30)
    first = await store.claim_due(limited, 6)
    assert (len(first.jobs), first.retry_after_s) == (6, None)
    second = await other.claim_ids(limited, [job.id for job in inserted[6:14]])
    assert len(second.jobs) == 4
    assert second.retry_after_s is not None
    assert 55 < second.retry_after_s <= 60
    third = await store.claim_due(limited, 1)
    assert third.jobs == []
    assert third.retry_after_s is not None


async def test_prune_keeps_what_retention_promises(pool: Pool, store: Store) -> None:
    await store.insert([_new(n) for n in range(8)], [3] * 8)
    for n, job in enumerate((await store.claim_due(policy(), 8)).jobs):
        state = JobState.FAILED if n < 3 else JobState.COMPLETED
        await store.settle([Settlement(id=job.id, fence=job.fence, state=state)])
    await pool.execute("UPDATE jobs SET finished_at = now() - interval '2 days' WHERE (args->>'n')::int IN (0, 3)")
    await pool.execute("UPDATE jobs SET finished_at = now() - interval '8 days' WHERE (args->>'n')::int = 1")
    assert await store.prune_by_age(QUEUE, JobState.COMPLETED, 86_400) == 1
    assert await store.prune_by_age(QUEUE, JobState.FAILED, 604_800) == 1
    assert await store.prune_by_count(QUEUE, 3) == 1
    left = [row[0] for row in await pool.fetch("SELECT args->>'n' FROM jobs ORDER BY 1")]
    assert left == ["0", "2", "5", "6", "7"]
