"""Callers that stay connected: who they are, how many connections each has, and whether they may still listen."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import structlog
from litestar import Request

from gateway.access import Principal
from gateway.infra.loops import Loop
from gateway.infra.postgres import is_unavailable
from gateway.infra.realtime_metrics import RealtimeMetrics
from gateway.problem import Problem
from gateway.realtime.channel import Channel, parse_channel
from gateway.realtime.hub import Hub
from gateway.realtime.listener import GOING_AWAY, TOO_SLOW, Closing, Listener
from gateway.settings import Settings
from gateway.web.auth import Authenticator
from gateway.web.channel_access import ChannelAccess
from gateway.web.http_protocol import end_soon
from gateway.web.socket_protocol import SILENT

log = structlog.get_logger(__name__)

NOT_AUTHENTICATED: Final = 4001
FORBIDDEN: Final = 4003
TRY_LATER: Final = 1013
_TICK_S: Final = 1.0
_REASONS: Final = {
    TOO_SLOW.code: "slow",
    GOING_AWAY.code: "drain",
    NOT_AUTHENTICATED: "auth",
    FORBIDDEN: "forbidden",
    TRY_LATER: "too_many",
    SILENT: "silent",
}


class Client:
    """One connection. ``principal`` None: it has not said who it is."""

    def __init__(self, kind: Literal["websocket", "sse"], listener: Listener) -> None:
        self.kind = kind
        self.listener = listener
        self.principal: Principal | None = None
        self.authorization: str | None = None
        self.until: float | None = None  # Unix seconds at which its token ends
        self.checked_at = 0.0  # monotonic


class Clients:
    """A component: looks again and again whether those who listen still may."""

    name = "clients"

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        authenticator: Authenticator,
        access: ChannelAccess,
        metrics: RealtimeMetrics,
    ) -> None:
        self.hub = hub
        self.authenticator = authenticator
        self.access = access
        self._metrics = metrics
        self._most = settings.realtime_connections_per_user
        self._recheck_s = settings.realtime_recheck_s
        self._clients: set[Client] = set()
        self._connections: Counter[str] = Counter()  # by principal
        # Two of them: a ledger that hangs holds up the checks, and keeps no connection beyond its token's end.
        self._loops = (Loop(self.name, self._check_all), Loop("token ends", self._end_expired))

    async def start(self) -> None:
        for loop in self._loops:
            await loop.start()

    async def stop(self) -> None:
        for loop in self._loops:
            await loop.stop()

    def enter(self, client: Client) -> None:
        """To be followed by ``leave``."""
        self._clients.add(client)
        self.hub.enter(client.listener)
        self._metrics.connected(client.kind, 1)

    def leave(self, client: Client) -> None:
        self._clients.discard(client)
        self.hub.leave(client.listener)
        self._metrics.connected(client.kind, -1)
        if client.principal is not None:
            self._connections[client.principal.id] -= 1
            self._connections += Counter()  # without those of whom none is left
        closing = client.listener.closing
        if closing is not None and closing.code in _REASONS:
            self._metrics.ended(_REASONS[closing.code])

    async def follow(self, request: Request[Any, Any, Any], listener: Listener) -> Callable[[], None]:
        """For the event streams of features: count the caller and look after him from now on. Answers what is to be
        called when he has gone. Raises Problem as ``admit`` does."""
        listener.on_close = end_soon(request.scope)
        client = Client("sse", listener)
        self.enter(client)
        try:
            await self.admit(client, self.authenticator.authorization_of(request, request.route_handler))
        except BaseException:
            self.leave(client)
            raise
        return partial(self.leave, client)

    async def admit(self, client: Client, authorization: str | None) -> Principal:
        """Who the caller is; a caller that is known may show a new token, which puts off no check. Raises Problem 401
        or 503, 403 ``other_caller`` for somebody else's token, and 429 ``too_many_connections``."""
        admitted = await self.authenticator.admit(authorization)
        known = client.principal
        if known is None:
            self._count(admitted.principal)
            client.checked_at = time.monotonic()
        elif known.id != admitted.principal.id:
            raise Problem(403, "other_caller", "This connection is another caller's; open a new one for this token")
        client.authorization = authorization
        client.principal, client.until = admitted
        return admitted.principal

    def _count(self, principal: Principal) -> None:
        if self._connections[principal.id] >= self._most:
            message = f"You have {self._most} connections here already, the most that one caller may have; close one"
            raise Problem(429, "too_many_connections", message, headers={"Retry-After": "10"})
        self._connections[principal.id] += 1

    async def _end_expired(self) -> float:
        now = time.time()
        for client in tuple(self._clients):
            if client.until is not None and now >= client.until:
                client.listener.close(Closing(NOT_AUTHENTICATED, "the token has expired: connect with a new one"))
        return _TICK_S

    async def _check_all(self) -> float:
        for client in tuple(self._clients):
            if client.principal is None or client.listener.closing is not None:
                continue
            if time.monotonic() - client.checked_at >= self._recheck_s:
                await self._check(client)
        return min(_TICK_S, self._recheck_s)

    async def _check(self, client: Client) -> None:
        """End a connection whose key was revoked, or that listens to what is not its caller's any more. What cannot be
        checked now is checked again at the next look, and so is who shows a new token meanwhile."""
        authorization = client.authorization
        try:
            admitted = await self.authenticator.admit(authorization)
            for name in tuple(client.listener.channels):
                await self.access.demand(admitted.principal, parse_channel(name))
        except Problem as problem:
            if problem.status == 401:
                if client.authorization != authorization:
                    return
                client.listener.close(Closing(NOT_AUTHENTICATED, problem.message[:100]))
            elif problem.status == 403:
                client.listener.close(Closing(FORBIDDEN, "you may no longer listen to one of the channels"))
        except Exception as error:
            if not is_unavailable(error):
                raise
            log.debug("client_not_checked", error=str(error))
        else:
            if client.authorization == authorization:
                client.principal, client.until = admitted
                client.checked_at = time.monotonic()

    async def demand(self, client: Client, channel: Channel) -> None:
        """See ``ChannelAccess.demand``."""
        assert client.principal is not None  # noqa: S101  callers have admitted it
        await self.access.demand(client.principal, channel)
