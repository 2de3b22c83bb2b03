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


async def _mode(one: Replica, mode: str, within_s: float) -> None:
    started = time.monotonic()
    await eventually(lambda: one.engine.mode == mode, timeout=within_s + 2)
    assert time.monotonic() - started <= within_s


async def test_A_a_stopped_redis_means_direct_within_a_second_and_back_within_five(
    pool: Pool, own_valkey: Start
) -> None:
    valkey = own_valkey()
    async with replica(pool, valkey.url, maintain=True) as one:
        await one.work()
        await one.submit("before")
        await eventually(lambda: len(one.settled("completed")) == 1)
        valkey.kill()
        await _mode(one, "direct", within_s=1)
        await one.submit("during")
        await eventually(lambda: len(one.settled("completed")) == 2, timeout=3)
        valkey.start()
        await _mode(one, "queue", within_s=5)
        await one.submit("after")
        await eventually(lambda: len(one.settled("completed")) == 3, timeout=3)
        assert one.script.names == ["before", "during", "after"]
        changes = [event.mode for event in one.events if isinstance(event, BrokerChanged)]
        assert changes == ["queue", "direct", "queue"], "an outage is two announcements"


async def test_A_a_hanging_redis_is_noticed_within_a_second(pool: Pool, own_valkey: Start) -> None:
    valkey = own_valkey()
    async with replica(pool, valkey.url, maintain=True) as one:
        await one.work()
        valkey.pause()
        try:
            await _mode(one, "direct", within_s=1.3)
            await one.submit("during")
            await eventually(lambda: one.script.names == ["during"], timeout=3)
        finally:
            valkey.resume()
        await _mode(one, "queue", within_s=5)


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
        await eventually(lambda: one.script.names == ["told", 0], timeout=10)


async def test_a_queue_is_rebuilt_on_request_and_nothing_runs_twice(pool: Pool, redis_url: str) -> None:
    async with replica(pool, redis_url) as one:
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
    async with replica(pool, redis_url) as one:
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
