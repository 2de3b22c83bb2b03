"""``rediss://``: encrypted, and only to a server that an authority we trust vouches for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest
import trustme
from structlog.testing import capture_logs

from gateway.dev_servers import EmbeddedValkey
from gateway.infra.redis_check import PATIENCE_S, redis_fitness
from gateway.realtime.channel import Channel, Topic
from gateway.runtime import Runtime
from gateway.settings import RedisTarget, load
from tests.support.engine import replica
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.redis_topologies import TlsFront
from tests.support.web import SECRET, settings_for

PASSWORD = "s3cret"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[TlsFront]:
    server = EmbeddedValkey(tmp_path / "valkey")
    server.password = PASSWORD
    server.start()
    front = TlsFront(server.port)
    async with front.running():
        yield front
    server.stop()


def target_of(front: TlsFront, ca_pem: bytes | None, tmp_path: Path, host: str = "localhost") -> RedisTarget:
    environ = {"DATABASE_URL": "postgresql://db/x", "JWT_SECRET": SECRET, "SMTP_HOST": "smtp"}
    environ |= {"REDIS_URL": f"rediss://:{PASSWORD}@{host}:{front.port}/0"}
    if ca_pem is not None:
        bundle = tmp_path / f"{sha256(ca_pem).hexdigest()}.pem"
        bundle.write_bytes(ca_pem)
        environ["REDIS_CA_BUNDLE"] = str(bundle)
    target = load(environ, tmp_path / "no-secrets").settings.queue_redis
    assert target is not None
    return target


async def test_jobs_go_by_an_encrypted_redis(
    front: TlsFront, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path
) -> None:
    target = target_of(front, front.ca_pem, tmp_path)
    async with replica(pool, target, patience_s=5) as one:
        assert one.engine.mode == "queue"
        await one.work()
        for n in range(20):
            await one.submit(n)
        await eventually(lambda: len(one.settled("completed")) == 20)
        assert sorted(one.script.names) == list(range(20))
        assert one.engine.mode == "queue"
    assert (await redis_fitness(target, PATIENCE_S)).faults == ()


async def test_a_server_that_nobody_vouches_for_gets_no_password(
    front: TlsFront, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path
) -> None:
    stranger = trustme.CA().cert_pem.bytes()
    for target in (
        target_of(front, None, tmp_path),
        target_of(front, stranger, tmp_path),
        target_of(front, front.ca_pem, tmp_path, host="127.0.0.1"),  # the certificate is another name's
    ):
        with capture_logs() as lines:
            async with replica(pool, target, patience_s=5) as one:
                assert one.engine.mode == "direct"
        down = [line["reason"] for line in lines if line["event"] == "redis_down"]
        assert len(down) == 1
        assert "certificate verify failed" in down[0].lower()


async def test_G_a_server_that_falls_silent_keeps_nothing_from_stopping(
    front: TlsFront, database_url: str, tmp_path: Path
) -> None:
    """TLS is ended by both sides, so each connection's end waits for it in vain."""
    (tmp_path / "ca.pem").write_bytes(front.ca_pem)
    async with Proxy("127.0.0.1", front.port) as link:
        url = f"rediss://:{PASSWORD}@localhost:{link.port}/0"
        runtime = await Runtime.open(settings_for(database_url, redis_url=url, redis_ca_bundle=tmp_path / "ca.pem"))
        with capture_logs() as lines:
            try:
                await runtime.start()
                await runtime.booted()
                await eventually(lambda: runtime.mode == "queue")
                runtime.realtime.publisher.publish((Channel(Topic.JOB, "1"),), "run:step", {})
                await runtime.realtime.publisher.written()
                link.stall()
            finally:
                await runtime.stop()
    assert not [line for line in lines if line["event"] in ("stop_failed", "stop_unfinished")]
    assert "realtime ledger" not in [task.get_name() for task in asyncio.all_tasks()]
