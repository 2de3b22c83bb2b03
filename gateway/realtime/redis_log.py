"""The log in Redis: a capped stream for each channel, and pub/sub that carries each message to whoever watches.

Streams, because pub/sub alone loses what comes while a client is away (trap T64). Keys carry the ledger's id and the
channel as hash tag, as in ``jobs/redis_broker.py``: in a cluster each script touches one slot.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from gateway.infra.luafiles import load_lua
from gateway.infra.redis import REDIS_ERRORS, RedisCluster, Script, close_client, command_client
from gateway.realtime.event_log import Batch, Deliver, Entry, LogDown
from gateway.realtime.redis_ear import RedisEar
from gateway.settings import RedisTarget

LUA = load_lua("gateway.realtime")

_AT_ONCE: Final = 16  # scripts under way, each of another channel: a cluster takes no pipeline of them


class RedisLog:
    """A component. About ``most`` messages of a channel are kept, for ``keep_s`` seconds after the last touch.

    ``deliver``, and ``broken`` (some deliveries may be missing), are set by the hub.
    """

    name = "realtime redis"

    def __init__(
        self, target: RedisTarget, ledger_id: Callable[[], Awaitable[UUID]], *, most: int, keep_s: float
    ) -> None:
        self.deliver: Deliver = lambda _channel, _seq, _bodies: None
        self.broken: Callable[[], None] = lambda: None
        self._ledger_id = ledger_id
        self._prefix = "gw"  # with the ledger's id from the start on
        self._most, self._keep_ms = most, int(keep_s * 1000)
        commands = command_client(target, max_connections=_AT_ONCE + 2)
        self._commands: Any = commands  # its types are those of the blocking library too
        self._append = Script(commands, LUA["append"])
        self._position = Script(commands, LUA["position"])
        self._watched = Script(commands, LUA["watched"])
        self._one_slot = not isinstance(commands, RedisCluster)
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._ear = RedisEar(target, self._heard, self._missed)

    async def start(self) -> None:
        """Connections are made when they are needed. Raises what asyncpg raises."""
        self._prefix = f"gw:{(await self._ledger_id()).hex[:12]}"

    async def stop(self) -> None:
        await self._ear.stop()
        await close_client(self._commands)

    def key(self, channel: str, part: str) -> str:
        """``part``: log (the stream) or told (the pub/sub channel); see ``lua/append.lua``."""
        return f"{self._prefix}:{{{channel}}}:{part}"

    async def append(self, batches: Sequence[Batch], doubt_us: int) -> None:
        async def one(batch: Batch) -> None:
            limits = [self.key(batch.channel, "told"), self._most, self._keep_ms, doubt_us, int(batch.watched_only)]
            await self._append(keys=[self.key(batch.channel, "log")], args=[*limits, *batch.bodies])

        await self._each([one(batch) for batch in await self._wanted(batches)])

    async def _wanted(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Without those that nobody listens to, as far as one call tells; what is left asks again for itself."""
        hints = [self.key(batch.channel, "log") for batch in batches if batch.watched_only]
        if not hints or not self._one_slot:
            return batches
        with _as_log_down():
            exist = dict(zip(hints, await self._watched(keys=hints, args=[]), strict=True))
        return [one for one in batches if not one.watched_only or exist[self.key(one.channel, "log")]]

    async def now_us(self) -> int:
        # In a cluster any node's clock does: they differ by less than outages last.
        any_node = {} if self._one_slot else {"target_nodes": RedisCluster.RANDOM}
        with _as_log_down():
            seconds, micros = await self._commands.time(**any_node)
        return int(seconds) * 1_000_000 + int(micros)

    async def positions(self, channels: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}

        async def one(channel: str) -> None:
            found[channel] = int(await self._position(keys=[self.key(channel, "log")], args=[self._keep_ms]))

        await self._each([one(channel) for channel in channels])
        return found

    async def read(self, channel: str, since: int, limit: int) -> list[Entry]:
        with _as_log_down():
            rows = await self._commands.xrange(self.key(channel, "log"), min=str(since), max="+", count=limit)
        return [Entry(int(entry_id.partition(b"-")[0]), fields.get(b"m")) for entry_id, fields in rows]

    async def watch(self, channel: str) -> None:
        await self._ear.add(self.key(channel, "told"))

    async def unwatch(self, channels: Sequence[str]) -> None:
        await self._ear.remove([self.key(channel, "told") for channel in channels])

    async def _each(self, calls: Sequence[Awaitable[None]]) -> None:
        async def in_turn(call: Awaitable[None]) -> None:
            async with self._free:
                await call

        with _as_log_down():
            for done in await asyncio.gather(*map(in_turn, calls), return_exceptions=True):
                if isinstance(done, BaseException):
                    raise done

    def _missed(self) -> None:
        self.broken()

    def _heard(self, name: str, told: bytes) -> None:
        first, *bodies = told.split(b"\n")
        channel = name[len(self._prefix) + len(":{") : -len("}:told")]
        self.deliver(channel, int(first), bodies)


@contextlib.contextmanager
def _as_log_down() -> Iterator[None]:
    try:
        yield
    except REDIS_ERRORS as error:
        raise LogDown(str(error)) from error
