"""``/api/ws``: channels over a WebSocket, in the protocol of document 002 (docs/realtime.md)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog
from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from gateway.access import PUBLIC
from gateway.infra.postgres import is_unavailable
from gateway.problem import Problem
from gateway.realtime.channel import Channel, Topic, parse_channel
from gateway.realtime.event_log import LogDown
from gateway.realtime.feed import named
from gateway.realtime.listener import TOO_SLOW, Closing, Listener, Told
from gateway.web.clients import FORBIDDEN, NOT_AUTHENTICATED, TRY_LATER, Client, Clients
from gateway.web.invalid_body import explain, suggestion
from gateway.web.socket_protocol import SILENT, SILENT_REASON, is_silent

log = structlog.get_logger(__name__)

SOCKET_PATH: Final = "/api/ws"
AUTH_S: Final = 10.0  # document 002
MESSAGE_MAX: Final = 16_384  # characters; a token has up to 8,192
CHANNELS_MAX: Final = 100  # of one connection
_FLUSH_S: Final = 1.0
_CLOSES: Final = {401: NOT_AUTHENTICATED, 403: FORBIDDEN, 429: TRY_LATER}

Socket = WebSocket[Any, Any, Any]


class Asked(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A message of the client."""

    action: str
    token: str | None = None
    conversation_id: str | None = None
    channel: str | None = None
    since: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] | None = None


@websocket(SOCKET_PATH, opt={"access": PUBLIC, "query_token": True})
async def realtime_socket(socket: Socket, clients: NamedDependency[SkipValidation[Clients]]) -> None:
    """Public: the caller says who it is in its first message. Another site's page is refused before that."""
    if not _welcome(socket):
        log.info("socket_refused", origin=socket.headers.get("origin", "")[:100])
        await socket.close(code=FORBIDDEN)  # before it is accepted: HTTP 403
        return
    await socket.accept()
    await Session(socket, clients).run()


def _welcome(socket: Socket) -> bool:
    """Browsers name the page's origin (RFC 6455, 10.2); other clients name none."""
    origin = socket.headers.get("origin")
    if origin is None:
        return True
    cors = socket.app.cors_config
    if cors is not None and cors.is_origin_allowed(origin):
        return True
    with contextlib.suppress(ValueError):
        return urlsplit(origin).netloc == socket.headers.get("host")
    return False


class Session:
    """One WebSocket, from its acceptance on."""

    def __init__(self, socket: Socket, clients: Clients) -> None:
        self._socket = socket
        self._clients = clients
        self._listener = Listener()
        self._client = Client("websocket", self._listener)
        self._writing: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._actions: dict[str, Callable[[Asked], Coroutine[Any, Any, None]]] = {
            "auth": self._auth,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "ping": self._ping,
        }

    async def run(self) -> None:
        began = time.monotonic()
        self._listener.on_close = self._end_soon
        self._clients.enter(self._client)
        self._say({"type": "ready", "authenticateWithinS": AUTH_S})
        self._writing = asyncio.create_task(self._write(), name="socket writer")
        timer = asyncio.get_running_loop().call_later(AUTH_S, self._demand_auth)
        try:
            authenticator = self._clients.authenticator
            given = authenticator.authorization_of(self._socket, self._socket.route_handler)
            if given is not None or authenticator.open_to_all:
                await self._answer(lambda: self._admit(given), {})
            await self._read()
        finally:
            timer.cancel()
            self._clients.leave(self._client)
            self._listener.close(Closing(1000, ""))
            self._log_end(time.monotonic() - began)
            if self._ending is not None:
                await asyncio.gather(self._ending, return_exceptions=True)

    def _log_end(self, seconds: float) -> None:
        """The line that HTTP requests have too; without the address's query, which may hold a token."""
        caller, closing = self._client.principal, self._listener.closing
        log.info(
            "socket_closed",
            path=SOCKET_PATH,
            caller=caller.id if caller is not None else None,
            code=closing.code if closing is not None else None,
            seconds=round(seconds, 1),
        )

    def _say(self, message: dict[str, Any]) -> None:
        self._listener.put(Told(msgspec.json.encode(message)))

    def _demand_auth(self) -> None:
        if self._client.principal is None:
            reason = f'no {{"action": "auth", "token": ...}} within {AUTH_S:g} s'
            self._listener.close(Closing(NOT_AUTHENTICATED, reason))

    async def _read(self) -> None:
        while True:
            message: Any = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                if is_silent(message):
                    self._listener.close(Closing(SILENT, SILENT_REASON))
                return
            if self._listener.closing is None:
                await self._hear(message.get("text") or message.get("bytes") or "")

    async def _hear(self, text: str | bytes) -> None:
        if len(text) > MESSAGE_MAX:
            self._refuse(
                "message_too_large", f"A message has at most {MESSAGE_MAX} characters; this one has {len(text)}"
            )
            return
        try:
            asked = _ASKED.decode(text)
        except msgspec.ValidationError as error:
            detail = explain(error, Asked)
            self._refuse("validation_error", f"{detail['field']}: {detail['message']}")
            return
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._refuse("invalid_json", f'This is not JSON: {error}. Send {{"action": "subscribe", "channel": ...}}')
            return
        action = self._actions.get(asked.action)
        if action is None:
            known = suggestion(asked.action, tuple(self._actions))
            self._refuse("unknown_action", f'action: "{asked.action[:40]}" is unknown{known}')
            return
        await self._answer(lambda: action(asked), _echo(asked))

    async def _answer(self, acting: Callable[[], Coroutine[Any, Any, Any]], echo: dict[str, Any]) -> None:
        """Act, and say what went wrong. What the caller lacks the right to ends the connection; what cannot be told now
        does not."""
        try:
            await acting()
        except Problem as problem:
            self._refuse(problem.code, problem.message, **echo)
            if problem.status in _CLOSES:
                self._listener.close(Closing(_CLOSES[problem.status], problem.message[:100]))
        except LogDown as error:
            log.info("subscription_failed", reason=str(error))
            self._refuse("realtime_unavailable", "Messages cannot be read now: try again in some seconds", **echo)
        except Exception as error:
            if is_unavailable(error):
                self._refuse("ledger_unavailable", "The database does not answer: try again in some seconds", **echo)
                return
            log.error("socket_message_failed", exc_info=error)
            self._refuse("internal_error", "Something went wrong here, not with the message", **echo)

    def _refuse(self, word: str, message: str, **echo: Any) -> None:
        self._say({"type": "error", "code": word, "message": message, **echo})

    async def _auth(self, asked: Asked) -> None:
        if not asked.token:
            raise _invalid("token", 'is required: {"action": "auth", "token": "<JWT or API key>"}')
        await self._admit(f"Bearer {asked.token}")

    async def _admit(self, authorization: str | None) -> None:
        principal = await self._clients.admit(self._client, authorization)
        until = self._client.until
        expires = {} if until is None else {"expiresAt": datetime.fromtimestamp(until, UTC)}
        self._say({"type": "authenticated", "userId": principal.id, **expires})

    async def _subscribe(self, asked: Asked) -> None:
        channel = self._channel(asked)
        if len(self._listener.channels) >= CHANNELS_MAX and str(channel) not in self._listener.channels:
            raise Problem(
                400, "too_many_channels", f"A connection has at most {CHANNELS_MAX} channels; unsubscribe some"
            )
        await self._clients.demand(self._client, channel)
        await self._clients.hub.subscribe(channel, self._listener, asked.since, partial(self._subscribed, channel))

    def _subscribed(self, channel: Channel, seq: int) -> None:
        name = str(channel)
        self._say({"type": "subscribed", "channel": name, **named(name), "seq": seq})

    async def _unsubscribe(self, asked: Asked) -> None:
        channel = self._channel(asked)
        self._clients.hub.unsubscribe(channel, self._listener)  # one that it did not have is as gone as the others
        name = str(channel)
        self._say({"type": "unsubscribed", "channel": name, **named(name)})

    async def _ping(self, _asked: Asked) -> None:
        self._say({"type": "pong"})

    def _channel(self, asked: Asked) -> Channel:
        if self._client.principal is None:
            raise Problem(400, "not_authenticated", 'First say who you are: {"action": "auth", "token": ...}')
        if (asked.channel is None) == (asked.conversation_id is None):
            raise _invalid("channel", "is required, or conversationId instead of it")
        name = asked.channel if asked.channel is not None else f"{Topic.CONVERSATION}:{asked.conversation_id}"
        try:
            return parse_channel(name)
        except ValueError as error:
            raise _invalid("channel" if asked.channel is not None else "conversationId", str(error)) from error

    async def _write(self) -> None:
        with contextlib.suppress(OSError):  # it has gone: the reader hears of it
            while taken := await self._listener.take():
                for told in taken:
                    await self._socket.send({"type": "websocket.send", "text": told.data.decode(), "bytes": None})

    def _end_soon(self) -> None:
        self._ending = asyncio.create_task(self._end(), name="socket end")

    async def _end(self) -> None:
        """Say what is left, then why. A client that does not read keeps nobody waiting."""
        closing, writing = self._listener.closing, self._writing
        assert closing is not None  # noqa: S101  it was closed
        if writing is not None:
            await asyncio.wait([writing], timeout=0 if closing is TOO_SLOW else _FLUSH_S)
            writing.cancel()
            await asyncio.wait([writing])
        with contextlib.suppress(OSError, RuntimeError):  # it was closed by the client meanwhile
            await self._socket.send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})


_ASKED: Final = msgspec.json.Decoder(Asked)


def _echo(asked: Asked) -> dict[str, Any]:
    """What an error was about, in the client's own words."""
    found = {"action": asked.action, "channel": asked.channel, "conversationId": asked.conversation_id}
    return {name: value[:200] for name, value in found.items() if value is not None}


def _invalid(field: str, message: str) -> Problem:
    return Problem(400, "validation_error", f"{field}: {message}")
