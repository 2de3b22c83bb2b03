"""Giving turns: what a call of ``give_turns`` reads and does, whatever waits, and what the group rate counts."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.jobs.groups import Groups
from gateway.jobs.job import JobState, NewJob
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.registry import Registry
from gateway.jobs.store import SQL, Settlement, Store
from tests.support.engine import QUEUE, TASK, policy, rate

Pool = asyncpg.Pool


@pytest.fixture
async def store(pool: Pool) -> Store:
    made = Store(pool, "replica-1", 30_000)
    await made.ensure_queues([QUEUE])
    return made


def groups_of(pool: Pool, declared: QueuePolicy) -> Groups:
    registry = Registry()
    registry.add_queue(declared)
    return Groups(pool, registry)


async def insert(store: Store, group: str, number: int, **more: Any) -> list[UUID]:
    jobs = [NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={}, group=group, **more) for _ in range(number)]
    return [done.id for done in await store.insert(jobs, [3] * number)]


async def end(store: Store, declared: QueuePolicy, number: int) -> list[UUID]:
    claimed = (await store.claim_due(declared, number)).jobs
    await store.settle([Settlement(id=job.id, fence=job.fence, state=JobState.COMPLETED) for job in claimed])
    return [job.id for job in claimed]


async def blocks_read(pool: Pool, statement: str, *args: object) -> int:
    """Pages of PostgreSQL that a statement touches, those of the functions it calls too. Nothing stays of it."""
    async with pool.acquire() as connection, connection.transaction() as transaction:
        del transaction
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", *args)
        text = "\n".join(row[0] for row in rows)
        found = re.search(r"Buffers: shared ([^\n]*)", text)
        assert found is not None, text
        pages = sum(int(number) for name, number in re.findall(r"(hit|read)=(\d+)", found[1]))
        await connection.execute("SAVEPOINT nothing")
        return pages


@pytest.mark.parametrize("analyzed", [False, True])
async def test_I_turns_cost_no_more_with_a_hundred_thousand_blocked_jobs(
    pool: Pool, store: Store, analyzed: bool
) -> None:
    """Also while the planner still has the statistics of an empty table."""
    await pool.execute("ANALYZE jobs")
    one, many = "a small group", "a big group"
    await insert(store, one, 1000)
    small = await blocks_read(pool, SQL["give_turns"], QUEUE, [one], None, 20, None, None)
    await pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts, group_key) SELECT gen_random_uuid(), $1, 't', "
        "'waiting', '{}', 3, CASE n % 2 WHEN 0 THEN $2 ELSE 'g' || n % 1000 END FROM generate_series(1, 100000) n",
        QUEUE,
        many,
    )
    if analyzed:
        await pool.execute("ANALYZE jobs")
    big = await blocks_read(pool, SQL["give_turns"], QUEUE, [many], None, 20, None, None)
    assert big <= 2 * small, (small, big)
    keys = await blocks_read(pool, SQL["blocked_groups"], QUEUE, "", 100)
    assert keys < 1500, keys  # a few pages for each of a hundred groups, not the 100,000 jobs


async def test_turns_are_given_in_order_and_put_at_the_end_of_the_line(pool: Pool, store: Store) -> None:
    groups = groups_of(pool, policy(group_concurrency=2))
    first = await insert(store, "a", 3)
    urgent = await insert(store, "a", 1, priority=5)
    other = await insert(store, "b", 1)
    assert await groups.give(QUEUE, ["b"]) == 1
    assert await groups.give(QUEUE, ["a", "b", "a"]) == 2
    assert await groups.give(QUEUE, ["a"]) == 0
    claimed = (await store.claim_due(policy(), 10)).jobs
    assert [job.id for job in claimed] == [urgent[0], other[0], first[0]]


async def test_two_that_give_at_once_give_no_more_than_one(pool: Pool, store: Store) -> None:
    groups = groups_of(pool, policy(group_concurrency=3))
    names = [f"g{n}" for n in range(20)]
    for name in names:
        await insert(store, name, 10)
    given = await asyncio.gather(*(groups.give(QUEUE, names[::step]) for step in (1, -1, 1, -1, 1, -1)))
    assert sum(given) == 60


async def test_the_rate_counts_starts_and_forgets_them_after_the_window(pool: Pool, store: Store) -> None:
    declared = policy(group_rate=rate(3, 60_000))
    groups = groups_of(pool, declared)
    await insert(store, "a", 10)
    assert await groups.give(QUEUE, ["a"]) == 3
    assert len(await end(store, declared, 2)) == 2
    assert await groups.give(QUEUE, ["a"]) == 0
    assert await pool.fetchval("SELECT count(*) FROM group_starts") == 2
    await pool.execute("UPDATE group_starts SET at = at - interval '61 seconds'")
    assert await groups.give(QUEUE, ["a"]) == 2
    assert await pool.fetchval("SELECT count(*) FROM group_starts") == 0
    await end(store, declared, 3)
    await pool.execute("UPDATE group_starts SET at = at - interval '61 seconds' WHERE true")
    await groups.prune()
    assert await pool.fetchval("SELECT count(*) FROM group_starts") == 0
    await groups.stop()


async def test_without_a_group_rate_no_start_is_noted(pool: Pool, store: Store) -> None:
    declared = policy()
    groups = groups_of(pool, declared)
    await insert(store, "a", 3)
    await groups.give(QUEUE, ["a"])
    assert len(await end(store, declared, 3)) == 3
    assert await pool.fetchval("SELECT count(*) FROM group_starts") == 0


async def test_D_replicas_with_other_group_rates_do_not_make_each_other_forget_starts(pool: Pool, store: Store) -> None:
    """A deploy that brings, changes or takes away a group rate."""
    declared = policy(group_rate=rate(3, 60_000))
    groups, unlimited = groups_of(pool, declared), groups_of(pool, policy())
    shorter = groups_of(pool, policy(group_rate=rate(3, 1000)))
    await insert(store, "a", 20)
    assert await groups.give(QUEUE, ["a"]) == 3
    await unlimited.give(QUEUE, ["b"])
    assert len(await end(store, declared, 1)) == 1
    await shorter.give(QUEUE, ["b"])
    assert len(await end(store, declared, 2)) == 2
    await pool.execute("UPDATE group_starts SET at = at - interval '2 seconds'")
    assert await shorter.give(QUEUE, ["a"]) == 3, "its own window has none of them"
    assert len(await end(store, declared, 3)) == 3
    await unlimited.prune()
    assert await pool.fetchval("SELECT count(*) FROM group_starts") == 6
    assert await groups.give(QUEUE, ["a"]) == 0
    for each in (groups, shorter):
        await each.stop()


async def test_a_window_that_nobody_goes_by_is_shortened_and_then_cleared(pool: Pool, store: Store) -> None:
    async def window() -> int | None:
        found: int | None = await pool.fetchval("SELECT group_window_ms FROM queues WHERE name = $1", QUEUE)
        return found

    groups, shorter = (groups_of(pool, policy(group_rate=rate(3, length))) for length in (60_000, 1000))
    unlimited = groups_of(pool, policy())
    await groups.give(QUEUE, ["a"])
    await pool.execute("UPDATE queues SET group_window_at = now() - interval '59 minutes'")
    await shorter.give(QUEUE, ["a"])
    assert await window() == 60_000
    await groups.give(QUEUE, ["a"])
    assert await pool.fetchval("SELECT now() - group_window_at < interval '1 minute' FROM queues"), "it is in use"
    await pool.execute("UPDATE queues SET group_window_at = now() - interval '62 minutes'")
    await shorter.give(QUEUE, ["a"])
    assert await window() == 1000
    await pool.execute("UPDATE queues SET group_window_at = now() - interval '3 hours'")
    await shorter.prune()
    assert await window() == 1000, "it has this rate itself"
    await unlimited.prune()
    assert await window() is None


async def test_a_job_that_came_too_late_to_start_gets_no_turn(pool: Pool, store: Store) -> None:
    groups = groups_of(pool, policy(group_concurrency=1))
    late = await insert(store, "a", 1)
    await pool.execute("UPDATE jobs SET expires_at = now() - interval '1 second'")
    (fresh,) = await insert(store, "a", 1)
    assert await groups.give(QUEUE, ["a"]) == 1
    assert await pool.fetchval("SELECT id FROM jobs WHERE has_turn") == fresh != late[0]
