"""Telling without waiting: messages are queued, and written in batches behind the caller."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any, Final

import msgspec
import structlog

from gateway.infra.loops import Loop
from gateway.infra.realtime_metrics import RealtimeMetrics
from gateway.realtime.channel import Channel
from gateway.realtime.event_log import Batch, LogDown
from gateway.realtime.feed import named
from gateway.realtime.logs import Logs

log = structlog.get_logger(__name__)

QUEUED_MAX: Final = 10_000  # messages that wait while neither log can be reached
MESSAGE_MAX: Final = 8192  # bytes: a message says what to fetch, it does not carry it
_BATCH: Final = 200  # times MESSAGE_MAX it still fits into the queue of a client that reads (listener.BYTES_MAX)
_RETRY_S: Final = 0.25
_HINTS_S: Final = 0.05  # for which hints alone are collected: most of them nobody watches
_LAST_WORD_S: Final = 1.0

Queued = tuple[str, bytes, bool]
"""Channel, message without its ``seq``, whether only for one who has listened lately."""


class LogPublisher:
    """A component, and a ``Publisher``. After an outage of Redis, and after it had to drop messages, what it writes
    begins anew in each channel, so that listeners see a gap there (``EventLog.append``)."""

    name = "publisher"

    def __init__(self, logs: Logs, metrics: RealtimeMetrics) -> None:
        self._logs = logs
        self._metrics = metrics
        self._queue: deque[Queued] = deque()
        self._queued, self._urgent, self._written = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._written.set()
        self._taken, self._gone = 0, 0  # messages: all that came, and those of them that wait no more
        self._batch_gone = asyncio.Event()  # each batch has its own
        self._doubtful = False  # since the last batch, others may have missed something
        self._doubt_us = 0
        self._loop = Loop(self.name, self._write)
        logs.on_change(self._doubt)

    async def start(self) -> None:
        await self._loop.start()

    async def stop(self) -> None:
        """Write what waits, if that does not take long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await self._written.wait()
        await self._loop.stop()

    def publish(self, channels: tuple[Channel, ...], kind: str, fields: dict[str, Any]) -> None:
        """See ``Publisher``."""
        self._put(channels, kind, fields, watched_only=False)

    async def written(self) -> None:
        """See ``Publisher``."""
        sought = self._taken
        while self._gone < sought:
            await self._batch_gone.wait()

    def hint(self, channels: tuple[Channel, ...], kind: str, fields: dict[str, Any]) -> None:
        """The same, but only if somebody has listened to the channel lately: for what happens often and is seldom
        watched."""
        self._put(channels, kind, fields, watched_only=True)

    def _put(self, channels: tuple[Channel, ...], kind: str, fields: dict[str, Any], *, watched_only: bool) -> None:
        for channel in channels:
            name = str(channel)
            try:
                body = msgspec.json.encode({"type": kind, "channel": name, **named(name), **fields})
            except (TypeError, ValueError) as error:
                log.error("message_not_json", channel=name, type=kind, error=str(error))
                self._metrics.dropped("not_json")
                continue
            if len(body) > MESSAGE_MAX:
                log.error("message_too_large", channel=name, type=kind, bytes=len(body), most=MESSAGE_MAX)
                self._metrics.dropped("too_large")
                continue
            self._queue.append((name, body, watched_only))
            self._taken += 1
        while len(self._queue) > QUEUED_MAX:
            self._queue.popleft()
            self._gone += 1
            self._metrics.dropped("buffer_full")
            self._doubtful = True
        self._queued.set()
        if not watched_only:
            self._urgent.set()
        self._written.clear()

    def _doubt(self) -> None:
        self._doubtful = True

    async def _write(self) -> float:
        await self._queued.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HINTS_S):
                await self._urgent.wait()
        try:
            await self._write_batch()
        except LogDown as error:
            log.debug("messages_wait", messages=len(self._queue), reason=str(error))
            return _RETRY_S
        if not self._queue:
            self._queued.clear()
            self._urgent.clear()
            self._written.set()
        return 0.0

    async def _write_batch(self) -> None:
        using = self._logs.current
        if self._doubtful:
            self._doubtful = False
            try:
                self._doubt_us = await using.now_us()
            except LogDown:
                self._doubtful = True
                raise
        batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        try:
            await using.append(_by_channel(batch), self._doubt_us)
        except LogDown:
            # Some of it may have been written: once more is better than never, as messages only say what to fetch.
            self._queue.extendleft(reversed(batch))
            raise
        self._metrics.published(len(batch))
        self._gone += len(batch)
        self._batch_gone.set()
        self._batch_gone = asyncio.Event()


def _by_channel(messages: list[Queued]) -> list[Batch]:
    found: dict[str, Batch] = {}
    for channel, body, watched_only in messages:
        batch = found.setdefault(channel, Batch(channel, [], watched_only))
        batch.bodies.append(body)
        if batch.watched_only and not watched_only:
            found[channel] = batch._replace(watched_only=False)
    return list(found.values())
