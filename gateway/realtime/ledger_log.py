"""The log in PostgreSQL, where there is no Redis or while it is away: rows, and a look at them while somebody listens.

Messages of this process are delivered as soon as they are committed, those of other replicas at the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import asyncpg

from gateway.infra.loops import Loop
from gateway.infra.postgres import LEDGER_ERRORS
from gateway.infra.sqlfiles import load_sql
from gateway.realtime.event_log import Batch, Deliver, Entry, LogDown

SQL = load_sql(__package__)

LOOK_S: Final = 0.25
PRUNE_S: Final = 60.0
_MOST_AT_ONCE: Final = 200  # messages of one channel in one look


class LedgerLog:
    """A component. The newest ``most`` messages of a channel are kept, for ``keep_s`` seconds after the last touch, by
    the chore ``prune``. ``deliver`` is set by the hub."""

    name = "realtime ledger"

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], *, most: int, keep_s: float) -> None:
        self.deliver: Deliver = lambda _channel, _seq, _bodies: None
        self._pool = pool
        self._most, self._keep_s = most, keep_s
        self._seen: dict[str, int] = {}  # up to which position each watched channel was delivered
        self._watching = asyncio.Event()
        self._loop = Loop(self.name, self._look)

    async def start(self) -> None:
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()

    async def append(self, batches: Sequence[Batch], doubt_us: int) -> None:
        messages = [
            (batch.channel, ordinal, body.decode()) for batch in batches for ordinal, body in enumerate(batch.bodies, 1)
        ]
        columns: list[list[Any]] = [list(column) for column in zip(*messages, strict=True)]
        names, counts = [batch.channel for batch in batches], [len(batch.bodies) for batch in batches]
        watched = [batch.watched_only for batch in batches]
        with _as_log_down():
            rows = await self._pool.fetch(SQL["append_messages"], names, counts, watched, doubt_us, *columns)
        firsts = {row["channel"]: row["first"] for row in rows}
        for batch in batches:
            if batch.channel in firsts and batch.channel in self._seen:
                self._deliver(batch.channel, firsts[batch.channel], batch.bodies)

    async def now_us(self) -> int:
        with _as_log_down():
            return int(await self._pool.fetchval(SQL["clock"]))

    async def positions(self, channels: Sequence[str]) -> dict[str, int]:
        left, found = list(channels), dict[str, int]()
        with _as_log_down():
            while left:  # a channel that another replica begins at this moment is seen by the next query
                rows = await self._pool.fetch(SQL["open_channels"], left)
                found |= {row["channel"]: row["last"] for row in rows}
                left = [channel for channel in left if channel not in found]
        return found

    async def moved(self, channels: Sequence[str]) -> dict[str, int]:
        """The last position of those that have one; nothing is begun. Raises ``LogDown``."""
        with _as_log_down():
            rows = await self._pool.fetch(SQL["last_positions"], list(channels))
        return {row["channel"]: row["last"] for row in rows}

    async def read(self, channel: str, since: int, limit: int) -> list[Entry]:
        with _as_log_down():
            rows = await self._pool.fetch(SQL["read_messages"], channel, since, limit)
        return [Entry(row["seq"], row["body"].encode()) for row in rows]

    async def watch(self, channel: str) -> None:
        self._seen[channel] = (await self.positions([channel]))[channel]
        self._watching.set()

    async def unwatch(self, channels: Sequence[str]) -> None:
        for channel in channels:
            self._seen.pop(channel, None)

    async def prune(self) -> None:
        await self._pool.execute(SQL["prune_messages"], self._keep_s, self._most)

    def _deliver(self, channel: str, first: int, bodies: Sequence[bytes]) -> None:
        self._seen[channel] = max(self._seen[channel], first + len(bodies) - 1)
        self.deliver(channel, first, bodies)

    async def _look(self) -> float:
        if not self._seen:
            self._watching.clear()
            await self._watching.wait()
        seen = dict(self._seen)
        rows = await self._pool.fetch(SQL["new_messages"], list(seen), list(seen.values()), _MOST_AT_ONCE)
        for row in rows:
            if row["channel"] in self._seen:
                self._deliver(row["channel"], row["seq"], [row["body"].encode()])
        return LOOK_S


@contextlib.contextmanager
def _as_log_down() -> Iterator[None]:
    try:
        yield
    except LEDGER_ERRORS as error:
        raise LogDown(f"{type(error).__name__}: {error}") from error
