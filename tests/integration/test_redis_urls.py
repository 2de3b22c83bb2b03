"""Redis settings: accepted forms, refused forms, and clients that give up in time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis

from gateway.dev_servers import EmbeddedValkey, free_port
from gateway.infra.redis import RedisTarget, blocking_client, command_client
from tests.support.proxy import Proxy


@pytest.mark.parametrize(
    ("given", "url", "masked"),
    [
        ({"url": "redis://localhost"}, "redis://localhost", "redis://localhost"),
        ({"url": " redis://h:6380/2 "}, "redis://h:6380/2", "redis://h:6380/2"),
        ({"url": "rediss://user:p%40ss@h:6379"}, "rediss://user:p%40ss@h:6379", "rediss://user:•••@h:6379"),
        ({"url": "redis://:secret@h"}, "redis://:secret@h", "redis://:•••@h"),
        ({"url": "redis://h/0?password=secret"}, "redis://h/0?password=secret", "redis://h/0?•••"),
        ({"url": "unix:///run/redis.sock?db=1"}, "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ({"host": "h"}, "redis://h:6379/0", "redis://h:6379/0"),
        ({"host": "::1", "port": 6380}, "redis://[::1]:6380/0", "redis://[::1]:6380/0"),
        ({"host": "h", "password": "p@s/s:w"}, "redis://:p%40s%2Fs%3Aw@h:6379/0", "redis://:•••@h:6379/0"),
        ({"url": "redis://first", "host": "second"}, "redis://first", "redis://first"),
    ],
)
def test_accepted_forms(given: dict[str, object], url: str, masked: str) -> None:
    target = RedisTarget.parse(**given)  # type: ignore[arg-type]
    assert target is not None
    assert (target.url, target.masked) == (url, masked)


def test_nothing_set_is_no_redis() -> None:
    assert RedisTarget.parse() is None
    assert RedisTarget.parse("", host="", port=6379, password="left over") is None


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"url": "localhost:6379"}, "REDIS_URL must start with"),
        ({"url": "http://:secret@h"}, "REDIS_URL must start with"),
        ({"url": "redis://:secret@a:1,b:2"}, "REDIS_URL names several hosts"),
        ({"url": "redis+sentinel://:secret@h"}, "REDIS_URL.*Sentinel is not supported"),
        ({"url": "redis+cluster://:secret@h"}, "REDIS_URL.*Cluster is not supported"),
        ({"url": "redis://:secret@h:port"}, "port in REDIS_URL"),
        ({"url": "redis://:secret@h:99999"}, "port in REDIS_URL"),
        ({"url": "redis://:secret@"}, "REDIS_URL has no host"),
        ({"url": "redis://:secret@[h"}, "REDIS_URL is not a URL"),
        ({"url": "redis://:secret@h/mydb"}, "path of REDIS_URL"),
        ({"host": "a,b", "password": "secret"}, "REDIS_HOST names several hosts"),
        ({"host": "a", "port": 0, "password": "secret"}, "REDIS_PORT is 0"),
    ],
)
def test_refused_forms_name_the_setting_and_no_password(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        RedisTarget.parse(**given)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_command_gives_up_within_a_second_and_is_not_repeated(own_valkey: Callable[[], EmbeddedValkey]) -> None:
    server = own_valkey()
    async with Proxy("127.0.0.1", server.port) as proxy, command_client(f"redis://127.0.0.1:{proxy.port}/0") as client:
        await client.incr("n")
        proxy.half_open()
        started = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            await client.incr("n")
        assert time.monotonic() - started < 1.0
        proxy.flow()
        assert await client.get("n") == b"2"  # once by the call whose answer was lost, not again


async def test_a_refused_connection_fails_at_once() -> None:
    async with command_client(f"redis://127.0.0.1:{free_port()}/0") as client:
        started = time.monotonic()
        with pytest.raises(redis.ConnectionError):
            await client.ping()
        assert time.monotonic() - started < 0.5


async def test_a_server_that_comes_back_is_used_again(own_valkey: Callable[[], EmbeddedValkey]) -> None:
    server = own_valkey()
    async with command_client(server.url) as client:
        await client.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            await client.ping()
        server.start()
        assert await client.ping()


async def test_a_blocking_client_waits_longer_than_a_command(redis_url: str) -> None:
    async with blocking_client(redis_url, 1.0) as client:
        started = time.monotonic()
        assert await client.blpop(["nothing"], timeout=1.0) is None
        assert time.monotonic() - started >= 0.9
