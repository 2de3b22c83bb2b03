"""Channels in both modes: order, replay, and that no gap stays unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import asyncpg
import pytest
import redis
from prometheus_client import CollectorRegistry

from gateway.infra.lifecycle import stop_all
from gateway.infra.realtime_metrics import RealtimeMetrics
from gateway.jobs.direct_broker import DirectBroker
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.events import Events
from gateway.jobs.store import Store
from gateway.realtime.channel import Channel, Topic
from gateway.realtime.event_log import Batch
from gateway.realtime.hub import Hub
from gateway.realtime.ledger_log import SQL, LedgerLog
from gateway.realtime.logs import Logs
from gateway.realtime.service import Realtime
from tests.support.eventually import eventually
from tests.support.realtime import Ear, replica_of_channels, sound

Pool = asyncpg.Pool
RUN = Channel(Topic.JOB, "0198c1d2")
OTHER = Channel(Topic.PROJECT, "shop")


@pytest.fixture(params=["redis", "ledger"])
def url(request: pytest.FixtureRequest) -> str | None:
    return str(request.getfixturevalue("redis_url")) if request.param == "redis" else None


@pytest.fixture
async def two(pool: Pool, url: str | None) -> AsyncIterator[tuple[Realtime, Realtime]]:
    async with AsyncExitStack() as stack:
        one, _ = await stack.enter_async_context(replica_of_channels(pool, url, patience_s=5))
        other, _ = await stack.enter_async_context(replica_of_channels(pool, url, patience_s=5))
        yield one, other


def tell(one: Realtime, numbers: range, channel: Channel = RUN) -> None:
    for n in numbers:
        one.publisher.publish((channel,), "run:step", {"n": n})


async def test_any_replica_hears_what_any_tells_in_order(two: tuple[Realtime, Realtime]) -> None:
    near, far = Ear(), Ear()
    start = await near.join(two[0], RUN)
    assert await far.join(two[1], RUN) == start
    tell(two[0], range(50))
    for ear in (near, far):
        await eventually(lambda ear=ear: ear.numbers() == [*range(50)])
        assert sound(start, ear.told) == start + 50
    message = near.told[0]
    assert message == {"type": "run:step", "channel": "job:0198c1d2", "n": 0, "seq": start + 1}


async def test_each_channel_has_positions_of_its_own(two: tuple[Realtime, Realtime]) -> None:
    ear, other = Ear(), Ear()
    begun, elsewhere = await ear.join(two[1], RUN), await other.join(two[1], OTHER)
    two[0].publisher.publish((RUN, OTHER), "run:step", {"n": 1})
    tell(two[0], range(2, 4), OTHER)
    await eventually(lambda: other.numbers() == [1, 2, 3])
    await eventually(lambda: ear.numbers() == [1])
    assert (sound(begun, ear.told), sound(elsewhere, other.told)) == (begun + 1, elsewhere + 3)


async def test_a_conversations_messages_name_it_as_document_002_does(two: tuple[Realtime, Realtime]) -> None:
    ear = Ear()
    await ear.join(two[0], Channel(Topic.CONVERSATION, "abc-def"))
    progress = {"jobId": "123", "progress": {"stage": "literature_search", "percent": 45}}
    two[1].publisher.publish((Channel(Topic.CONVERSATION, "abc-def"),), "job:progress", progress)
    await eventually(lambda: ear.told)
    told = {name: value for name, value in ear.told[0].items() if name not in ("channel", "seq")}
    assert told == {"type": "job:progress", "conversationId": "abc-def", **progress}


async def test_who_comes_back_elsewhere_goes_on_where_it_stopped(two: tuple[Realtime, Realtime]) -> None:
    first, second = Ear(), Ear()
    start = await first.join(two[0], RUN)
    tell(two[0], range(3))
    await eventually(lambda: len(first.numbers()) == 3)
    two[0].hub.leave(first.listener)
    tell(two[0], range(3, 700))  # several pages
    telling = asyncio.create_task(keep_telling(two[0], range(700, 900)))
    assert await second.join(two[1], RUN, first.told[-1]["seq"]) == start + 3
    await telling
    await eventually(lambda: len(second.numbers()) == 897, 30)
    assert second.numbers() == [*range(3, 900)]
    assert sound(start + 3, second.told) == start + 900
    assert second.gaps() == [], "nothing was missing"


async def keep_telling(one: Realtime, numbers: range) -> None:
    for n in numbers:
        tell(one, range(n, n + 1))
        await asyncio.sleep(0.001)


class HeldLog(LedgerLog):
    """It has read a position, and does not answer before it may."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, most=1000, keep_s=60)
        self.has_read, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    async def positions(self, channels: Sequence[str]) -> dict[str, int]:
        found = await super().positions(channels)
        self.has_read.set()
        await self.may_answer.wait()
        return found


async def test_what_others_are_told_while_one_comes_back_is_told_to_him_too(pool: Pool) -> None:
    events = Events()
    log, metrics = HeldLog(pool), RealtimeMetrics(CollectorRegistry())
    logs = Logs(log, None, Dispatcher(DirectBroker(Store(pool, "channels", 30_000)), events), events)
    hub = Hub(logs, metrics)
    for component in (logs, hub):
        await component.start()
    first, back = Ear(), Ear()
    start = await first.join(hub, RUN)
    log.has_read.clear()
    log.may_answer.clear()
    coming = asyncio.create_task(back.join(hub, RUN, start))
    await log.has_read.wait()
    await log.append([Batch(str(RUN), [b'{"type":"run:step","n":1}'])], 0)
    await eventually(lambda: first.numbers() == [1])
    log.may_answer.set()
    await coming
    await eventually(lambda: back.numbers() == [1])
    sound(start, back.told)
    await stop_all([logs, hub], 5)


async def test_everything_that_is_kept_and_nothing_twice(two: tuple[Realtime, Realtime]) -> None:
    before, ear = Ear(), Ear()
    start = await before.join(two[0], RUN)
    tell(two[0], range(5))
    await eventually(lambda: len(before.numbers()) == 5)
    assert await ear.join(two[1], RUN, 0) == start
    tell(two[0], range(5, 10))
    await eventually(lambda: len(ear.numbers()) == 10)
    assert sound(start, ear.told) == start + 10


async def test_a_position_that_nobody_knows_is_a_gap(two: tuple[Realtime, Realtime]) -> None:
    for since in (17, 2**53 - 1):
        ear = Ear()
        tell(two[0], range(1))
        await ear.join(two[1], RUN, since)
        tell(two[0], range(1, 2))
        await eventually(lambda ear=ear: 1 in ear.numbers())
        assert ear.gaps()[0]["since"] == since
        sound(since, ear.told)


async def test_a_lost_log_is_a_gap_for_those_who_listen_and_for_those_who_come_back(
    two: tuple[Realtime, Realtime], url: str | None, pool: Pool
) -> None:
    ear, back = Ear(), Ear()
    start = await ear.join(two[1], RUN)
    tell(two[0], range(3))
    await eventually(lambda: len(ear.numbers()) == 3)
    await lose(url, pool)
    tell(two[0], range(3, 6))
    await eventually(lambda: len(ear.numbers()) == 6)
    assert len(ear.gaps()) == 1
    sound(start, ear.told)
    await back.join(two[0], RUN, start + 3)
    await eventually(lambda: back.numbers() == [3, 4, 5])
    assert back.gaps()[0]["since"] == start + 3
    sound(start + 3, back.told)


async def test_a_lost_log_is_seen_also_when_nothing_is_told_any_more(
    two: tuple[Realtime, Realtime], url: str | None, pool: Pool
) -> None:
    ear = Ear()
    await ear.join(two[1], RUN)
    tell(two[0], range(1))
    await eventually(lambda: ear.numbers() == [0])
    await lose(url, pool)
    await eventually(ear.gaps, timeout=20)


async def lose(url: str | None, pool: Pool) -> None:
    """Redis is flushed; PostgreSQL crashed, which empties unlogged tables."""
    if url is not None:
        with redis.Redis.from_url(url) as client:
            client.flushall()
    else:
        await pool.execute("TRUNCATE realtime_channels, realtime_messages")


async def test_what_is_told_only_where_somebody_listens(two: tuple[Realtime, Realtime]) -> None:
    unheard, ear = Channel(Topic.JOB, "unheard"), Ear()
    two[0].publisher.hint((unheard,), "job:completed", {"n": 0})
    start = await ear.join(two[1], RUN)
    two[0].publisher.hint((RUN,), "job:completed", {"n": 1})
    await eventually(lambda: ear.numbers() == [1])
    assert sound(start, ear.told) == start + 1
    late = Ear()
    await late.join(two[1], unheard, 0)
    tell(two[0], range(2, 3), unheard)
    await eventually(lambda: late.numbers() == [2])
    assert late.gaps() == []


async def test_what_is_no_json_is_counted_and_harms_nobody(two: tuple[Realtime, Realtime]) -> None:
    ear = Ear()
    await ear.join(two[0], RUN)
    two[0].publisher.publish((RUN,), "run:step", {"n": object()})
    tell(two[0], range(1, 2))
    await eventually(lambda: ear.numbers() == [1])


async def test_more_than_is_kept_is_a_gap(pool: Pool, url: str | None) -> None:
    kept = {"realtime_replay_messages": 10}
    async with replica_of_channels(pool, url, patience_s=5, **kept) as (one, _):
        ear, back = Ear(), Ear()
        start = await ear.join(one, RUN)
        tell(one, range(1000))
        await eventually(lambda: len(ear.numbers()) == 1000, 30)
        await one.chore.run()
        await back.join(one, RUN, start + 1)
        await eventually(lambda: back.numbers()[-1:] == [999])
        sound(start + 1, back.told)
        assert len(back.gaps()) == 1
        assert 10 <= len(back.numbers()) < 300


async def test_channels_that_nobody_touches_are_forgotten(pool: Pool) -> None:
    async with replica_of_channels(pool, None) as (one, _):
        ear = Ear()
        await ear.join(one, RUN)
        tell(one, range(3))
        await eventually(lambda: len(ear.numbers()) == 3)
        await pool.execute("UPDATE realtime_channels SET touched_at = now() - interval '2 hours'")
        await one.chore.run()
        assert await pool.fetchval("SELECT count(*) FROM realtime_messages") == 0
        tell(one, range(3, 4))
        await eventually(lambda: ear.numbers() == [0, 1, 2, 3])
        assert len(ear.gaps()) == 1


async def test_every_statement_is_one_that_postgres_takes(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for name in SQL:
            await connection.prepare(SQL[name])


async def test_a_hub_that_has_stopped_reads_no_more(pool: Pool, url: str | None) -> None:
    """The logs stop after it, and may deliver until then."""

    def readers() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "realtime fill"]

    async with replica_of_channels(pool, url, patience_s=5) as (one, dispatcher):
        await eventually(lambda: dispatcher.up or url is None)
        position = await Ear().join(one, RUN)
        hub = one.hub
        hub._deliver(str(RUN), position + 5, [b"{}"])  # what is missing before it is read
        assert readers()
        await hub.stop()
        assert not readers()
        hub._deliver(str(RUN), position + 5, [b"{}"])
        assert not readers()
