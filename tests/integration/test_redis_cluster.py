"""A real cluster of three nodes: what the brokers promise holds there too, and a queue lives on one node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from gateway.infra.redis import command_client
from gateway.infra.redis_check import PATIENCE_S, redis_fitness
from gateway.infra.uuid7 import uuid7
from gateway.jobs.events import BrokerChanged
from gateway.jobs.job import Inserted, JobState
from gateway.jobs.redis_broker import RedisBroker
from gateway.settings import RedisForm, RedisTarget
from tests.conformance.test_brokers import (
    Make,
    test_B_a_stale_holder_settles_nothing_and_its_task_is_cancelled,
    test_cancelled_and_rescheduled_jobs,
    test_D_a_rate_limit_holds_over_two_replicas,
    test_E_a_late_priority_10_overtakes_a_backlog,
    test_E_priority_10_starts_first_and_equal_ones_in_order_of_arrival,
    test_F_a_snooze_costs_nothing_and_may_pause_the_queue,
    test_F_a_vanished_holder_is_a_stall_and_the_second_one_fails_the_job,
    test_G_a_drain_finishes_what_runs_and_hands_the_rest_back_uncounted,
    test_jobs_are_shared_between_replicas_and_none_runs_twice,
    test_pause_holds_and_resume_frees,
    test_retry_of_failed_jobs_one_and_all,
)
from tests.support.engine import QUEUE, Replica, replica
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.redis_topologies import RedisCluster, redis_cluster
from tests.support.stood_still import timed

# Collected here a second time, with the ``make`` of this module.
__all__ = [
    "test_B_a_stale_holder_settles_nothing_and_its_task_is_cancelled",
    "test_D_a_rate_limit_holds_over_two_replicas",
    "test_E_a_late_priority_10_overtakes_a_backlog",
    "test_E_priority_10_starts_first_and_equal_ones_in_order_of_arrival",
    "test_F_a_snooze_costs_nothing_and_may_pause_the_queue",
    "test_F_a_vanished_holder_is_a_stall_and_the_second_one_fails_the_job",
    "test_G_a_drain_finishes_what_runs_and_hands_the_rest_back_uncounted",
    "test_cancelled_and_rescheduled_jobs",
    "test_jobs_are_shared_between_replicas_and_none_runs_twice",
    "test_pause_holds_and_resume_frees",
    "test_retry_of_failed_jobs_one_and_all",
]

Pool = asyncpg.Pool
QUEUES = (QUEUE, "report-queue", "chat-queue")  # their slots: 3027, 10654, 11606, one in each third


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def cluster(servers: RedisCluster) -> RedisCluster:
    """Empty."""
    servers.flush()
    return servers


@pytest.fixture
async def make(cluster: RedisCluster, pool: Pool) -> AsyncIterator[Make]:
    """Start replicas on one ledger and the cluster. It must have dispatched all the time."""
    async with AsyncExitStack() as stack:
        started: list[Replica] = []

        async def start(**options: Any) -> Replica:
            made = await stack.enter_async_context(replica(pool, cluster.target, patience_s=5, **options))
            assert made.engine.mode == "queue"
            started.append(made)
            return made

        yield start
        for one in started:
            assert [event.mode for event in one.events if isinstance(event, BrokerChanged)] == ["queue"]


async def test_a_burst_of_commands_waits_for_connections(make: Make, cluster: RedisCluster) -> None:
    one = await make()
    await asyncio.gather(*(one.submit(n) for n in range(300)))
    client = command_client(cluster.target, max_connections=2, patience_s=5)
    await asyncio.gather(*(client.incr("{email}:n") for _ in range(200)))
    assert await client.get("{email}:n") == b"200"
    await client.aclose()


async def test_all_keys_of_a_queue_are_on_one_node_and_queues_are_spread(cluster: RedisCluster, pool: Pool) -> None:
    async with replica(pool, cluster.target, patience_s=5) as one:
        commands, blocking = (command_client(cluster.target, patience_s=5) for _ in range(2))
        broker = RedisBroker(one.store, commands, blocking, await one.store.ledger_id(), QUEUES)
        for queue in QUEUES:
            await broker.offer([_ready(queue, n) for n in range(3)])
            await broker.mark_told(queue)
            await broker.wake(queue)
            assert await broker.ready(queue) == (3, True)
            await broker.wait(queue, 1)
        await broker.ping()
        for client in (commands, blocking):
            await client.aclose()
    nodes = []
    for queue in QUEUES:
        node = cluster.node_of(broker.key(queue, "ready"))
        nodes.append(node.port)
        assert cluster.keys_of(node) >= {broker.key(queue, part) for part in ("ready", "told", "probe")}
    assert len(set(nodes)) == 3
    every = set().union(*(cluster.keys_of(node) for node in cluster.nodes))
    assert all("{" in key for key in every), "a key without a tag"


async def test_a_node_that_dies_means_direct_mode_until_it_is_back(cluster: RedisCluster, pool: Pool) -> None:
    async with (
        Proxy("127.0.0.1", cluster.nodes[1].port) as named,
        replica(pool, RedisTarget((("127.0.0.1", named.port),), RedisForm.CLUSTER), maintain=True) as one,
    ):
        await one.work()
        await one.submit("before")
        await eventually(lambda: one.settled("completed"))
        asked = named.accepted
        assert one.dispatcher.redis is not None
        node = cluster.node_of(one.dispatcher.redis.key(QUEUE, "ready"))
        async with timed() as took:
            node.kill()
            await eventually(lambda: one.engine.mode == "direct")
        assert took.seconds < 1.3
        await one.submit("during")
        await eventually(lambda: len(one.settled("completed")) == 2)
        # A name may lead to other machines later, when all that were found behind it are gone: it stays in use.
        await eventually(lambda: named.accepted > asked, message="the address in the settings was forgotten")
        node.start()
        await eventually(lambda: one.engine.mode == "queue", timeout=30)
        await one.submit("after")
        await eventually(lambda: len(one.settled("completed")) == 3)
        assert one.script.names == ["before", "during", "after"]


async def test_nodes_that_are_not_named_are_found_by_one_that_is(cluster: RedisCluster, pool: Pool) -> None:
    target = RedisTarget((("localhost", cluster.nodes[2].port),), RedisForm.CLUSTER)
    async with replica(pool, target, patience_s=5) as one:
        await one.work()
        await one.submit(1)
        await eventually(lambda: one.settled("completed"))
        assert one.engine.mode == "queue"


async def test_a_mistaken_form_is_named(cluster: RedisCluster, redis_url: str) -> None:
    one_server = RedisTarget(cluster.target.hosts[:1])
    assert "Set REDIS_CLUSTER_MODE=true" in (await redis_fitness(one_server, PATIENCE_S)).faults[0]
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    no_cluster = RedisTarget((("127.0.0.1", port),), RedisForm.CLUSTER)
    assert "Unset REDIS_CLUSTER_MODE" in (await redis_fitness(no_cluster, PATIENCE_S)).faults[0]
    no_sentinel = RedisTarget((("127.0.0.1", port),), RedisForm.SENTINEL, sentinel_name="mymaster")
    assert "REDIS_SENTINEL_NAME" in (await redis_fitness(no_sentinel, PATIENCE_S)).faults[0]


def _ready(queue: str, n: int) -> Inserted:
    return Inserted(id=uuid7(), queue=queue, state=JobState.WAITING, priority=n, seq=n)
