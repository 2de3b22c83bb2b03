"""Clients of ``/api/ws`` and ``/api/v1/events``, and a publisher beside the gateway under test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.infra.lifecycle import Component, stop_all
from gateway.infra.realtime_metrics import RealtimeMetrics
from gateway.infra.redis import blocking_client, command_client
from gateway.jobs.direct_broker import DirectBroker
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.events import Events
from gateway.jobs.redis_broker import BLOCK_S, RedisBroker
from gateway.jobs.store import Store
from gateway.realtime.channel import Channel
from gateway.realtime.hub import Hub
from gateway.realtime.listener import Listener
from gateway.realtime.service import Realtime
from gateway.settings import Settings
from tests.support.gateway_process import SECRET, token

WAIT_S = 30.0
MESSAGES = ("subscribed", "unsubscribed", "authenticated", "ready", "pong", "error")


class SocketClient:
    """Everything that came is in ``seen``, in order; ``told`` are those of channels."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seen: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self._came = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @property
    def told(self) -> list[dict[str, Any]]:
        return [message for message in self.seen if message["type"] not in MESSAGES]

    async def _read(self) -> None:
        try:
            async for text in self.connection:
                self.seen.append(json.loads(text))
                self._came.set()
        except ConnectionClosed:
            pass
        self.closed = (self.connection.close_code or 0, self.connection.close_reason or "")
        self._came.set()

    async def say(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def ask(self, answer: str, **message: Any) -> dict[str, Any]:
        """Send a message, and wait for the next one of type ``answer`` (or an error)."""
        before = len(self.seen)
        await self.say(**message)
        return await self.next(answer, before)

    async def next(self, kind: str, since: int = 0) -> dict[str, Any]:
        """The first message of a type (or an error) after the first ``since`` messages."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for message in self.seen[since:]:
                    if message["type"] in (kind, "error"):
                        return message
                assert self.closed is None, f"closed with {self.closed} before {kind}: {self.seen}"
                self._came.clear()
                await self._came.wait()

    async def count(self, number: int) -> list[dict[str, Any]]:
        """Wait for so many messages of channels."""
        async with asyncio.timeout(WAIT_S):
            while len(self.told) < number:
                assert self.closed is None, f"closed with {self.closed}: {self.seen}"
                self._came.clear()
                await self._came.wait()
        return self.told

    async def end(self, timeout: float = WAIT_S) -> tuple[int, str]:
        """Wait for the other side to close; answers code and reason."""
        await asyncio.wait_for(asyncio.shield(self._reading), timeout)
        assert self.closed is not None
        return self.closed

    async def close(self) -> None:
        await self.connection.close()
        await self._reading


@asynccontextmanager
async def socket(url: str, role: str | None = "admin", query: str = "", **options: Any) -> AsyncIterator[SocketClient]:
    """A connection; with a ``role`` it has said who it is by its first message."""
    address = f"{url.replace('http', 'ws', 1)}/api/ws{query}"
    async with connect(address, proxy=None, max_size=None, **options) as connection:
        client = SocketClient(connection)
        if role is not None:
            answer = await client.ask("authenticated", action="auth", token=token(role))
            assert answer["type"] == "authenticated", answer
        try:
            yield client
        finally:
            await client.close()


class EventSource:
    """The events of one answer. ``last_id`` is what a browser would come back with."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()
        self.last_id = ""

    async def begun(self) -> str:
        """Wait until it listens; answers the id where it begins."""
        async with asyncio.timeout(WAIT_S):
            while not self.last_id:
                await self._block()
        return self.last_id

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Name and message of the next event. Raises ``EOFError`` at the end."""
        async with asyncio.timeout(WAIT_S):
            while True:
                fields = await self._block()
                if "data" in fields:
                    return fields.get("event", ""), json.loads(fields["data"])

    async def _block(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                self.last_id = fields.get("id", self.last_id)
                return fields
            if not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
        raise EOFError


@asynccontextmanager
async def event_source(
    client: httpx.AsyncClient, channels: str, last_event_id: str | None = None
) -> AsyncIterator[EventSource]:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with client.stream("GET", "/api/v1/events", params={"channels": channels}, headers=headers) as answer:
        yield EventSource(answer)


def realtime(settings: Settings, pool: asyncpg.Pool[Any], dispatcher: Dispatcher, events: Events) -> Realtime:
    """As ``runtime`` builds it."""
    return Realtime(settings, pool, dispatcher, events, RealtimeMetrics(CollectorRegistry()))


@asynccontextmanager
async def replica_of_channels(
    pool: asyncpg.Pool[Any], redis_url: str | None, *, patience_s: float | None = None, **settings: Any
) -> AsyncIterator[tuple[Realtime, Dispatcher]]:
    """What a replica has of channels, without the rest of it, in this process. ``patience_s``: see ``replica``."""
    events, store = Events(), Store(pool, "channels", 30_000)
    dispatcher = Dispatcher(DirectBroker(store), events)
    given = {"database_url": "postgresql://unused/unused", "redis_url": redis_url, "jwt_secret": SECRET, **settings}
    loaded = Settings.model_validate(given)
    clients: list[Any] = []
    if (target := loaded.queue_redis) is not None:
        clients = [command_client(target, patience_s=patience_s), blocking_client(target, BLOCK_S)]
        dispatcher.attach(RedisBroker(store, *clients, await store.ledger_id()))
    made = realtime(loaded, pool, dispatcher, events)
    await dispatcher.start()
    started: list[Component] = []
    try:
        for component in made.components:
            started.append(component)
            await component.start()
        yield made, dispatcher
    finally:
        await stop_all(started, 5)
        await dispatcher.stop()
        for client in clients:
            await client.aclose()


class Ear:
    """A listener in this process. ``told`` are the messages that came, parsed."""

    def __init__(self) -> None:
        self.listener = Listener()
        self.told: list[dict[str, Any]] = []
        self.begun: list[int] = []
        self._taking = asyncio.create_task(self._take())

    async def _take(self) -> None:
        while taken := await self.listener.take():
            self.told += [json.loads(told.data) for told in taken]

    async def join(self, one: Realtime | Hub, channel: Channel, since: int | None = None) -> int:
        """Answers the position where it begins."""
        hub = one if isinstance(one, Hub) else one.hub
        await hub.subscribe(channel, self.listener, since, self.begun.append)
        return self.begun[-1]

    def numbers(self) -> list[int]:
        return [message["n"] for message in self.told if "n" in message]

    def gaps(self) -> list[dict[str, Any]]:
        return [message for message in self.told if message["type"] == "gap"]


def sound(start: int, told: Sequence[Mapping[str, Any]]) -> int:
    """What a careful client does: from the position where it began on, each message is the next one, or a gap was told.
    Answers the position that it has reached."""
    at = start
    for message in told:
        if message["type"] == "gap":
            assert message["since"] == at, f"a gap that begins elsewhere than at {at}: {message}"
        else:
            assert message["seq"] == at + 1, f"not the next one after {at}, and no gap was told: {message}"
        at = message["seq"]
    return at
