"""One client's end of its channels: a bounded queue, and how its connection ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

MESSAGES_MAX: Final = 1000  # that wait for one client
BYTES_MAX: Final = 2_000_000
_LOW: Final = 100  # messages from which on a replay goes on
_ROOM_S: Final = 30.0


class Told(NamedTuple):
    """One message for a client, and the position after it. ``channel`` is empty for one of none (``pong``)."""

    data: bytes
    channel: str = ""
    seq: int = 0


class Closing(NamedTuple):
    """A WebSocket's close code (RFC 6455, 7.4; 4000 and above are ours) and the reason for people."""

    code: int
    reason: str


TOO_SLOW: Final = Closing(4008, "slow consumer: read faster, or subscribe to less; reconnect with since")
GOING_AWAY: Final = Closing(1012, "this replica stops: reconnect with since")


class Listener:
    """``put`` never blocks: who does not read is let go. One reader calls ``take``. Feeds write ``channels``."""

    __slots__ = ("_bytes", "_changed", "_queue", "_room", "channels", "closing", "on_close")

    def __init__(self) -> None:
        self.channels: set[str] = set()
        self.closing: Closing | None = None
        self.on_close: Callable[[], None] = _nothing  # written by the owner, called once
        self._queue: deque[Told] = deque()
        self._bytes = 0
        self._changed: asyncio.Future[None] | None = None  # only while someone waits: most listeners are idle
        self._room: asyncio.Future[None] | None = None

    def put(self, told: Told) -> None:
        if self.closing is not None:
            return
        self._queue.append(told)
        self._bytes += len(told.data)
        if len(self._queue) > MESSAGES_MAX or self._bytes > BYTES_MAX:
            self.close(TOO_SLOW)
        _wake(self._changed)

    def close(self, closing: Closing) -> None:
        """What is queued is still sent, except to one that is too slow. The first reason stays."""
        if self.closing is not None:
            return
        self.closing = closing
        if closing is TOO_SLOW:
            self._queue.clear()
        _wake(self._changed)
        _wake(self._room)
        self.on_close()

    async def take(self) -> list[Told]:
        """What waits, at least one message; empty once it is closed and nothing is left."""
        while not self._queue and self.closing is None:
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed
        taken = list(self._queue)
        self._queue.clear()
        self._bytes = 0
        _wake(self._room)
        return taken

    async def room(self) -> bool:
        """Wait until little is queued. False: it is closed, if only because that took too long."""
        try:
            async with asyncio.timeout(_ROOM_S):
                while len(self._queue) > _LOW and self.closing is None:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
        except TimeoutError:
            self.close(TOO_SLOW)
        return self.closing is None


def _nothing() -> None:
    return None


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
