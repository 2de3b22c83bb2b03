"""Failover by real sentinels: jobs go direct, then by the new master; none is lost, none runs twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import redis

from gateway.infra.redis import command_client
from gateway.infra.redis_check import redis_fitness
from gateway.infra.uuid7 import uuid7
from gateway.jobs.events import BrokerChanged
from gateway.jobs.job import NewJob
from gateway.settings import RedisTarget
from tests.support.engine import QUEUE, TASK, Replica, policy, replica
from tests.support.eventually import eventually
from tests.support.modes import LONG
from tests.support.redis_topologies import DOWN_AFTER_S, FAILOVER_S, Sentinels, sentinels

pytestmark = pytest.mark.fault
Pool = asyncpg.Pool
ELECTION_S = 3.0  # the sentinels' agreement, up to a second of random delay, and a replica for the new master


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Sentinels]:
    async with sentinels(tmp_path) as made:
        yield made


class Load:
    """Submits small batches without a pause until it is stopped; ``accepted`` counts their jobs."""

    def __init__(self, one: Replica) -> None:
        self._one = one
        self.accepted = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        submitting = asyncio.create_task(self._submit(stop))
        try:
            yield
        finally:
            stop.set()
            await submitting

    async def _submit(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            numbers = range(self.accepted, self.accepted + 5)
            await self._one.engine.submit_many(
                [NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}, priority=n % 11) for n in numbers]
            )
            self.accepted += 5
            await eventually(lambda: len(self._one.script.started) > self.accepted - 100)


def _modes(one: Replica) -> list[str]:
    return [event.mode for event in one.events if isinstance(event, BrokerChanged)]


async def _all_ran_once(one: Replica, load: Load, pool: Pool) -> None:
    await eventually(lambda: len(one.settled("completed")) == load.accepted, timeout=20)
    assert Counter(one.script.names) == Counter(range(load.accepted))
    assert await pool.fetchval("SELECT count(*) FROM jobs WHERE state <> 'completed' OR attempts <> 1") == 0


async def test_A_B_the_master_dies_under_load_and_the_next_one_takes_over(pool: Pool, servers: Sentinels) -> None:
    # As in test_redis_outages: a killed master is noticed at once, and a pause of this process is no outage.
    async with replica(pool, servers.target, queue=policy(concurrency=10), maintain=True, patience_s=5) as one:
        assert one.engine.mode == "queue"
        await one.work()
        load, old = Load(one), servers.master
        async with load.running():
            await eventually(lambda: len(one.settled("completed")) > 100)
            killed = time.monotonic()
            old.kill()
            await eventually(lambda: one.engine.mode == "direct")
            assert time.monotonic() - killed < DOWN_AFTER_S + 2, "before the sentinels could agree on anything"
            ran = len(one.script.started)
            await eventually(lambda: len(one.script.started) > ran + 20, message="direct mode stands still")
            await eventually(lambda: one.engine.mode == "queue", timeout=3 * (DOWN_AFTER_S + FAILOVER_S + ELECTION_S))
            ran = len(one.script.started)
            await eventually(lambda: len(one.script.started) > ran + 100)
        await _all_ran_once(one, load, pool)
        await eventually(lambda: servers.master is not old, 20)
        with redis.Redis(port=servers.master.port, password=servers.target.password) as client:
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] > 10
        old.start()  # back, and of the opinion that it is the master
        async with load.running():
            accepted = load.accepted
            await eventually(lambda: load.accepted > accepted + 100)
        await _all_ran_once(one, load, pool)
        assert _modes(one) == ["queue", "direct", "queue"]


@LONG
async def test_A_B_a_master_that_hangs_and_comes_back_as_a_replica(pool: Pool, servers: Sentinels) -> None:
    async with replica(pool, servers.target, queue=policy(concurrency=10), maintain=True) as one:
        await one.work()
        load, old = Load(one), servers.master
        async with load.running():
            await eventually(lambda: len(one.settled("completed")) > 100)
            old.pause()
            try:
                await eventually(lambda: one.engine.mode == "direct", timeout=2)
                await eventually(lambda: one.engine.mode == "queue", timeout=15)
            finally:
                old.resume()
            await eventually(lambda: servers.complete, timeout=30)
        await _all_ran_once(one, load, pool)
        # It refused writes until a replica had come back to it.
        await eventually(lambda: one.engine.mode == "queue", timeout=15)


@LONG
async def test_A_B_a_failover_by_hand_and_a_dead_sentinel(pool: Pool, servers: Sentinels) -> None:
    async with replica(pool, servers.target, queue=policy(concurrency=10), maintain=True) as one:
        await one.work()
        load, old = Load(one), servers.master
        servers.sentinels[0].kill()
        left = servers.sentinels[1]
        async with load.running():
            await eventually(lambda: len(one.settled("completed")) > 100)
            with redis.Redis(port=left.port, password=left.password) as client:
                client.execute_command("SENTINEL FAILOVER", servers.target.sentinel_name)
            del servers.sentinels[0]
            await eventually(lambda: servers.master is not old, timeout=15)
            await eventually(lambda: one.engine.mode == "queue", timeout=10)
            ran = len(one.script.started)
            await eventually(lambda: len(one.script.started) > ran + 100)
        await _all_ran_once(one, load, pool)


@LONG
async def test_a_burst_waits_for_connections_and_a_mistaken_master_is_told(servers: Sentinels) -> None:
    client = command_client(servers.target, max_connections=2)
    await asyncio.gather(*(client.incr("n") for _ in range(200)))
    assert await client.get("n") == b"200"
    await client.aclose()
    fitness = await redis_fitness(servers.target)
    assert fitness.faults == ()
    wrong = replace(servers.target, sentinel_name="master")
    assert "They know: mymaster" in (await redis_fitness(wrong)).faults[0]
    a_sentinel = RedisTarget(servers.target.hosts[:1], password=servers.target.sentinel_password)
    assert "It is a sentinel" in (await redis_fitness(a_sentinel)).faults[0]
