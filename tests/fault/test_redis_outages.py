"""Redis is the dispatcher, never the record: stopped, hung, flushed, restarted, nothing is lost or runs twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import asyncpg
import redis.asyncio as aioredis

from gateway.dev_servers import EmbeddedValkey
from gateway.infra.uuid7 import uuid7
from gateway.jobs.events import BrokerChanged
from gateway.jobs.job import NewJob
from tests.support.engine import QUEUE, TASK, Replica, Script, policy, replica
from tests.support.eventually import eventually

Pool = asyncpg.Pool
Start = Callable[[], EmbeddedValkey]


def _jobs(numbers: range) -> list[NewJob]:
    return [NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}) for n in numbers]


async def _until(one: Replica, mode: str) -> float:
    """How long it takes."""
    started = time.monotonic()
    await eventually(lambda: one.engine.mode == mode, timeout=20)
    return time.monotonic() - started


OUTAGES = 3  # at the most: a busy machine may exceed a promised time in some, not in each


async def test_A_a_stopped_redis_means_direct_within_a_second_and_back_within_five(
    pool: Pool, own_valkey: Start
) -> None:
    valkey = own_valkey()
    # A connection to a killed server ends at once, whatever the patience; a pause of this process is no outage then.
    async with replica(pool, valkey.url, maintain=True, patience_s=5) as one:
        await one.work()
        jobs = ["before"]
        await _done(one, jobs)
        took: list[tuple[float, float]] = []
        while len(took) < OUTAGES and not _kept(took, 1, 5):
            valkey.kill()
            direct_s = await _until(one, "direct")
            await _done(one, jobs := [*jobs, "during"])
            valkey.start()
            took.append((direct_s, await _until(one, "queue")))
            await _done(one, jobs := [*jobs, "after"])
        assert _kept(took, 1, 5), took
        assert one.script.names == jobs
        changes = [event.mode for event in one.events if isinstance(event, BrokerChanged)]
        assert changes == ["queue", *["direct", "queue"] * len(took)], "an outage is two announcements"


async def _done(one: Replica, jobs: list[str]) -> None:
    """Submit the last of them, and wait for all."""
    await one.submit(jobs[-1])
    await eventually(lambda: len(one.settled("completed")) == len(jobs))


def _kept(took: list[tuple[float, float]], direct_s: float, queue_s: float) -> bool:
    """Was there an outage that was noticed, and one whose end was noticed, in time."""
    return bool(took) and min(one for one, _ in took) <= direct_s and min(two for _, two in took) <= queue_s


async def test_A_a_hanging_redis_is_noticed_within_a_second(pool: Pool, own_valkey: Start) -> None:
    valkey = own_valkey()
    async with replica(pool, valkey.url, maintain=True) as one:
        await one.work()
        took: list[tuple[float, float]] = []
        while len(took) < OUTAGES and not _kept(took, 1.3, 5):
            valkey.pause()
            try:
                direct_s = await _until(one, "direct")
                await _done(one, ["during"] * (len(took) + 1))
            finally:
                valkey.resume()
            took.append((direct_s, await _until(one, "queue")))
        assert _kept(took, 1.3, 5), took


async def test_A_a_flush_with_jobs_waiting_loses_nothing(pool: Pool, redis_url: str) -> None:
    async with replica(pool, redis_url, maintain=True) as one:
        await one.engine.submit_many(_jobs(range(50)))
        client = aioredis.Redis.from_url(redis_url)
        await client.flushall()
        await client.aclose()
        await one.work()
        await eventually(lambda: len(one.settled("completed")) == 50, timeout=15)
        assert Counter(one.script.names) == Counter(range(50))


async def test_A_lost_offers_are_relayed(pool: Pool, redis_url: str) -> None:
    """A process died between its commit and its offer: nobody told Redis."""
    async with replica(pool, redis_url, maintain=True) as one:
        await one.work()
        await one.submit("told")
        await eventually(lambda: one.script.names == ["told"])
        async with pool.acquire() as connection:
            await one.engine.insert(connection, _jobs(range(1)))
        await eventually(lambda: one.script.names == ["told", 0], timeout=20)


async def test_a_queue_is_rebuilt_on_request_and_nothing_runs_twice(pool: Pool, redis_url: str) -> None:
    async with replica(pool, redis_url, patience_s=5) as one:
        await one.engine.submit_many(_jobs(range(30)))
        client = aioredis.Redis.from_url(redis_url)
        await client.flushall()
        await client.aclose()
        assert await one.engine.rebuild(QUEUE) == 30
        assert await one.engine.rebuild(QUEUE) == 30
        await one.work()
        await eventually(lambda: len(one.settled("completed")) == 30)
        assert Counter(one.script.names) == Counter(range(30))
    async with replica(pool, None, name="replica-2") as direct:
        assert await direct.engine.rebuild(QUEUE) is None


async def test_a_burst_of_submits_is_no_outage(pool: Pool, redis_url: str) -> None:
    async with replica(pool, redis_url, patience_s=5) as one:
        await asyncio.gather(*(one.submit(n) for n in range(300)))
        assert [event.mode for event in one.events if isinstance(event, BrokerChanged)] == ["queue"]


async def test_stale_ids_in_redis_run_nothing(pool: Pool, redis_url: str) -> None:
    async with replica(pool, redis_url, queue=policy(concurrency=1)) as one:
        done = await one.engine.submit_many(_jobs(range(3)))
        for job in done[:2]:
            await one.engine.cancel(job.id, "no longer wanted")
        await one.work()
        await eventually(lambda: one.settled("completed"))
        assert one.script.names == [2]


async def test_A_jobs_accepted_while_redis_restarts_under_load_all_run_once(pool: Pool, own_valkey: Start) -> None:
    valkey = own_valkey()
    script = Script()
    async with (
        replica(pool, valkey.url, maintain=True, script=script) as one,
        replica(pool, valkey.url, maintain=True, script=script, name="replica-2") as two,
    ):
        await asyncio.gather(one.work(), two.work())
        accepted = 0
        for step in range(30):
            if step == 8:
                valkey.kill()
            if step == 16:
                valkey.start()
            await one.engine.submit_many(_jobs(range(accepted, accepted + 10)))
            accepted += 10
            await eventually(lambda accepted=accepted: len(script.started) >= accepted - 60, timeout=10)
        await eventually(lambda: len(one.settled("completed") + two.settled("completed")) == accepted, timeout=20)
        assert Counter(script.names) == Counter(range(accepted))
