"""Channels as server-sent events (WHATWG HTML, 9.2): the same messages; after a break it goes on where it stopped."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from gateway.realtime.channel import Channel
from gateway.realtime.event_log import Gap, LogDown
from gateway.realtime.feed import gap_message
from gateway.realtime.hub import Hub
from gateway.realtime.listener import GOING_AWAY, Listener, Told

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies must not collect it
HEARTBEAT_S: Final = 15.0  # shorter than the 30 to 60 s after which proxies take a silent connection for dead
RECONNECT_MS: Final = 2000


class EventStream:
    """For one caller, of whom somebody has checked that he may listen.

    ``until``: message types that end the stream. ``replay``: it begins with all that is kept, not now. ``named``: an
    event's name is its type without what stands before the colon (``run:step`` is ``step``); else no event has a name,
    so that a browser's ``onmessage`` gets them all. ``listener.close`` ends it, as the replica's stop does.
    """

    def __init__(
        self,
        hub: Hub,
        channels: Sequence[Channel],
        *,
        until: Collection[str] = (),
        replay: bool = False,
        named: bool = False,
    ) -> None:
        self._hub = hub
        self._channels = sorted(set(channels), key=str)
        self.listener = Listener()
        self._until = frozenset(until)
        self._replay = replay
        self._named = named
        self._positions = [0] * len(self._channels)
        self._place = {str(channel): at for at, channel in enumerate(self._channels)}

    async def events(self, last_event_id: str | None = None) -> AsyncIterator[bytes]:
        """The body of an answer of ``MEDIA_TYPE``. ``last_event_id``: the request's ``Last-Event-ID``.

        It ends when the channels cannot be read now, and when the client is too slow: clients connect again by
        themselves.
        """
        self._hub.enter(self.listener)
        joining = asyncio.create_task(self._join(self._since(last_event_id)), name="join channels")
        try:
            yield f"retry: {RECONNECT_MS}\n\n".encode()
            if not last_event_id and not self._replay:
                await joining  # before that the positions would not be known
            # An id alone is no event, but what a browser that is cut before the first one comes back with.
            yield b"id: %b\n\n" % self._event_id()
            while taken := await self._take():
                for told in taken:
                    if told.channel:
                        self._positions[self._place[told.channel]] = told.seq
                    yield self._event(told)
                    if self._until and _type(told) in self._until:
                        return
        finally:
            joining.cancel()
            self._hub.leave(self.listener)

    async def _take(self) -> list[Told]:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                return await self.listener.take()
        except TimeoutError:
            return [_HEARTBEAT]

    def _since(self, last_event_id: str | None) -> Sequence[int | None]:
        """For each channel, from where to begin. -1: nobody knows what the client has seen."""
        if not last_event_id:
            return [0 if self._replay else None for _ in self._channels]
        found = self._read_id(last_event_id)
        if found is None:
            return [-1 for _ in self._channels]
        self._positions = found
        return list(found)

    async def _join(self, since: Sequence[int | None]) -> None:
        try:
            for at, channel in enumerate(self._channels):
                start = since[at]
                unknown = start == -1
                await self._hub.subscribe(
                    channel, self.listener, None if unknown else start, partial(self._begin, at, unknown)
                )
        except LogDown as error:
            log.info("stream_ended", reason=str(error))
            self.listener.close(GOING_AWAY)

    def _begin(self, at: int, unknown: bool, seq: int) -> None:
        self._positions[at] = seq
        if unknown:
            name = str(self._channels[at])
            self.listener.put(Told(gap_message(name, Gap(0, seq)), name, seq))

    def _event(self, told: Told) -> bytes:
        if not told.channel:
            return told.data
        name = f"event: {_type(told).partition(':')[2] or _type(told)}\n".encode() if self._named else b""
        return b"id: %b\n%bdata: %b\n\n" % (self._event_id(), name, told.data)

    def _event_id(self) -> bytes:
        """Positions in all channels, in the order of their names, after a check of those names."""
        return ".".join([self._check(), *(f"{seq:x}" for seq in self._positions)]).encode()

    def _check(self) -> str:
        return f"{zlib.crc32(' '.join(self._place).encode()):08x}"

    def _read_id(self, event_id: str) -> list[int] | None:
        """None for an id of other channels, or none of ours."""
        check, *positions = event_id.split(".")
        if check != self._check() or len(positions) != len(self._positions):
            return None
        try:
            found = [int(seq, 16) for seq in positions]
        except ValueError:
            return None
        return found if all(0 <= seq < 2**53 for seq in found) else None


_HEARTBEAT: Final = Told(b": still here\n\n")


class _Typed(msgspec.Struct):
    type: str


def _type(told: Told) -> str:
    return "" if not told.channel else _TYPED.decode(told.data).type


_TYPED: Final = msgspec.json.Decoder(_Typed)
