"""One client's queue: bounded, in order, and its end."""

from __future__ import annotations

import asyncio

from gateway.realtime.event_log import Entry, Gap, Message, steps
from gateway.realtime.listener import BYTES_MAX, GOING_AWAY, MESSAGES_MAX, TOO_SLOW, Closing, Listener, Told


def told(n: int) -> Told:
    return Told(b"%d" % n, "job:1", n)


async def test_what_was_put_is_taken_once_and_in_order() -> None:
    listener = Listener()
    taking = asyncio.create_task(listener.take())
    await asyncio.sleep(0)
    listener.put(told(1))
    assert await taking == [told(1)]
    listener.put(told(2))
    listener.put(told(3))
    assert await listener.take() == [told(2), told(3)]


async def test_more_than_fits_lets_it_go_and_keeps_nothing() -> None:
    for messages in ([told(n) for n in range(MESSAGES_MAX + 1)], [Told(b"x" * (BYTES_MAX // 2 + 1))] * 2):
        listener = Listener()
        ends: list[Closing | None] = []
        listener.on_close = lambda listener=listener, ends=ends: ends.append(listener.closing)  # type: ignore[misc]
        for message in messages:
            listener.put(message)
        assert (listener.closing, ends, await listener.take()) == (TOO_SLOW, [TOO_SLOW], [])
        listener.put(told(1))
        assert await listener.take() == []


async def test_a_replica_that_stops_says_what_is_left_and_its_first_reason_stays() -> None:
    listener = Listener()
    listener.put(told(1))
    listener.close(GOING_AWAY)
    listener.close(TOO_SLOW)
    assert (listener.closing, await listener.take(), await listener.take()) == (GOING_AWAY, [told(1)], [])


async def test_a_replay_waits_until_the_client_has_read() -> None:
    listener = Listener()
    for n in range(MESSAGES_MAX):
        listener.put(told(n))
    waiting = asyncio.create_task(listener.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await listener.take()
    assert await waiting


def test_each_step_is_the_next_message_or_a_gap() -> None:
    read = [Entry(5, b"e"), Entry(6, b"f"), Entry(9, b"i"), Entry(20, None), Entry(21, b"u")]
    assert [*steps(5, read)] == [Message(6, b"f"), Gap(6, 8), Message(9, b"i"), Gap(9, 20), Message(21, b"u")]
    assert [*steps(21, read)] == []
    assert [*steps(2, [Entry(4, b"d")])] == [Gap(2, 3), Message(4, b"d")]
