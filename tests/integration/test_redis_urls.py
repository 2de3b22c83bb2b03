"""Redis clients that give up in time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import redis

from gateway.dev_servers import EmbeddedValkey, free_port
from gateway.infra.redis import blocking_client, command_client
from gateway.settings import redis_target
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.stood_still import timed


async def patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    """Its answer, however often a busy machine lets the client give up."""

    async def answer() -> Any:
        with suppress(redis.RedisError):
            return await call()

    return await eventually(answer)


async def test_a_command_gives_up_within_a_second_and_is_not_repeated(own_valkey: Callable[[], EmbeddedValkey]) -> None:
    server = own_valkey()
    async with (
        Proxy("127.0.0.1", server.port) as proxy,
        command_client(redis_target(f"redis://127.0.0.1:{proxy.port}/0")) as client,
    ):
        await patiently(lambda: client.set("n", 1))
        proxy.half_open()
        async with timed() as took:
            with pytest.raises(redis.TimeoutError):
                await client.incr("n")
        assert took.seconds < 1.0
        proxy.flow()
        assert await patiently(lambda: client.get("n")) == b"2"  # once by the call whose answer was lost, not again


async def test_a_refused_connection_fails_at_once() -> None:
    async with command_client(redis_target(f"redis://127.0.0.1:{free_port()}/0")) as client:
        async with timed() as took:
            with pytest.raises(redis.ConnectionError):
                await client.ping()
        assert took.seconds < 0.5


async def test_a_server_that_comes_back_is_used_again(own_valkey: Callable[[], EmbeddedValkey]) -> None:
    server = own_valkey()
    async with command_client(redis_target(server.url), patience_s=5) as client:
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
