"""A ledger that says nothing at all must not keep a process from ending."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from gateway.runtime import Runtime
from tests.fault.test_processes import start_leader
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, HoldingSmtp
from tests.support.modes import LONG, WITHOUT_REDIS
from tests.support.proxy import Proxy
from tests.support.web import settings_for

pytestmark = pytest.mark.fault

GRACE_S = 1


@pytest.fixture
async def link(database_url: str) -> AsyncIterator[Proxy]:
    parts = urlsplit(database_url)
    async with Proxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


def through(database_url: str, link: Proxy) -> str:
    parts = urlsplit(database_url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{link.port}"))


@pytest.mark.parametrize("mode", ["direct", pytest.param("queue", marks=LONG)])
async def test_G_a_stop_while_postgres_is_silent_ends_in_time(cluster: Cluster, smtp: HoldingSmtp, link: Proxy) -> None:
    chores = await start_leader(cluster)
    direct = cluster.environment["DATABASE_URL"]
    leaving = await cluster.start(DATABASE_URL=through(direct, link), SHUTDOWN_GRACE_S=str(GRACE_S))
    smtp.answers.clear()
    held = await cluster.submit_many(3, leaving)
    await smtp.wait_for(3)
    link.stall()
    smtp.answers.set()
    await eventually(lambda: "renewal_waits_for_ledger" in leaving.log, 20)
    cluster.retire(leaving)
    leaving.terminate()
    assert await leaving.exit_code(GRACE_S + 25) == 0, "15 s after the grace period, and some for a slow machine"
    assert '"jobs_left_to_rescue"' in leaving.log
    assert "never retrieved" not in leaving.log
    await cluster.start()
    for mail in held:
        shown = await eventually(lambda mail=mail: cluster.has_status(mail, "sent", chores), 30)
        assert shown["uncertain"], "its process could not say that it was sent"
    assert len(smtp.messages) == 6


@LONG
@WITHOUT_REDIS
async def test_G_a_request_that_waits_for_a_silent_postgres_does_not_keep_the_process(
    cluster: Cluster, link: Proxy, smtp: HoldingSmtp
) -> None:
    leaving = await cluster.start(
        DATABASE_URL=through(cluster.environment["DATABASE_URL"], link), SHUTDOWN_GRACE_S=str(GRACE_S)
    )
    link.stall()
    body = {"from": "shop@shop.example", "to": "a@example.com", "subject": "s", "text": "t"}
    waiting = asyncio.ensure_future(leaving.user.post("/api/v1/emails", json=body, timeout=60))
    await eventually(lambda: link.accepted and not waiting.done())
    leaving.terminate()
    assert await leaving.exit_code(GRACE_S + 28) == 0
    with suppress(httpx.TransportError):
        assert (await waiting).status_code == 503
    assert smtp.messages == []


async def test_G_a_stop_while_a_start_waits_for_a_silent_postgres_ends_in_time(
    database_url: str, pool: asyncpg.Pool[Any], link: Proxy
) -> None:
    runtime = await Runtime.open(settings_for(through(database_url, link)))
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE queues")  # what a start writes first
        await runtime.start()
        await eventually(lambda: _somebody_waits(pool))
        link.stall()
        began = time.monotonic()
        await runtime.stop()
        assert time.monotonic() - began < 15
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "boot"]


async def _somebody_waits(pool: asyncpg.Pool[Any]) -> bool:
    here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    return bool(await pool.fetchval(f"SELECT count(*) FROM pg_locks WHERE NOT granted AND database = {here}"))
