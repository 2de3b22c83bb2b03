"""A channel in this replica: the position up to which it was seen, and who listens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from gateway.realtime.event_log import Entry, Gap, steps
from gateway.realtime.listener import Listener, Told


class Subscription:
    """One listener's place in a channel. Until it is ``live`` its past is read for it alone."""

    __slots__ = ("last", "listener", "live")

    def __init__(self, listener: Listener, last: int, *, live: bool) -> None:
        self.listener = listener
        self.last = last
        self.live = live

    def tell(self, channel: str, seq: int, data: bytes) -> int:
        """Queue a message unless it was seen. Answers how many were queued: 0 or 1."""
        if seq <= self.last:
            return 0
        if seq != self.last + 1:
            self.skip(channel, seq - 1)
        self.last = seq
        self.listener.put(Told(data, channel, seq))
        return 1

    def skip(self, channel: str, seq: int) -> int:
        """Say that messages may be missing; it goes on after ``seq``, a smaller one where a log was lost. Answers how
        many gaps were told: 1."""
        self.listener.put(Told(gap_message(channel, Gap(self.last, seq)), channel, seq))
        self.last = seq
        return 1

    def take(self, channel: str, entries: Sequence[Entry]) -> tuple[int, int]:
        """Queue what was read from ``last`` on. Answers how many messages were queued, and how many gaps."""
        told = gaps = 0
        for step in steps(self.last, entries):
            if isinstance(step, Gap):
                gaps += self.skip(channel, step.seq)
            else:
                told += self.tell(channel, step.seq, with_seq(step.body, step.seq))
        return told, gaps


class Feed:
    """``last``: position up to which its live listeners were told everything; valid while it is ``open``.

    ``elsewhere``: the channel's last position in the ledger while the log in Redis is used (see ``Hub``).
    ``joining``: calls that are about to subscribe. ``again``: something came while it was being ``filling``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = 0
        self.elsewhere = 0
        self.open = False
        self.opening = asyncio.Lock()
        self.joining = 0
        self.filling = False
        self.again = False
        self._subscriptions: dict[Listener, Subscription] = {}

    @property
    def idle(self) -> bool:
        return not self._subscriptions and not self.joining

    def join(self, subscription: Subscription) -> None:
        """A listener that is there already begins anew."""
        self._subscriptions[subscription.listener] = subscription
        subscription.listener.channels.add(self.name)

    def leave(self, listener: Listener) -> bool:
        listener.channels.discard(self.name)
        return self._subscriptions.pop(listener, None) is not None

    def has(self, subscription: Subscription) -> bool:
        return self._subscriptions.get(subscription.listener) is subscription

    def take(self, entries: Sequence[Entry]) -> tuple[int, int]:
        """Tell the live listeners what comes after ``last``. Answers how many messages were told, and how many gaps."""
        live = [one for one in self._subscriptions.values() if one.live]
        told = gaps = 0
        for step in steps(self.last, entries):
            self.last = step.seq
            if isinstance(step, Gap):
                gaps += sum([one.skip(self.name, step.seq) for one in live if one.last < step.seq])
            else:
                data = with_seq(step.body, step.seq)
                told += sum([one.tell(self.name, step.seq, data) for one in live])
        return told, gaps

    def gap(self, seq: int) -> int:
        """Tell all that messages may be missing and that it goes on after ``seq``. Answers how many were told."""
        self.last = seq
        return sum([one.skip(self.name, seq) for one in self._subscriptions.values()])


def with_seq(body: bytes, seq: int) -> bytes:
    return b'%b,"seq":%d}' % (body[:-1], seq)


def gap_message(channel: str, gap: Gap) -> bytes:
    """``gap``: fetch what the channel is about; messages go on after ``seq``."""
    fields = {"type": "gap", "channel": channel, **named(channel), "since": gap.since, "seq": gap.seq}
    return msgspec.json.encode(fields)


def named(channel: str) -> dict[str, str]:
    """The key by which document 002 names a conversation."""
    topic, _, channel_id = channel.partition(":")
    return {"conversationId": channel_id} if topic == "conversation" else {}
