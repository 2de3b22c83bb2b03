"""``GET /api/v1/events``: channels as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromQuery, SkipValidation
from litestar.response import Stream

from gateway.access import AUTHENTICATED, Principal
from gateway.problem import Problem
from gateway.realtime.channel import Channel, parse_channel
from gateway.realtime.stream import HEADERS, MEDIA_TYPE, EventStream
from gateway.web.clients import Client, Clients
from gateway.web.http_protocol import end_soon
from gateway.web.openapi_errors import ErrorAnswer

CHANNELS_MAX: Final = 20  # each event's id names a position in each

TheClients = NamedDependency[SkipValidation[Clients]]


@get(
    "/api/v1/events",
    opt={"access": AUTHENTICATED, "query": ("channels", "token"), "query_token": True},
    summary="What is told on channels, as server-sent events",
    tags=["realtime"],
    media_type=MEDIA_TYPE,
    responses={429: ResponseSpec(ErrorAnswer, generate_examples=False, description="Too many connections")},
)
async def events_route(request: Request[Principal, Any, Any], clients: TheClients, channels: FromQuery[str]) -> Stream:
    """``channels``: up to 20 names, comma-separated. ``Last-Event-ID`` goes on after that event."""
    return await open_stream(request, clients, channels)


async def open_stream(
    request: Request[Principal, Any, Any], clients: Clients, channels: str, *, replay: bool = False
) -> Stream:
    """``replay``: from the beginning, as far as it is kept. Raises Problem 400 for names that are none, and what
    ``Clients.admit`` and ``Clients.demand`` raise."""
    wanted = _channels(channels)
    stream = EventStream(clients.hub, wanted, replay=replay)
    stream.listener.on_close = end_soon(request.scope)
    client = Client("sse", stream.listener)
    clients.enter(client)
    try:
        await clients.admit(client, clients.authenticator.authorization_of(request, request.route_handler))
        for channel in wanted:
            await clients.demand(client, channel)
    except BaseException:
        clients.leave(client)
        raise
    events = stream.events(request.headers.get("last-event-id"))
    return Stream(_until_left(clients, client, events), media_type=MEDIA_TYPE, headers=HEADERS)


async def _until_left(clients: Clients, client: Client, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for event in events:
            yield event
    finally:
        clients.leave(client)


def _channels(text: str) -> list[Channel]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not 1 <= len(names) <= CHANNELS_MAX:
        raise _invalid(f"names {len(names)} channels, not 1 to {CHANNELS_MAX}: ?channels=job:ID,project:ID")
    try:
        return [parse_channel(name) for name in names]
    except ValueError as error:
        raise _invalid(str(error)) from error


def _invalid(message: str) -> Problem:
    return Problem(400, "validation_error", f"channels: {message}", details=[{"field": "channels", "message": message}])
