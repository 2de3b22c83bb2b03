"""Redis clients that give up in time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis

from gateway.dev_servers import EmbeddedValkey, free_port
from gateway.infra.redis import blocking_client, command_client
from gateway.settings import redis_target
from tests.support.proxy import Proxy


async def test_a_command_gives_up_within_a_second_and_is_not_repeated(own_valkey: Callable[[], EmbeddedValkey]) -> None:
    server = own_valkey()
    async with (
        Proxy("127.0.0.1", server.port) as proxy,
        command_client(redis_target(f"redis://127.0.0.1:{proxy.port}/0")) as client,
    ):
        await client.incr("n")
        proxy.half_open()
        started = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            await client.incr("n")
        assert time.monotonic() - started < 1.0
        proxy.flow()
        assert await client.get("n") == b"2"  # once by the call whose answer was lost, not again


async def test_a_refused_connection_fails_at_once() -> None:
    async with command_client(redis_target(f"redis://127.0.0.1:{free_port()}/0")) as client:
        started = time.monotonic()
        with pytest.raises(redis.ConnectionError):
            await client.ping()
        assert time.monotonic() - started < 0.5


async def test_a_server_that_comes_back_is_used_again(own_valkey: Callable[[], EmbeddedValkey]) -> None:
    server = own_valkey()
    async with command_client(redis_target(server.url)) as client:
        await client.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            await client.ping()
        server.start()
        assert await client.ping()


async def test_a_blocking_client_waits_longer_than_a_command(redis_url: str) -> None:
    async with blocking_client(redis_target(redis_url), 1.0) as client:
        started = time.monotonic()
        assert await client.blpop(["nothing"], timeout=1.0) is None
        assert time.monotonic() - started >= 0.9
