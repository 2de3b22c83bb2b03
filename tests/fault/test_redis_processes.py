"""Redis flushed, stopped or frozen under whole gateway processes with mails coming in: each mail is sent, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis.asyncio as aioredis

from gateway.dev_servers import EmbeddedValkey
from tests.support.eventually import eventually
from tests.support.gateway import QUEUE, Cluster, HoldingSmtp, gateways
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import WITH_REDIS

pytestmark = pytest.mark.fault

Start = Callable[..., EmbeddedValkey]


@pytest.fixture
def valkey(own_valkey: Start) -> EmbeddedValkey:
    return own_valkey()


@pytest.fixture
async def two(tmp_path: Path, database_url: str, smtp: HoldingSmtp, valkey: EmbeddedValkey) -> AsyncIterator[Cluster]:
    """Two processes on a Redis that this test may break."""
    async with gateways(tmp_path, database_url, smtp, redis_url=valkey.url) as cluster:
        for _ in range(2):
            await cluster.start(LOCK_DURATION_MS="30000")  # nobody dies here: what stands still for seconds is no stall
        yield cluster


async def all_in_mode(cluster: Cluster, mode: str) -> bool:
    healths = [(await process.admin.get("/health")).json()["mode"] for process in cluster.processes]
    return set(healths) == {mode}


def is_up_again(process: GatewayProcess) -> bool:
    """An outage is two lines, however many mails meet it. A busy machine may bring one or two of its own."""
    down, up = process.log.count('"redis_down"'), process.log.count('"redis_up"')
    assert (1 <= down <= 3, up - down) == (True, 1), (down, up)
    return True


async def nothing_failed(cluster: Cluster) -> None:
    """Every accepted mail was sent at its first attempt."""
    assert cluster.duplicates() == []
    stats = await cluster.stats()
    assert (stats["completed"], stats["failed"]) == (len(cluster.accepted), 0)
    jobs = [await cluster.job(mail) for mail in cluster.accepted]
    assert {(job["attempts"], job["stalls"], len(job["errors"])) for job in jobs} == {(1, 0, 0)}


@WITH_REDIS
async def test_A_a_flush_with_mails_waiting_loses_none(cluster: Cluster, redis_url: str, smtp: HoldingSmtp) -> None:
    first, _ = [await cluster.start(LOCK_DURATION_MS="30000") for _ in range(2)]
    assert (await first.admin.post(f"/api/v1/admin/queues/{QUEUE}/pause")).status_code == 200
    await cluster.submit_many(40)
    client = aioredis.Redis.from_url(redis_url)
    await client.flushall()
    await client.aclose()
    assert (await first.admin.post(f"/api/v1/admin/queues/{QUEUE}/resume")).status_code == 200
    await cluster.all_delivered()
    await nothing_failed(cluster)


async def test_A_redis_killed_under_load_and_back(two: Cluster, smtp: HoldingSmtp, valkey: EmbeddedValkey) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(two.submit_many(100))
        group.create_task(two.submit_many(100))
        await smtp.wait_for(20)
        valkey.kill()
        await eventually(lambda: all_in_mode(two, "direct"), 10)
        sent = len(smtp.messages)
        await smtp.wait_for(min(sent + 20, 200), 20)
        valkey.start()
        await eventually(lambda: all_in_mode(two, "queue"), 20)
        await two.submit_many(20)
    await two.all_delivered()
    assert {mail.mode for mail in two.accepted} == {"queue", "direct"}
    assert two.refused == 0, "no caller notices"
    await nothing_failed(two)
    for process in two.processes:
        await eventually(lambda process=process: is_up_again(process))


async def test_A_redis_frozen_under_load_and_back(two: Cluster, smtp: HoldingSmtp, valkey: EmbeddedValkey) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(two.submit_many(60))
        await smtp.wait_for(10)
        valkey.pause()
        await eventually(lambda: all_in_mode(two, "direct"), 10)
        sent = len(smtp.messages)
        await smtp.wait_for(min(sent + 10, 60), 20)
        valkey.resume()
        await eventually(lambda: all_in_mode(two, "queue"), 20)
    await two.submit_many(20)
    await two.all_delivered()
    assert two.refused == 0
    await nothing_failed(two)
