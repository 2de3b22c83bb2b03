"""Notifications: from the commit to the client with many sockets, memory of one, and replay while replicas die."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry

from bench.cost import Measure
from bench.gateway import RAISED, SECRET, Gateway, backlog_of, gateway, replica, resume
from bench.http_load import percentiles
from bench.servers import Stores, fresh_ledger
from bench.socket_load import Socket
from gateway.infra.postgres import open_pool
from gateway.infra.realtime_metrics import RealtimeMetrics
from gateway.infra.redis import blocking_client, command_client
from gateway.jobs.direct_broker import DirectBroker
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.events import Events
from gateway.jobs.redis_broker import BLOCK_S, RedisBroker
from gateway.jobs.store import Store
from gateway.realtime.channel import Channel, Topic
from gateway.realtime.service import Realtime
from gateway.settings import Settings

_PER_S = 100  # mails a second: what is measured is the way of one notification, not a full machine
_OPENING = 20  # sockets at once
_WATCHED = Channel(Topic.QUEUE, "email-queue")
_OPEN = {**RAISED, "REALTIME_CONNECTIONS_PER_USER": "100000"}


async def notify(on: Stores, *, mode: str, sockets: int, broadcasts: int) -> Measure:
    """``sockets`` clients, each of which waits for the end of its own mail's job, 100 of which end each second:
    milliseconds from the start of the commit of that end to the client. Then each listens to one channel together with
    all others, ``broadcasts`` messages, 5 a second: milliseconds from ``publish`` in another process to each client."""
    direct = {"REDIS_URL": ""} if mode == "direct" else {}
    limits = {"EMAIL_RATE_MAX": str(_PER_S // 10), "EMAIL_RATE_DURATION_MS": "100"}
    async with gateway(on, **{**_OPEN, **limits, **direct}) as made:
        await backlog_of(made, sockets)
        before = made.rss_kib
        came, clients = await _one_each(made)
        per_socket = (made.rss_kib - before) / sockets
        await resume(made)
        ended = await _until_all_came(made, came, sockets)
        for client in clients:
            client.close()
        fanned = await _broadcast(on, made, mode, sockets, broadcasts)
        return {
            "mode": mode,
            "sockets": sockets,
            **percentiles([(came[job] - at) * 1000 for job, at in ended.items()]),
            **percentiles(fanned, "broadcast_"),
            "kib_per_socket": round(per_socket, 1),
            "rss_mib": made.rss_mib,
        }


async def _one_each(made: Gateway) -> tuple[dict[str, float], list[Socket]]:
    """A socket for each mail's job. Answers when the end of each job came, which is filled later, and the sockets."""
    ledger = await asyncpg.connect(made.ledger)
    jobs = [str(row["job_id"]) for row in await ledger.fetch("SELECT job_id FROM emails")]
    await ledger.close()
    came: dict[str, float] = {}

    def hear(message: dict[str, Any], at: float) -> None:
        if message["type"] == "job:completed":
            came[message["jobId"]] = at

    return came, await _open(made, [f"job:{job}" for job in jobs], hear)


async def _open(made: Gateway, channels: list[str], hear: Any) -> list[Socket]:
    free = asyncio.Semaphore(_OPENING)

    async def one(channel: str) -> Socket:
        async with free:
            return await Socket.open(made.port, made.token, channel, hear)

    return list(await asyncio.gather(*map(one, channels)))


async def _until_all_came(made: Gateway, came: dict[str, float], jobs: int) -> dict[str, float]:
    """When the ledger says that each job ended, by job."""
    async with asyncio.timeout(60 + jobs / _PER_S * 3):
        while len(came) < jobs:
            await asyncio.sleep(0.05)
    ledger = await asyncpg.connect(made.ledger)
    rows = await ledger.fetch(
        "SELECT id, extract(epoch FROM finished_at)::float8 AS at FROM jobs WHERE id = ANY ($1)", [*came]
    )
    await ledger.close()
    return {str(row["id"]): row["at"] for row in rows}


async def _broadcast(on: Stores, made: Gateway, mode: str, sockets: int, broadcasts: int) -> list[float]:
    took: list[float] = []

    def hear(message: dict[str, Any], at: float) -> None:
        if message["type"] == "run:step":
            took.append((at - message["at"]) * 1000)

    clients = await _open(made, [str(_WATCHED)] * sockets, hear)
    async with _teller(made.ledger, on.redis_url if mode == "queue" else None) as teller:
        for n in range(broadcasts):
            teller.publisher.publish((_WATCHED,), "run:step", {"n": n, "at": time.time()})
            await asyncio.sleep(0.2)
        async with asyncio.timeout(60):
            while len(took) < sockets * broadcasts:
                await asyncio.sleep(0.01)
    for client in clients:
        client.close()
    return took


@asynccontextmanager
async def _teller(ledger: str, redis_url: str | None) -> AsyncIterator[Realtime]:
    """Publishes as another replica would."""
    pool = await open_pool(ledger)
    events, store = Events(), Store(pool, "bench", 30_000)
    dispatcher = Dispatcher(DirectBroker(store), events)
    settings = Settings.model_validate({"database_url": ledger, "redis_url": redis_url, "jwt_secret": SECRET})
    clients: list[Any] = []
    if (target := settings.queue_redis) is not None:
        clients = [command_client(target), blocking_client(target, BLOCK_S)]
        dispatcher.attach(RedisBroker(store, clients[0], clients[1], await store.ledger_id()))
    made = Realtime(settings, pool, dispatcher, events, RealtimeMetrics(CollectorRegistry()))
    await dispatcher.start()
    for component in made.components:
        await component.start()
    try:
        yield made
    finally:
        for component in reversed(made.components):
            await component.stop()
        await dispatcher.stop()
        for client in clients:
            await client.aclose()
        await pool.close()


class _Told:
    """Messages numbered from 0, told at a fixed rate until it is stopped."""

    def __init__(self, teller: Realtime, per_s: int) -> None:
        self.number = 0
        self._teller = teller
        self._pause_s = 1 / per_s
        self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        while True:
            self._teller.publisher.publish((_WATCHED,), "run:step", {"n": self.number})
            self.number += 1
            await asyncio.sleep(self._pause_s)

    async def stop(self) -> None:
        self._telling.cancel()
        await asyncio.wait([self._telling])


async def replay(on: Stores, *, kills: int, per_s: int) -> Measure:
    """One client that hears ``per_s`` messages a second, and whose replica is killed again and again: it connects to
    another one and goes on after what it has. ``missing`` messages did not come, ``unseen`` ones are in no gap that was
    told, ``twice`` came again; ``longest_away_ms`` is the longest time between two messages."""
    heard: list[dict[str, Any]] = []
    times: list[float] = []

    def hear(message: dict[str, Any], at: float) -> None:
        heard.append(message)
        times.append(at)

    async with fresh_ledger(on) as ledger, AsyncExitStack() as replicas:
        start = partial(replica, on, ledger, GATEWAY_ROLE="api")
        made = await replicas.enter_async_context(start())
        teller = await replicas.enter_async_context(_teller(ledger, on.redis_url))
        client = await Socket.open(made.port, made.token, str(_WATCHED), hear)
        told = _Told(teller, per_s)
        for _ in range(kills):
            following = await replicas.enter_async_context(start())
            while not heard:
                await asyncio.sleep(0.01)
            os.kill(made.pid, signal.SIGKILL)
            await client.lost()
            made = following
            client = await Socket.open(made.port, made.token, str(_WATCHED), hear, heard[-1]["seq"])
        await told.stop()
        async with asyncio.timeout(10):
            while heard[-1].get("n") != told.number - 1:
                await asyncio.sleep(0.01)
        client.close()
    between = [(later - sooner) * 1000 for sooner, later in pairwise(times)]
    return {"kills": kills, "told": told.number, **_verdict(heard, told.number), "longest_away_ms": round(max(between))}


def _verdict(heard: list[dict[str, Any]], told: int) -> Measure:
    numbers = [message["n"] for message in heard if "n" in message]
    missing = sorted({*range(told)} - {*numbers})
    gaps = [message for message in heard if message["type"] == "gap"]
    unseen = 0
    at = heard[0]["seq"] - 1
    for message in heard:  # what a client sees: each step of the positions is one, or a gap was told
        if message["type"] != "gap" and message["seq"] != at + 1:
            unseen += 1
        at = message["seq"]
    twice = len(numbers) - len({*numbers})
    return {"missing": len(missing), "gaps": len(gaps), "unseen": unseen, "twice": twice}
