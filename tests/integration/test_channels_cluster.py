"""Channels where Redis is a cluster: streams lie on different nodes, and any node tells what any was told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from gateway.realtime.channel import Channel, Topic
from gateway.realtime.service import Realtime
from tests.support.eventually import eventually
from tests.support.realtime import Ear, replica_of_channels, sound
from tests.support.redis_topologies import RedisCluster, redis_cluster

Pool = asyncpg.Pool
CHANNELS = [Channel(Topic.JOB, f"run-{n}") for n in range(12)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
async def two(pool: Pool, servers: RedisCluster) -> AsyncIterator[list[Realtime]]:
    servers.flush()
    url = "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in servers.nodes)
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(replica_of_channels(pool, url, redis_cluster_mode=True)) for _ in range(2)
        ]
        yield [one for one, _ in made]


async def test_channels_of_all_nodes_are_heard_everywhere_and_replayed(
    two: list[Realtime], servers: RedisCluster
) -> None:
    ears = [Ear() for _ in CHANNELS]
    starts = [await ear.join(two[1], channel) for ear, channel in zip(ears, CHANNELS, strict=True)]
    for n in range(20):
        two[0].publisher.publish(tuple(CHANNELS), "run:step", {"n": n})
    for ear, start in zip(ears, starts, strict=True):
        await eventually(lambda ear=ear: ear.numbers() == [*range(20)])
        assert sound(start, ear.told) == start + 20
    assert all(any("log" in key for key in servers.keys_of(node)) for node in servers.nodes), "every node has some"
    back = Ear()
    await back.join(two[0], CHANNELS[0], starts[0] + 5)
    await eventually(lambda: back.numbers() == [*range(5, 20)])
