"""Jobs that are not worth starting after a time, in both modes (Q27)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from gateway.jobs.deadlines import Deadlines
from gateway.jobs.job import JobRecord, JobState
from gateway.jobs.store import SQL
from tests.support.engine import Replica, policy, replica
from tests.support.eventually import eventually

Pool = asyncpg.Pool


@pytest.fixture(params=["queue", "direct"])
async def one(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[Replica]:
    """A replica whose slots and chores are not started."""
    url = request.getfixturevalue("redis_url") if request.param == "queue" else None
    async with replica(pool, url, patience_s=5, queue=policy(concurrency=1, backoff_ms=1)) as made:
        yield made


def ahead(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def has_state(one: Replica, job_id: UUID, state: JobState) -> JobRecord:
    job = await one.engine.get(job_id)
    assert job.state is state, job
    return job


async def let_pass(pool: Pool, job_id: UUID) -> None:
    await pool.execute("UPDATE jobs SET expires_at = now() - interval '1 second' WHERE id = $1", job_id)


async def test_a_job_that_was_not_started_in_time_is_cancelled_and_says_so(one: Replica) -> None:
    expires_at = ahead(0.1)
    late = await one.submit(1, expires_at=expires_at)
    lasting = await one.submit(2, expires_at=ahead(60))
    await one.maintenance.start()
    job = await eventually(lambda: has_state(one, late, JobState.CANCELLED), 10)
    reason = f"not started by {expires_at:%Y-%m-%dT%H:%M:%SZ}"
    assert job.error == f"expired: {reason}"
    assert [(entry.attempt, entry.kind, entry.error) for entry in job.errors] == [(0, "expired", reason)]
    assert (job.expires_at, job.attempts) == (expires_at, 0)
    assert job.finished_at is not None
    await one.work()
    await eventually(lambda: one.script.names == [2])
    await eventually(lambda: has_state(one, lasting, JobState.COMPLETED))
    counts = (await one.engine.all_counts())[job.queue]
    assert (counts.waiting, counts.completed, counts.cancelled) == (0, 1, 1)


async def test_a_late_job_is_not_started_before_the_chore_comes(one: Replica, pool: Pool) -> None:
    late = await one.submit(1, expires_at=ahead(60))
    await let_pass(pool, late)
    await one.work()
    await one.submit(2)
    await eventually(lambda: one.script.names == [2])
    await has_state(one, late, JobState.WAITING)


async def test_a_delayed_job_expires_too(one: Replica, pool: Pool) -> None:
    late = await one.submit(1, run_at=ahead(60), expires_at=ahead(90))
    await let_pass(pool, late)
    await Deadlines(pool).expire()
    assert "expired" in str((await has_state(one, late, JobState.CANCELLED)).error)


async def test_a_job_that_has_started_is_retried_past_its_deadline(one: Replica, pool: Pool) -> None:
    tries = 0

    async def fail_once(_args: dict[str, Any], _context: object) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("the first try fails")

    one.script.behave = fail_once
    job_id = await one.submit(1, expires_at=ahead(30))
    await one.work()
    await eventually(lambda: has_state(one, job_id, JobState.DELAYED))
    assert (await one.engine.get(job_id)).expires_at is None
    await Deadlines(pool).expire()
    await one.keeper.promote()
    await eventually(lambda: has_state(one, job_id, JobState.COMPLETED))


async def late_and_expired(one: Replica, pool: Pool, job_id: UUID) -> None:
    await eventually(lambda: has_no_holder(one, job_id))
    assert (await one.engine.get(job_id)).expires_at is not None
    await let_pass(pool, job_id)
    await Deadlines(pool).expire()
    job = await has_state(one, job_id, JobState.CANCELLED)
    assert job.attempts == 0
    assert one.script.started == []


async def has_no_holder(one: Replica, job_id: UUID) -> bool:
    return (await one.engine.get(job_id)).state in (JobState.WAITING, JobState.DELAYED)


@pytest.mark.parametrize("how", ["handed back", "froze", "unheard", "unknown task"])
async def test_a_claim_that_never_began_keeps_its_deadline(one: Replica, pool: Pool, how: str) -> None:
    job_id = await one.submit(1, expires_at=ahead(60))
    (claimed,) = (await one.store.claim_due(policy(), 1)).jobs
    asked = time.monotonic()
    match how:
        case "handed back":
            await one.executor.hand_back([claimed])
        case "froze":
            await one.executor.run(claimed, asked - 60)
        case "unheard":
            assert len(await one.store.release_unknown([], 0.0)) == 1
        case _:
            await one.executor.run(msgspec.structs.replace(claimed, task="of.another.version"), asked)
    await late_and_expired(one, pool, job_id)


@pytest.mark.parametrize("how", ["rescued", "interrupted"])
async def test_a_claim_that_may_have_begun_has_no_deadline(one: Replica, pool: Pool, how: str) -> None:
    job_id = await one.submit(1, expires_at=ahead(60))
    (claimed,) = (await one.store.claim_due(policy(), 1)).jobs
    if how == "rescued":
        await pool.execute("UPDATE jobs SET lease_until = now() - interval '1 second'")
        assert len(await one.store.rescue(2)) == 1
    else:
        began = asyncio.Event()

        async def wait(_args: dict[str, Any], _context: object) -> None:
            began.set()
            await asyncio.Event().wait()

        one.script.behave = wait
        running = asyncio.create_task(one.executor.run(claimed, time.monotonic()))
        await began.wait()
        running.cancel()
        await asyncio.wait([running])
    await eventually(lambda: has_no_holder(one, job_id))
    assert (await one.engine.get(job_id)).expires_at is None


async def test_a_running_job_is_not_cut_at_its_deadline(one: Replica, pool: Pool) -> None:
    go_on = asyncio.Event()

    async def wait(_args: dict[str, Any], _context: object) -> None:
        await go_on.wait()

    one.script.behave = wait
    job_id = await one.submit(1, expires_at=ahead(30))
    await one.work()
    await eventually(lambda: has_state(one, job_id, JobState.ACTIVE))
    await let_pass(pool, job_id)
    await Deadlines(pool).expire()
    go_on.set()
    await eventually(lambda: has_state(one, job_id, JobState.COMPLETED))


async def test_a_replay_of_an_expired_job_has_no_deadline(one: Replica, pool: Pool) -> None:
    late = await one.submit(1, expires_at=ahead(60))
    await let_pass(pool, late)
    await Deadlines(pool).expire()
    again = await one.inspector.replay(late, {"n": 3})
    assert again.expires_at is None
    await one.work()
    await eventually(lambda: one.script.names == [3])


async def test_many_expire_in_statements_of_bounded_size(one: Replica, pool: Pool) -> None:
    for n in range(3):
        await one.submit(n, expires_at=ahead(60))
    await pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts, expires_at)"
        " SELECT gen_random_uuid(), queue, task, 'waiting', args, 3, now() - interval '1 second'"
        " FROM jobs, generate_series(1, 400)"
    )
    await Deadlines(pool).expire()
    counts = (await one.engine.all_counts())["email-queue"]
    assert (counts.waiting, counts.cancelled) == (3, 1200)


async def test_I_looking_for_late_jobs_reads_only_those_with_a_deadline(one: Replica, pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts)"
        " SELECT gen_random_uuid(), 'email-queue', 'test.task', 'waiting', '{}', 3 FROM generate_series(1, 20000)"
    )
    plan = "\n".join(row[0] for row in await pool.fetch(f"EXPLAIN {SQL['expire']}", 500))
    assert "jobs_expiring" in plan
    assert "Seq Scan" not in plan
