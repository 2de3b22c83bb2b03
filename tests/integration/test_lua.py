"""Each Lua script by itself: what its header promises, on a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.infra.redis import command_client
from gateway.jobs.redis_broker import LUA
from gateway.settings import redis_target

READY, WAKE, HOLD = "gw:{q}:ready", "gw:{q}:wake", "gw:{q}:hold"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = command_client(redis_target(redis_url), patience_s=5)  # a busy machine is no outage
    yield client
    await client.aclose()


async def _run(redis: Redis, name: str, keys: list[str], *args: Any) -> Any:
    return await redis.eval(LUA[name], len(keys), *keys, *args)


async def test_offer_is_idempotent_and_leaves_one_marker(redis: Redis) -> None:
    assert await _run(redis, "offer", [READY, WAKE], 5, "b", 1, "a") == 2
    assert await _run(redis, "offer", [READY, WAKE], 5, "b") == 0
    assert await redis.zrange(READY, 0, -1) == [b"a", b"b"]
    assert await redis.llen(WAKE) == 1


async def test_fetch_hands_out_each_id_once_and_wakes_the_next_for_what_is_left(redis: Redis) -> None:
    await _run(redis, "offer", [READY, WAKE], 3, "c", 1, "a", 2, "b")
    await redis.lpop(WAKE)
    assert await _run(redis, "fetch", [READY, WAKE, HOLD], 2) == [0, b"", b"a", b"b"]
    assert await redis.llen(WAKE) == 1
    assert await _run(redis, "fetch", [READY, WAKE, HOLD], 2) == [0, b"", b"c"]
    assert await redis.llen(WAKE) == 0
    assert await _run(redis, "fetch", [READY, WAKE, HOLD], 2) == [0, b""]


async def test_fetch_gives_nothing_while_held_and_says_how_long(redis: Redis) -> None:
    await _run(redis, "offer", [READY, WAKE], 1, "a")
    await redis.set(HOLD, "limited", px=60_000)
    held_ms, why = await _run(redis, "fetch", [READY, WAKE, HOLD], 1)
    assert 50_000 < held_ms <= 60_000
    assert why == b"limited"
    assert await redis.zcard(READY) == 1


async def test_release_ends_the_hold_and_wakes(redis: Redis) -> None:
    await redis.set(HOLD, "paused", px=60_000)
    await _run(redis, "release", [HOLD, WAKE])
    assert not await redis.exists(HOLD)
    assert await redis.llen(WAKE) == 1


def test_every_script_has_a_test_here() -> None:
    assert set(LUA) == {"offer", "fetch", "release"}
