"""Where an engine loses jobs, or charges the wrong one: lost answers, frozen processes, stray data, dead leaders."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis.asyncio as aioredis

from gateway.infra.loops import Loop
from gateway.infra.postgres import open_pool
from gateway.infra.uuid7 import uuid7
from gateway.jobs.direct_broker import DirectBroker
from gateway.jobs.errors import Snooze
from gateway.jobs.job import JobState, NewJob
from gateway.jobs.settler import Refused, Settler
from gateway.jobs.store import Settlement, Store
from tests.support.engine import QUEUE, TASK, Replica, Script, policy, rate, replica
from tests.support.eventually import eventually
from tests.support.proxy import Proxy

Pool = asyncpg.Pool
URLS = pytest.mark.parametrize("with_redis", [True, False], ids=["queue", "direct"])


def _job(n: Any = 0) -> NewJob:
    return NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n})


async def test_A_a_worker_finds_jobs_that_nobody_told_redis_about_even_without_a_leader(
    pool: Pool, redis_url: str
) -> None:
    async with replica(pool, redis_url) as one:
        await one.work()
        async with pool.acquire() as connection:
            await one.engine.insert(connection, [_job("silent")])
        await eventually(lambda: one.script.names == ["silent"], timeout=20)


@URLS
async def test_a_limited_queue_with_permits_left_starts_a_lone_job_at_once(
    pool: Pool, redis_url: str, with_redis: bool
) -> None:
    limited, took = policy(rate=rate(5, 60_000), concurrency=3), []
    async with replica(pool, redis_url if with_redis else None, queue=limited, patience_s=5) as one:
        await one.work()
        for n in range(5):
            began = time.monotonic()
            await one.submit(n)
            await eventually(partial(_completed, one, n + 1))
            took.append(time.monotonic() - began)
    assert sorted(took)[1] < 1, "a busy machine may hold up some, not nearly all"


def _completed(one: Replica, number: int) -> bool:
    return len(one.settled("completed")) == number


async def test_D_a_clock_that_was_set_back_does_not_stop_a_queue(pool: Pool) -> None:
    store = Store(pool, "replica-1", 30_000)
    await store.ensure_queues([QUEUE])
    await pool.execute(
        "UPDATE queues SET start_times = ARRAY[now() + interval '20 min'], start_counts = ARRAY[10] WHERE name = $1",
        QUEUE,
    )
    await store.insert([_job()], [3])
    assert len((await store.claim_due(policy(rate=rate(10, 1000)), 5)).jobs) == 1


@URLS
async def test_F_claims_that_were_never_heard_of_are_handed_back_without_a_stall(
    pool: Pool, redis_url: str, with_redis: bool
) -> None:
    async with replica(pool, redis_url if with_redis else None) as one:
        job_id = await one.submit(1)
        await one.store.claim_due(policy(), 1)  # its answer was lost with its connection
        await pool.execute("UPDATE jobs SET claimed_at = now() - interval '6 s'")
        await one.leases._keep()
        await one.work()
        await eventually(lambda: one.settled("completed"))
        job = await one.engine.get(job_id)
        assert (job.attempts, job.stalls) == (1, 0)


async def test_F_unheard_claims_are_handed_back_also_while_fetches_are_under_way(pool: Pool) -> None:
    """Under load one nearly always is."""
    async with replica(pool, None, queue=policy(rate=rate(100, 1000))) as one:
        job_id = await one.submit(1)
        await one.store.claim_due(policy(), 1)
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM queues FOR UPDATE")  # fetches wait for it
            await one.work()
            await eventually(lambda: one.dispatcher.fetching_s > 0)
            one.dispatcher._fetches.append(time.monotonic() - 20)  # the oldest of them
            await pool.execute("UPDATE jobs SET claimed_at = now() - interval '15 s'")
            await one.leases._keep()
            assert (await one.engine.get(job_id)).state is JobState.ACTIVE, "the fetch may have claimed it"
            await pool.execute("UPDATE jobs SET claimed_at = now() - interval '60 s'")
            await one.leases._keep()
            assert (await one.engine.get(job_id)).state is JobState.WAITING
        await eventually(lambda: one.settled("completed"))
        job = await one.engine.get(job_id)
        assert (job.attempts, job.stalls) == (1, 0)


@pytest.mark.parametrize("statement", ["settle", "renew"])
async def test_renewing_and_settling_lock_jobs_in_one_order(pool: Pool, statement: str) -> None:
    """Else they meet in a deadlock, and all settling waits the second that PostgreSQL takes to see it."""
    store = Store(pool, "replica-1", 30_000)
    await store.ensure_queues([QUEUE])
    await store.insert([_job() for _ in range(50)], [3] * 50)
    claimed = sorted((await store.claim_due(policy(), 50)).jobs, key=lambda job: job.id)
    async with pool.acquire() as other:
        holding = other.transaction()
        await holding.start()
        await other.execute("SELECT FROM jobs WHERE id = $1 FOR UPDATE", claimed[0].id)
        held = [(job.id, job.fence) for job in reversed(claimed)]
        ended = [Settlement(id=job_id, fence=fence, state=JobState.COMPLETED) for job_id, fence in held]
        waiting = asyncio.create_task(store.settle(ended) if statement == "settle" else store.renew(held))
        await eventually(lambda: _waits_for_a_lock(pool))
        free = await pool.fetch("SELECT id FROM jobs FOR UPDATE SKIP LOCKED")
        assert len(free) == 49, "it waits for the first one and holds none"
        await holding.rollback()
        assert len(await waiting) == 50


async def _waits_for_a_lock(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_B_a_process_that_froze_between_claim_and_start_does_not_begin(pool: Pool) -> None:
    async with replica(pool, None) as one:
        job_id = await one.submit(1)
        (claimed,) = (await one.store.claim_due(policy(), 1)).jobs
        await one.executor.run(claimed, asked=time.monotonic() - 31)
        await one.executor.settled(claimed.queue)
        assert one.script.started == []
        job = await one.engine.get(job_id)
        assert (job.state, job.attempts) == (JobState.WAITING, 0)


async def test_a_settlement_whose_answer_was_lost_is_known_to_have_been_made(pool: Pool, database_url: str) -> None:
    parts = urlsplit(database_url)
    async with Proxy(parts.hostname or "", parts.port or 0) as proxy:
        far = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{proxy.port}"))
        weak = await open_pool(far, min_size=1, max_size=1, command_timeout_s=20)
        store = Store(weak, "replica-1", 30_000)
        await store.ensure_queues([QUEUE])
        await store.insert([_job()], [3])
        (claimed,) = (await store.claim_due(policy(), 1)).jobs
        done = Settlement(id=claimed.id, fence=claimed.fence, state=JobState.COMPLETED, result="1")
        stale = Settlement(id=claimed.id, fence=0, state=JobState.FAILED)
        assert await store.settle([stale]) == {}  # the statement is prepared now: the next one is a single message
        proxy.half_open()
        settling = asyncio.create_task(Settler(store).settle(done))
        await eventually(lambda: _state(pool, "completed"))
        proxy.cut()
        proxy.flow()
        settled = await asyncio.wait_for(settling, 20)
        assert settled is not None
        assert settled.state is JobState.COMPLETED
        weak.terminate()


async def _state(pool: Pool, state: str) -> bool:
    return bool(await pool.fetchval("SELECT state = $1 FROM jobs", state))


async def test_one_value_that_cannot_be_stored_does_not_spoil_its_neighbours(pool: Pool) -> None:
    store = Store(pool, "replica-1", 30_000)
    await store.ensure_queues([QUEUE])
    await store.insert([_job(n) for n in range(7)], [3] * 7)
    claimed = (await store.claim_due(policy(), 7)).jobs
    settler = Settler(store)
    endings = [
        Settlement(id=job.id, fence=job.fence, state=JobState.COMPLETED, result='"\\u0000"' if n == 3 else f"{n}")
        for n, job in enumerate(claimed)
    ]
    answers = await asyncio.gather(*(settler.settle(ending) for ending in endings), return_exceptions=True)
    assert [isinstance(answer, Refused) for answer in answers] == [n == 3 for n in range(7)]
    assert await pool.fetchval("SELECT count(*) FROM jobs WHERE state = 'completed'") == 6


async def test_stray_data_in_redis_stops_nothing(pool: Pool, redis_url: str) -> None:
    async with replica(pool, redis_url) as one:
        assert one.dispatcher.redis is not None
        client = aioredis.Redis.from_url(redis_url)
        await client.zadd(one.dispatcher.redis.key(QUEUE, "ready"), {"not an id": 0})
        await client.aclose()
        await one.work()
        await one.submit("after")
        await eventually(lambda: one.script.names == ["after"])


async def test_a_redis_that_cannot_be_written_to_is_down_and_does_not_flap(pool: Pool, redis_url: str) -> None:
    async with replica(pool, redis_url, patience_s=5) as one:
        await one.work()
        client = aioredis.Redis.from_url(redis_url)
        try:
            await client.execute_command("REPLICAOF", "127.0.0.1", "1")
            await eventually(lambda: one.engine.mode == "direct")
            await one.submit("read-only")
            await eventually(lambda: one.script.names == ["read-only"])
            assert len(one.events) <= 4, "an outage is two announcements, whatever PING says"
        finally:
            await client.execute_command("REPLICAOF", "NO", "ONE")
            await client.aclose()
        await eventually(lambda: one.engine.mode == "queue")


async def test_a_loop_survives_what_its_rounds_raise() -> None:
    rounds = 0

    async def step() -> float:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise ValueError("a fault")
        return 0.01

    loop = Loop("test loop", step)
    await loop.start()
    await eventually(lambda: rounds > 3, timeout=5)
    await loop.stop()
    await loop.stop()


async def test_C_what_has_been_done_is_recorded_past_the_time_limit(pool: Pool) -> None:
    async def slow_record(_args: dict[str, Any], context: Any) -> str:
        context.irrevocable()
        await asyncio.sleep(0.19)
        return "recorded"

    async with replica(pool, None, queue=policy(timeout_s=0.1), script=Script(behave=slow_record)) as one:
        await one.work()
        job_id = await one.submit(1)
        await eventually(lambda: one.settled("completed"))
        assert (await one.engine.get(job_id)).result == "recorded"


async def test_two_that_drain_at_once_do_not_wait_for_each_other(pool: Pool) -> None:
    """An administrator's drain and SIGTERM, or a second signal."""
    async with replica(pool, None) as one:
        await one.work()
        await one.submit(1)
        await eventually(lambda: one.settled("completed"))
        async with asyncio.timeout(6):  # one that waits for the other gives up after seven
            await asyncio.gather(*(one.workers[0].drain(1) for _ in range(2)))


@URLS
async def test_a_job_that_has_not_begun_when_the_grace_is_over_is_handed_back(
    pool: Pool, redis_url: str, with_redis: bool
) -> None:
    """Its slot has it, but it does not run yet: nothing is there to be cancelled."""
    go_on, between = asyncio.Event(), asyncio.Event()

    async def hesitate(_context: object) -> None:
        between.set()
        await go_on.wait()

    async with replica(pool, redis_url if with_redis else None) as one:
        (worker,) = one.workers
        worker._worker.before_process = [hesitate]
        await one.work()
        job_id = await one.submit(1)
        await between.wait()
        draining = asyncio.create_task(worker.drain(0))
        await eventually(lambda: worker._grace_over)
        go_on.set()
        await draining
        job = await one.engine.get(job_id)
        assert (job.state, job.attempts, one.script.started) == (JobState.WAITING, 0, [])


@URLS
async def test_F_an_attempt_that_ended_is_settled_though_its_slot_is_stopped_before_the_queue_rests(
    pool: Pool, redis_url: str, with_redis: bool
) -> None:
    async def rest(_args: dict[str, Any], _context: object) -> None:
        raise Snooze("421", after_s=60, pause_queue=True)

    async with replica(pool, redis_url if with_redis else None, script=Script(behave=rest)) as one:
        job_id = await one.submit(1)
        (claimed,) = (await one.store.claim_due(policy(), 1)).jobs
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM queues FOR UPDATE")  # the pause waits for it
            running = asyncio.create_task(one.executor.run(claimed, time.monotonic()))
            await eventually(lambda: _waits_for_a_lock(pool))
            running.cancel()
            await asyncio.wait([running])
        await eventually(lambda: one.settled("snoozed"))
        job = await one.engine.get(job_id)
        assert (job.state, job.attempts, one.executor.performing(QUEUE)) == (JobState.WAITING, 0, 0)
        assert not one.executor.running


@URLS
async def test_D_E_a_limited_queue_has_one_fetch_under_way(pool: Pool, redis_url: str, with_redis: bool) -> None:
    """A second one could take the last permits for lower priorities than the first has claimed."""
    ends = asyncio.Semaphore(0)

    async def wait(_args: dict[str, Any], _context: object) -> None:
        await ends.acquire()

    limited = policy(concurrency=4, rate=rate(100, 60_000))
    async with replica(pool, redis_url if with_redis else None, queue=limited, script=Script(behave=wait)) as one:
        await one.engine.submit_many([_job(n) for n in range(12)])
        await one.work()
        await eventually(lambda: len(one.script.started) == 4)  # all that was asked for: jobs are plenty
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM queues FOR UPDATE")  # fetches wait for it
            ends.release()
            await eventually(lambda: _waits_for_a_lock(pool))
            for _ in range(3):
                ends.release()
            await eventually(partial(_completed, one, 4))
            assert len(one.dispatcher._fetches) == 1
        for _ in range(8):
            ends.release()
        await eventually(partial(_completed, one, 12))


class _SlowToLeave(DirectBroker):
    """Waits as one with Redis does: a connection is closed when the wait is cancelled."""

    waiting = 0

    async def wait(self, queue: str, timeout_s: float) -> None:
        self.waiting += 1
        try:
            await super().wait(queue, timeout_s)
        finally:
            await asyncio.sleep(0.1)
            self.waiting -= 1


async def test_G_a_worker_has_stopped_when_nothing_of_it_waits_for_jobs_any_more(pool: Pool) -> None:
    """What it waits on is closed after it."""
    async with replica(pool, None) as one:
        broker = one.dispatcher._direct = _SlowToLeave(one.store)
        await one.work()
        await eventually(lambda: broker.waiting == 1)
        await one.workers[0].stop()
        assert broker.waiting == 0
