"""What a replica finds at its start: which Redis it uses, whether it is fit, and one that comes much later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import redis
from structlog.testing import capture_logs

from gateway.dev_servers import EmbeddedValkey, free_port
from gateway.infra.lifecycle import StartError
from gateway.infra.redis import command_client
from gateway.infra.redis_check import PATIENCE_S, redis_fitness
from gateway.jobs import dispatch
from gateway.runtime import Runtime
from gateway.settings import RedisTarget, Settings, load
from tests.support.engine import replica
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.web import SECRET, settings_for

Start = Callable[[], EmbeddedValkey]
LOGIN = "p@ss/word, 1"


@asynccontextmanager
async def booted(settings: Settings) -> AsyncIterator[Runtime]:
    runtime = await Runtime.open(settings)
    try:
        await runtime.start()
        await runtime.booted()
        yield runtime
    finally:
        await runtime.stop()


def evicting(valkey: EmbeddedValkey, policy: str = "allkeys-lru") -> EmbeddedValkey:
    with redis.Redis(port=valkey.port) as client:
        client.config_set("maxmemory-policy", policy)
    return valkey


async def test_production_refuses_a_redis_that_may_drop_jobs(database_url: str, own_valkey: Start) -> None:
    valkey = evicting(own_valkey())
    with pytest.raises(StartError, match=r"maxmemory-policy is allkeys-lru.*Set noeviction"):
        async with booted(settings_for(database_url, redis_url=valkey.url)):
            pass


async def test_development_warns_of_it_and_dispatches_all_the_same(database_url: str, own_valkey: Start) -> None:
    valkey = evicting(own_valkey(), "volatile-ttl")
    with capture_logs() as lines:
        async with booted(settings_for(database_url, redis_url=valkey.url, gateway_env="development")) as runtime:
            await eventually(lambda: runtime.mode == "queue")
            shown = runtime.metrics.text().decode()
    assert {"gateway_redis_fit 0.0", "gateway_redis_evicts 1.0"} <= set(shown.splitlines())
    assert "gateway_redis_memory_used_ratio" not in shown, "it has no maxmemory"
    said = [line for line in lines if line["event"] == "redis_unfit"]
    assert len(said) == 1
    assert "volatile-ttl" in said[0]["reason"]


async def test_where_info_is_denied_the_start_goes_on_with_a_warning(database_url: str, own_valkey: Start) -> None:
    valkey = own_valkey()
    with redis.Redis(port=valkey.port) as client:
        client.execute_command("ACL", "SETUSER", "jobs", "on", ">pw", "~gw:*", "+@all", "-info")
    with capture_logs() as lines:
        url = f"redis://jobs:pw@127.0.0.1:{valkey.port}/0"
        async with booted(settings_for(database_url, redis_url=url)) as runtime:
            await eventually(lambda: runtime.mode == "queue")
    assert [line["log_level"] for line in lines if line["event"] == "redis_not_checked"] == ["warning"]


async def test_the_queue_redis_is_used_and_checked_and_the_cache_is_not(database_url: str, own_valkey: Start) -> None:
    cache, queue = evicting(own_valkey()), own_valkey()
    async with booted(settings_for(database_url, redis_url=cache.url, redis_queue_url=queue.url)) as runtime:
        await eventually(lambda: runtime.mode == "queue")
        with redis.Redis(port=queue.port) as jobs, redis.Redis(port=cache.port) as other:
            assert jobs.keys("gw:*")
            assert not other.keys()
            assert other.info("commandstats").keys().isdisjoint({"cmdstat_evalsha", "cmdstat_set"})
    evicting(queue)
    with pytest.raises(StartError, match="allkeys-lru"):
        async with booted(settings_for(database_url, redis_url=cache.url, redis_queue_url=queue.url)):
            pass


async def test_required_means_no_start_without_it_and_otherwise_there_is_one(database_url: str) -> None:
    away = {"redis_url": f"redis://127.0.0.1:{free_port()}"}
    with pytest.raises(StartError, match="REDIS_REQUIRED"):
        async with booted(settings_for(database_url, redis_required=True, **away)):
            pass
    async with booted(settings_for(database_url, **away)) as runtime:
        assert runtime.mode == "direct"


async def test_a_redis_that_was_away_for_long_at_start_is_picked_up_when_it_comes(
    pool: asyncpg.Pool[asyncpg.Record], own_valkey: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T14: nobody gives up after ten tries."""
    monkeypatch.setattr(dispatch, "PING_EVERY_S", 0.01)
    valkey = own_valkey()
    valkey.stop()
    async with (
        Proxy("127.0.0.1", valkey.port) as proxy,
        replica(pool, f"redis://127.0.0.1:{proxy.port}", maintain=True) as one,
    ):
        await one.work()
        await one.submit("before")
        await eventually(lambda: one.settled("completed"))
        await eventually(lambda: proxy.accepted > 60, 30)
        assert one.engine.mode == "direct"
        valkey.start()
        await eventually(lambda: one.engine.mode == "queue")
        await one.submit("after")
        await eventually(lambda: one.script.names == ["before", "after"])


@pytest.mark.parametrize("form", ["url", "parts"])
async def test_passwords_by_address_and_by_variables(form: str, tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    server.password = '"p@ss/word, 1"'  # as its configuration file wants it
    target_of = {
        "url": {"REDIS_URL": f"redis://:p%40ss%2Fword%2C%201@127.0.0.1:{server.port}/0"},
        "parts": {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port), "REDIS_PASSWORD": LOGIN},
    }
    environ = {"DATABASE_URL": "postgresql://db/x", "JWT_SECRET": SECRET, "SMTP_HOST": "smtp", **target_of[form]}
    target = load(environ, tmp_path / "no-secrets").settings.queue_redis
    assert target is not None
    try:
        server.start()
        client = command_client(target, patience_s=PATIENCE_S)
        assert await client.ping()
        await client.aclose()
        assert (await redis_fitness(target, PATIENCE_S)).faults == ()
        with pytest.raises(ConnectionError, match="login refused"):
            await redis_fitness(RedisTarget(target.hosts, password="wrong"), PATIENCE_S)
    finally:
        server.stop()
