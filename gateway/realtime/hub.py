"""Who listens to what in this replica, and that nobody misses a message without being told.

What a log delivers are hints: messages that follow the last one go to all listeners of their channel; at anything else
the log itself is read. Every few seconds each channel's position is compared with the log's, whatever was delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from gateway.infra.loops import Loop
from gateway.infra.realtime_metrics import RealtimeMetrics
from gateway.realtime.channel import Channel
from gateway.realtime.event_log import Entry, EventLog, LogDown
from gateway.realtime.feed import Feed, Subscription
from gateway.realtime.listener import GOING_AWAY, Listener
from gateway.realtime.logs import Logs

log = structlog.get_logger(__name__)

VERIFY_S: Final = 5.0
_RETRY_S: Final = 0.25
_UNDER_WAY_S: Final = 0.25  # hints that were sent arrive within it
_ENDING_S: Final = 1.0  # a statement on a silent connection takes long to be cancelled
_PAGE: Final = 200  # messages read at once
_CHANNELS_AT_ONCE: Final = 500


class Hub:
    """A component."""

    name = "realtime hub"

    def __init__(self, logs: Logs, metrics: RealtimeMetrics) -> None:
        self._logs = logs
        self._log: EventLog = logs.current
        self._metrics = metrics
        self._feeds: dict[str, Feed] = {}
        self._listeners: set[Listener] = set()
        self._draining = False
        self._filling: set[asyncio.Task[None]] = set()
        self._stopped = False  # what the logs deliver until they stop too is nobody's
        self._due = asyncio.Event()
        self._outage = False  # Redis was lost or came back since the last look
        self._loop = Loop(self.name, self._look)
        logs.deliver_to(self._deliver, broken=self._due.set)
        logs.on_change(self._changed)

    async def start(self) -> None:
        self._stopped = False
        self._log = self._logs.current
        await self._loop.start()

    async def stop(self) -> None:
        self._stopped = True
        await self._loop.stop()
        if filling := tuple(self._filling):
            for task in filling:
                task.cancel()
            await asyncio.wait(filling, timeout=_ENDING_S)

    def enter(self, listener: Listener) -> None:
        """Let it know when this replica stops. To be followed by ``leave``."""
        self._listeners.add(listener)
        if self._draining:
            listener.close(GOING_AWAY)

    def drain(self) -> None:
        """Tell all listeners to go elsewhere, those that come later too."""
        self._draining = True
        for listener in self._listeners:
            listener.close(GOING_AWAY)

    async def subscribe(
        self, channel: Channel, listener: Listener, since: int | None, hello: Callable[[int], None] | None = None
    ) -> None:
        """Queue for the listener what is told on a channel: from now on, or all after ``since``; 0 is all that is kept.
        ``hello`` is called with the position where that begins. Returns when the past was queued.

        Raises ``LogDown``; then it is not subscribed.
        """
        name = str(channel)
        feed = self._feeds.setdefault(name, Feed(name))
        feed.joining += 1
        try:
            await self._opened(feed)
            start = await self._oldest(feed) if since == 0 else since
            subscription = Subscription(listener, feed.last if start is None else start, live=start is None)
            feed.join(subscription)
            if hello is not None:
                hello(subscription.last)
            if since and since < feed.elsewhere:  # told in the ledger while Redis was away
                self._metrics.gaps(subscription.skip(name, feed.last))
            if not subscription.live:
                await self._catch_up(feed, subscription)
        except LogDown:
            feed.leave(listener)
            raise
        finally:
            feed.joining -= 1

    def unsubscribe(self, channel: Channel, listener: Listener) -> bool:
        """False: it was not subscribed."""
        feed = self._feeds.get(str(channel))
        return feed is not None and feed.leave(listener)

    def leave(self, listener: Listener) -> None:
        """Forget the listener."""
        self._listeners.discard(listener)
        for name in tuple(listener.channels):
            self._feeds[name].leave(listener)

    async def _opened(self, feed: Feed) -> None:
        async with feed.opening:
            if feed.open:
                return
            using = self._log
            await using.watch(feed.name)
            feed.elsewhere = (await self._elsewhere([feed.name])).get(feed.name, 0)
            position = (await using.positions([feed.name]))[feed.name]
            if feed.last:  # it was open before an outage: what was told meanwhile may be anywhere
                self._metrics.gaps(feed.gap(position))
            feed.last, feed.open = position, using is self._log
            self._metrics.channels(len(self._feeds))

    async def _elsewhere(self, channels: Sequence[str]) -> dict[str, int]:
        """Positions in the ledger, while the log in Redis is used: a replica that lost Redis alone tells there."""
        return {} if self._log is self._logs.ledger else await self._logs.ledger.moved(channels)

    async def _oldest(self, feed: Feed) -> int:
        """The position before the oldest message that is kept."""
        for entry in await self._log.read(feed.name, 0, 1):
            return entry.seq if entry.body is None else entry.seq - 1
        return feed.last

    async def _catch_up(self, feed: Feed, subscription: Subscription) -> None:
        """Queue what is kept after the subscription's position, until it has what its channel's others have."""
        while feed.has(subscription) and await subscription.listener.room():
            before, others = subscription.last, feed.last
            page = await self._log.read(feed.name, before, _PAGE)
            told, gaps = subscription.take(feed.name, page)
            if not page:
                position = (await self._log.positions([feed.name]))[feed.name]
                if position != subscription.last:
                    gaps += subscription.skip(feed.name, position)
            self._metrics.replayed(told)
            self._metrics.gaps(gaps)
            # What others were told since the page was read is not lost: the next page has it.
            stands = subscription.last == before and feed.last == others
            if len(page) < _PAGE and (subscription.last >= feed.last or stands):
                subscription.live = True
                if subscription.last < feed.last:  # the log has lost what others were told
                    self._fill_soon(feed)
                return

    def _deliver(self, channel: str, first: int, bodies: Sequence[bytes]) -> None:
        feed = self._feeds.get(channel)
        if feed is None or not feed.open:
            return
        if feed.filling:
            feed.again = True
        elif first <= feed.last + 1:
            self._count(feed.take([Entry(first + n, body) for n, body in enumerate(bodies)]))
        else:
            self._fill_soon(feed)

    def _fill_soon(self, feed: Feed) -> None:
        if not feed.filling and not self._stopped:
            feed.filling = True
            filling = asyncio.create_task(self._filled(feed), name="realtime fill")
            self._filling.add(filling)
            filling.add_done_callback(self._filling.discard)

    async def _filled(self, feed: Feed) -> None:
        try:
            await self._fill(feed)
        except LogDown as error:
            log.debug("realtime_waits", reason=str(error))
            self._due.set()
        finally:
            feed.filling = feed.again = False

    async def _fill(self, feed: Feed) -> None:
        """Tell what the log has after the feed's position."""
        more = True
        while more:
            feed.again = False
            page = await self._log.read(feed.name, feed.last, _PAGE)
            self._count(feed.take(page))
            if not page:
                position = (await self._log.positions([feed.name]))[feed.name]
                if position != feed.last:
                    self._metrics.gaps(feed.gap(position))
            more = len(page) == _PAGE or feed.again

    def _count(self, told_and_gaps: tuple[int, int]) -> None:
        self._metrics.sent(told_and_gaps[0])
        self._metrics.gaps(told_and_gaps[1])

    def _changed(self) -> None:
        self._outage = True
        self._due.set()

    async def _look(self) -> float:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(VERIFY_S):
                await self._due.wait()
        self._due.clear()
        try:
            if self._outage:
                await self._move()
            await self._forget_idle()
            for feed in list(self._feeds.values()):
                await self._opened(feed)
            await self._verify()
        except LogDown as error:
            log.debug("realtime_waits", reason=str(error))
            self._due.set()
            return _RETRY_S
        return 0.0

    async def _move(self) -> None:
        """Use the log that is to be used now. All listeners are told of a gap, also when it is the same as before: a
        replica that died in the outage took along what it had not told."""
        self._outage = False
        before, self._log = self._log, self._logs.current
        for feed in self._feeds.values():
            feed.open = False
        if before is not self._log:
            with contextlib.suppress(LogDown):
                await before.unwatch(list(self._feeds))

    async def _forget_idle(self) -> None:
        idle = [name for name, feed in self._feeds.items() if feed.idle]
        for name in idle:
            del self._feeds[name]
        self._metrics.channels(len(self._feeds))
        await self._log.unwatch(idle)

    async def _verify(self) -> None:
        names = list(self._feeds)
        for start in range(0, len(names), _CHANNELS_AT_ONCE):
            part = names[start : start + _CHANNELS_AT_ONCE]
            before = {name: self._feeds[name].last for name in part}
            positions = await self._log.positions(part)
            if any(positions[name] != before[name] for name in part):
                await asyncio.sleep(_UNDER_WAY_S)
            elsewhere = await self._elsewhere(part)
            for feed in [self._feeds[name] for name in part if name in self._feeds]:
                # Where something came meanwhile, what is missing before it was seen then.
                if positions[feed.name] != feed.last and before[feed.name] == feed.last:
                    self._fill_soon(feed)
                if elsewhere.get(feed.name, 0) > feed.elsewhere:
                    feed.elsewhere = elsewhere[feed.name]
                    self._metrics.gaps(feed.gap(feed.last))
