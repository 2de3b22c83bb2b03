"""The port behind channels: a short log of messages for each, which every replica appends to and reads. Pure.

Positions are whole numbers below 2**53, so that a browser keeps them exactly. From one message of a channel to the next
they grow by one; where a log begins, also again after it was lost, it begins at the time in microseconds. So whoever
knows the position up to which he has seen a channel sees each gap: it is any step that is not one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol


class LogDown(ConnectionError):
    """The log cannot be reached now; the same call may succeed later."""


class Entry(NamedTuple):
    """``body`` is a message's JSON without its ``seq``; None marks where a channel's log begins."""

    seq: int
    body: bytes | None


class Message(NamedTuple):
    """``body`` as in ``Entry``."""

    seq: int
    body: bytes


class Batch(NamedTuple):
    """Messages of one channel, in their order. ``watched_only``: write them only if somebody has listened lately."""

    channel: str
    bodies: list[bytes]
    watched_only: bool = False


class Gap(NamedTuple):
    """Messages after ``since`` up to ``seq`` may exist and were not seen."""

    since: int
    seq: int


Deliver = Callable[[str, int, Sequence[bytes]], None]
"""A channel's name, the position of the first message, and messages whose positions follow one another."""


class EventLog(Protocol):
    """Every method raises ``LogDown``."""

    async def append(self, batches: Sequence[Batch], doubt_us: int) -> None:
        """Write, and tell the replicas that watch. A channel that was last written before ``doubt_us`` (see ``now_us``)
        begins anew, so that everybody sees a gap there."""
        ...

    async def now_us(self) -> int:
        """The log's own time in microseconds since 1970."""
        ...

    async def positions(self, channels: Sequence[str]) -> dict[str, int]:
        """The last position of each; a channel without a log begins one. Keeps them from being forgotten."""
        ...

    async def read(self, channel: str, since: int, limit: int) -> list[Entry]:
        """What is kept from ``since`` on, that one included, oldest first."""
        ...

    async def watch(self, channel: str) -> None:
        """From now on its messages are delivered to this replica. Deliveries are hints: some may be missing."""
        ...

    async def unwatch(self, channels: Sequence[str]) -> None: ...


def steps(since: int, entries: Sequence[Entry]) -> Iterator[Message | Gap]:
    """What a listener who has seen a channel up to ``since`` is told of what was read from there on."""
    at = since
    for entry in entries:
        if entry.seq <= at:
            continue
        if entry.body is None:
            yield Gap(at, entry.seq)
        else:
            if entry.seq != at + 1:
                yield Gap(at, entry.seq - 1)
            yield Message(entry.seq, entry.body)
        at = entry.seq
