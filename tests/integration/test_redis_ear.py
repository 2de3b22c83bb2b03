"""The connection over which a replica hears what is told: lost at the worst moment, it is only an outage."""

from __future__ import annotations

import asyncio

import redis

from gateway.realtime.redis_ear import RedisEar
from gateway.settings import redis_target
from tests.support.eventually import eventually


async def test_a_connection_lost_while_a_subscription_is_written_is_made_anew(redis_url: str) -> None:
    told: list[tuple[str, bytes]] = []
    ear = RedisEar(redis_target(redis_url, default_port=6379), lambda *one: told.append(one), lambda: None)
    try:
        await ear.add("before")
        adding = asyncio.create_task(ear.add("meanwhile"))
        await asyncio.sleep(0)  # redis-py has handed the command to a task that writes it
        await ear._connection.disconnect(nowait=True)
        await adding
        with redis.Redis.from_url(redis_url) as client:
            for name in ("before", "meanwhile"):
                assert client.publish(name, name) == 1
        await eventually(lambda: sorted(told) == [("before", b"before"), ("meanwhile", b"meanwhile")])
    finally:
        await ear.stop()
