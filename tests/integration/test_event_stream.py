"""The stream that features answer with: names of events, its end, replay from the beginning, signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.realtime import stream
from gateway.realtime.channel import Channel, Topic
from gateway.realtime.service import Realtime
from gateway.realtime.stream import EventStream
from tests.support.realtime import replica_of_channels

Pool = asyncpg.Pool
RUN = Channel(Topic.JOB, "0198c1d2")


@pytest.fixture
async def one(pool: Pool) -> AsyncIterator[Realtime]:
    async with replica_of_channels(pool, None) as (made, _):
        yield made


async def texts(events: AsyncIterator[bytes]) -> list[str]:
    return [event.decode() async for event in events]


async def test_a_run_from_its_beginning_to_its_end(one: Realtime) -> None:
    for kind in ("job:started", "run:step", "job:completed", "run:step"):
        one.publisher.publish((RUN,), kind, {"jobId": RUN.id})
    await one.publisher.stop()
    events = await texts(EventStream(one.hub, [RUN], until=("job:completed",), replay=True, named=True).events())
    names = [line for event in events for line in event.splitlines() if line.startswith("event: ")]
    assert events[0] == "retry: 2000\n\n"
    assert names == ["event: started", "event: step", "event: completed"]


async def test_a_silent_stream_gives_signs_of_life(one: Realtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.05)
    made = EventStream(one.hub, [RUN])
    events = made.events()
    came = [(await anext(events)).decode() for _ in range(4)]
    assert came[0].startswith("retry: ")
    assert came[1].startswith("id: ")
    assert came[2:] == [": still here\n\n"] * 2
    one.hub.drain()
    assert await texts(events) == []
    late = EventStream(one.hub, [RUN])
    assert len(await texts(late.events())) == 2, "a replica that stops takes nobody"


async def test_what_is_written_is_in_the_log(one: Realtime) -> None:
    one.publisher.publish((RUN,), "job:completed", {"jobId": RUN.id})
    await asyncio.wait_for(one.publisher.written(), 20)
    assert len(await texts(EventStream(one.hub, [RUN], until=("job:completed",), replay=True).events())) > 1
