"""News for an open page: one stream for a tab, over the channels of what it shows."""

from __future__ import annotations

from typing import Final

from litestar import get
from litestar.params import FromQuery
from litestar.response import Stream

from gateway.access import Scope
from gateway.realtime.stream import MEDIA_TYPE
from gateway.web.dashboard.frame import PageRequest
from gateway.web.event_streams import TheClients, open_stream

_RUN: Final = "run:"
_JOB: Final = "job:"


@get(
    "/events",
    opt={"access": Scope.ADMIN_READ, "session": True, "query": ("topics",)},
    media_type=MEDIA_TYPE,
    include_in_schema=False,
)
async def events_route(request: PageRequest, clients: TheClients, topics: FromQuery[str]) -> Stream:
    """``topics``: names of channels, with commas, as ``/api/v1/events`` takes them; ``run:{id}`` is the channel of the
    run's job from its beginning."""
    names = [name.strip() for name in topics.split(",")]
    from_beginning = any(name.startswith(_RUN) for name in names)
    channels = ",".join(_JOB + name.removeprefix(_RUN) if name.startswith(_RUN) else name for name in names)
    return await open_stream(request, clients, channels, replay=from_beginning)
