"""``GET /orchestration/jobs/{id}/events``: a run as it happens, from its beginning, until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec

from gateway.realtime.channel import Channel, Topic
from gateway.realtime.hub import Hub
from gateway.realtime.listener import Listener
from gateway.realtime.stream import EventStream
from gateway.services.orchestration.runs import FINAL, Run, RunStatus

ENDS: Final = ("job:completed", "job:failed")
_TOKEN: Final = b"\nevent: token\n"
_QUIET_S: Final = 0.5  # after the past of a run that is over: what has not come by then is not kept any more


class Followers(Protocol):
    """The clients that stay connected (``web.clients.Clients``): they are counted, and looked at again and again."""

    async def follow(self, request: Any, listener: Listener) -> Callable[[], None]:
        """Answers what is to be called when the client has gone. Raises Problem 401, 429 and 503."""
        ...


def run_stream(hub: Hub, run: Run) -> EventStream:
    return EventStream(hub, [Channel(Topic.JOB, str(run.id))], until=ENDS, replay=True, named=True)


async def run_events(
    stream: EventStream, run: Run, last_event_id: str | None, leave: Callable[[], None], *, words: bool
) -> AsyncIterator[bytes]:
    """The body of the answer. Of a run that is over the past is told as far as it is kept, and how it ended in any
    case. ``words``: models' too."""
    events = stream.events(last_event_id)
    over = run.status in FINAL
    try:
        while True:
            try:
                event = await _next(events, _QUIET_S if over else None)
            except StopAsyncIteration:
                break
            except TimeoutError:
                yield _ending(run)
                break
            if words or _TOKEN not in event:
                yield event
    finally:
        leave()


async def _next(events: AsyncIterator[bytes], within_s: float | None) -> bytes:
    coming: Awaitable[bytes] = anext(events)
    if within_s is None:
        return await coming
    async with asyncio.timeout(within_s):
        return await coming


def _ending(run: Run) -> bytes:
    kind = "completed" if run.status is RunStatus.COMPLETED else "failed"
    fields = {"type": f"job:{kind}", "channel": f"{Topic.JOB}:{run.id}", "jobId": str(run.id), "status": run.status}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(fields))
