"""``GET /api/v1/events`` of real processes: the same messages as over a WebSocket, and replay by ``Last-Event-ID``."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from gateway.realtime.channel import Channel, Topic
from gateway.realtime.service import Realtime
from tests.support.eventually import eventually
from tests.support.gateway import QUEUE, Cluster, gateways
from tests.support.gateway_process import GatewayProcess, token
from tests.support.modes import WITH_REDIS_ALWAYS, WITHOUT_REDIS
from tests.support.realtime import event_source, replica_of_channels, sound
from tests.support.smtp_server import ScriptedSmtp

MAILS, RUNS = Channel(Topic.QUEUE, QUEUE), Channel(Topic.QUEUE, "orchestration-queue")
BOTH = f"{RUNS},{MAILS}"
Pool = asyncpg.Pool


@pytest.fixture
async def cluster(
    tmp_path: Path, database_url: str, smtp: ScriptedSmtp, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    async with gateways(tmp_path, database_url, smtp, redis_url=mode_redis_url, GATEWAY_ROLE="api") as made:
        yield made


async def connected(gateway: GatewayProcess, number: int) -> bool:
    return bool(await gateway.metric("gateway_realtime_connections", kind="sse") == number)


@WITH_REDIS_ALWAYS
async def test_a_stream_goes_on_at_another_replica_where_the_killed_one_stopped(
    cluster: Cluster, pool: Pool, mode_redis_url: str | None
) -> None:
    first, second = await cluster.start(), await cluster.start()
    told: list[dict[str, Any]] = []
    async with replica_of_channels(pool, mode_redis_url, patience_s=5) as (teller, _):

        def tell(*numbers: int) -> None:
            for n in numbers:
                teller.publisher.publish((MAILS if n % 2 else RUNS,), "run:step", {"n": n})

        async with event_source(first.admin, BOTH) as source:
            assert source.answer.headers["content-type"].startswith("text/event-stream")
            begun = await source.begun()
            tell(*range(10))
            while len(told) < 10:
                name, message = await source.next()
                assert name == ""
                told.append(message)
            first.kill()
            with pytest.raises((httpx.TransportError, EOFError)):
                await source.next()
        tell(*range(10, 20))
        async with event_source(second.admin, BOTH, source.last_id) as source:
            tell(*range(20, 30))
            while len(told) < 30:
                told.append((await source.next())[1])
        async with event_source(second.admin, BOTH, begun) as source:
            again = [(await source.next())[1] for _ in range(30)]
        assert sorted(again, key=lambda message: message["n"]) == sorted(told, key=lambda message: message["n"])
    for channel, numbers in ((MAILS, range(1, 30, 2)), (RUNS, range(0, 30, 2))):
        of = [message for message in told if message["channel"] == str(channel)]
        assert [message["n"] for message in of] == [*numbers]
        sound(of[0]["seq"] - 1, of)


@WITHOUT_REDIS
async def test_an_id_of_other_channels_is_a_gap_in_each(cluster: Cluster) -> None:
    gateway = await cluster.start()
    for unknown in ("nonsense", "deadbeef.1.2", "0.zz.1"):
        async with event_source(gateway.admin, BOTH, unknown) as source:
            gaps = [(await source.next())[1] for _ in range(2)]
        assert [(gap["type"], gap["since"]) for gap in gaps] == [("gap", 0)] * 2
        assert {gap["channel"] for gap in gaps} == {str(MAILS), str(RUNS)}
    await eventually(lambda: connected(gateway, 0), 20, "who has left is not forgotten")


@WITHOUT_REDIS
async def test_a_wrong_request_says_what_to_mend(cluster: Cluster) -> None:
    gateway = await cluster.start()
    for channels, said in (("", "1 to 20"), ("mails", "queue:ID"), (",".join([str(MAILS)] * 21), "1 to 20")):
        answer = await gateway.admin.get("/api/v1/events", params={"channels": channels})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "validation_error")
        assert said in error["message"]
    assert (await gateway.admin.get("/api/v1/events")).status_code == 400
    assert (await gateway.admin.get("/api/v1/events", params={"chanels": "x"})).status_code == 400
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as nobody:
        assert (await nobody.get("/api/v1/events", params={"channels": str(MAILS)})).status_code == 401
    assert await connected(gateway, 0)


@WITHOUT_REDIS
async def test_browsers_may_send_the_token_in_the_address_where_that_is_allowed(cluster: Cluster) -> None:
    strict, lenient = await cluster.start(), await cluster.start(REALTIME_ALLOW_QUERY_TOKEN="true")
    parameters = {"channels": str(MAILS), "token": token("viewer")}
    async with httpx.AsyncClient(trust_env=False) as browser:
        assert (await browser.get(f"{strict.url}/api/v1/events", params=parameters)).status_code == 401
        async with browser.stream("GET", f"{lenient.url}/api/v1/events", params=parameters) as answer:
            assert answer.status_code == 200
    for gateway in (strict, lenient):
        assert parameters["token"] not in gateway.log


@WITHOUT_REDIS
async def test_a_stopping_replica_ends_its_streams(cluster: Cluster) -> None:
    gateway = await cluster.start()
    async with event_source(gateway.admin, BOTH) as source:
        await source.begun()
        gateway.terminate()
        with pytest.raises(EOFError):
            await source.next()
    assert await gateway.exit_code(6) == 0


@WITHOUT_REDIS
async def test_who_asks_for_the_head_alone_keeps_no_stream_open(cluster: Cluster) -> None:
    gateway = await cluster.start()
    head = await gateway.admin.head("/api/v1/events", params={"channels": str(MAILS)})
    assert (head.status_code, head.content) == (200, b"")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    authorization = gateway.admin.headers["Authorization"]
    for method, path in (("HEAD", f"/api/v1/events?channels={MAILS}"), ("GET", "/health/live")):
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\n\r\n".encode())
    async with asyncio.timeout(20):
        for _ in range(2):
            assert (await reader.readuntil(b"\r\n\r\n")).lstrip(b"0\r\n").startswith(b"HTTP/1.1 200")
    await eventually(lambda: connected(gateway, 0), 20, "a stream is open while its client is there")
    writer.close()


def unread(gateway: GatewayProcess, authorization: str) -> socket.socket:
    """A client that asks for an event stream and reads none of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
    lines = (f"GET /api/v1/events?channels={MAILS} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: {authorization}")
    client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return client


async def fill(teller: Realtime, gateway: GatewayProcess) -> None:
    """Tell more than what lies on the way to a client that does not read has room for."""
    for _ in range(1000):
        teller.publisher.publish((MAILS,), "run:step", {"text": "x" * 7000})
    await eventually(lambda: _sent(gateway, 500), 30)


async def _sent(gateway: GatewayProcess, number: int) -> bool:
    return bool((await gateway.metric("gateway_realtime_sent_total") or 0) >= number)


async def ended(gateway: GatewayProcess, reason: str) -> bool:
    return bool(await gateway.metric("gateway_realtime_ended_total", reason=reason) == 1)


@WITHOUT_REDIS
async def test_a_client_that_does_not_read_its_stream_is_cut(cluster: Cluster, pool: Pool) -> None:
    gateway = await cluster.start()
    async with replica_of_channels(pool, None) as (teller, _):
        with unread(gateway, gateway.admin.headers["Authorization"]):
            await eventually(lambda: connected(gateway, 1), 20)
            await fill(teller, gateway)
            await eventually(lambda: ended(gateway, "slow"), 40, "it was never found to be slow")
            assert await connected(gateway, 0)


@WITHOUT_REDIS
async def test_a_stop_waits_for_no_client_that_does_not_read_its_stream(cluster: Cluster, pool: Pool) -> None:
    gateway = await cluster.start()
    async with replica_of_channels(pool, None) as (teller, _):
        with unread(gateway, gateway.admin.headers["Authorization"]):
            await eventually(lambda: connected(gateway, 1), 20)
            await fill(teller, gateway)
            since = time.monotonic()
            gateway.terminate()
            assert await gateway.exit_code(12) == 0
            assert time.monotonic() - since < 4
    assert "Traceback" not in gateway.log
