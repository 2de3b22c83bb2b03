"""News for an open page: one stream for a tab, over the channels of the queues that it shows."""

from __future__ import annotations

from litestar import get
from litestar.params import FromQuery
from litestar.response import Stream

from gateway.access import Scope
from gateway.realtime.stream import MEDIA_TYPE
from gateway.web.dashboard.frame import PageRequest
from gateway.web.event_streams import TheClients, open_stream


@get(
    "/events",
    opt={"access": Scope.ADMIN_READ, "session": True, "query": ("topics",)},
    media_type=MEDIA_TYPE,
    include_in_schema=False,
)
async def events_route(request: PageRequest, clients: TheClients, topics: FromQuery[str]) -> Stream:
    """``topics``: names of channels, with commas, as ``/api/v1/events`` takes them."""
    return await open_stream(request, clients, topics)
