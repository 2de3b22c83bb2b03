"""What happens to every request, also to those that no route takes: request id, access log, security headers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import structlog
from litestar.datastructures import Headers
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, HTTPScope, Message, Receive, Scope, Send

from gateway.infra.http_metrics import UNMATCHED
from gateway.infra.tracing import Origin, Span, sound_traceparent, span, tracing, under
from gateway.problem import Problem

log = structlog.get_logger(__name__)

# Ten megabytes of attachments are 13.4 in base64; texts and a batch of them come on top.
BODY_MAX_BYTES: Final = 25_000_000
REQUEST_ID_HEADER: Final = "X-Request-Id"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_REQUEST_ID_STATE: Final = "gateway_request_id"
QUIET: Final = ("/health", "/api/health", "/metrics")  # asked every few seconds by machines
_UNREAD: Final = (413, 503)  # refusals that may come before the body was read
# How much of a body that was refused is still read, so that its sender gets to read the answer (see _Refusal).
_DRAIN_BYTES: Final = 4 * BODY_MAX_BYTES
_DRAIN_S: Final = 10.0
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
# As ASGI carries them.
_SECURITY: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_REQUEST_ID_NAME: Final = REQUEST_ID_HEADER.lower().encode()


def request_id_of(scope: Any) -> str | None:
    """Id of the request that is being handled: the caller's ``X-Request-Id`` if it is a sound one, else ours."""
    found = scope.get("state", {}).get(_REQUEST_ID_STATE)
    return str(found) if found else None


RequestEnded = Callable[[str, str, int | None, float], None]
"""Hears of each request: method, route (a template), status (None: no answer), seconds."""


def _not_told(_method: str, _route: str, _status: int | None, _seconds: float) -> None:
    """For applications of tests, which count nothing."""


class RequestEdge:
    """Wraps the whole application: Litestar's own middleware is not called for paths that no route takes."""

    def __init__(self, app: ASGIApp, told: RequestEnded = _not_told) -> None:
        self._app = app
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = Headers.from_scope(scope)
        given = headers.get(REQUEST_ID_HEADER, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})[_REQUEST_ID_STATE] = request_id
        started = time.perf_counter()
        response = _Response(scope, receive, send, request_id)
        # HEAD is GET without its body (RFC 9110, 9.3.2); the routes know GET only.
        inner: HTTPScope = {**scope, "method": HttpMethod.GET} if scope["method"] == HttpMethod.HEAD else scope
        asked = Origin(request_id, sound_traceparent(headers.get("traceparent", "")))
        with structlog.contextvars.bound_contextvars(request_id=request_id), under(asked), _span(inner) as step:
            app = self._app if _has_sound_host(headers) else _refuse_host
            try:
                await app(inner, response.receive, response.send)
            finally:
                _note_answer(step, inner, response.status)
                seconds = time.perf_counter() - started
                _log_access(scope["method"], inner, response.status, seconds)
                self._told(scope["method"], inner.get("path_template") or UNMATCHED, response.status, seconds)


def _has_sound_host(headers: Headers) -> bool:
    try:
        urlsplit(f"//{headers.get('host', '')}").port  # noqa: B018  it is read here, lest others fail over it
    except ValueError:
        return False
    return True


async def _refuse_host(scope: Scope, _receive: Receive, send: Send) -> None:
    """RFC 9112, 3.2."""
    refused = Problem(400, "bad_host", "Host is not the name or address of a server, with or without a port")
    await answer_problem(refused, scope, send)


async def answer_problem(problem: Problem, scope: Scope, send: Send) -> None:
    """Before the framework has seen the request; as it would be answered there."""
    error: dict[str, Any] = {
        "code": problem.code,
        "message": problem.message,
        "details": [],
        "requestId": request_id_of(scope),
    }
    body = msgspec.json.encode({"success": False, "error": error})
    headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
    named = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": named})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _span(scope: HTTPScope) -> AbstractContextManager[Span]:
    """Nothing is told of those that machines send every few seconds, nor any path: some name people."""
    if not tracing() or scope["path"].startswith(QUIET):
        return nullcontext(Span())
    return span(scope["method"], "server", {"http.request.method": scope["method"]})


def _note_answer(step: Span, scope: HTTPScope, status: int | None) -> None:
    if route := scope.get("path_template"):
        step.name(f"{scope['method']} {route}")
        step.note({"http.route": route})
    if status is not None:
        step.note({"http.response.status_code": status})
        if status >= 500:
            step.fail(str(status))


class _Response:
    """One request's two channels: adds headers to the answer, remembers its status, lets refused senders read it."""

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send, request_id: str) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._body_ended = False
        self._head_ended = False
        self.status: int | None = None

    async def receive(self) -> Any:
        message = await self._receive()
        self._body_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(message)
            if self.status in _UNREAD:
                await self._drain()
        elif message["type"] == "http.response.body" and self._scope["method"] == HttpMethod.HEAD:
            if self._head_ended:
                return
            self._head_ended = True  # also of a stream that would never end
            message = {**message, "body": b"", "more_body": False}
        await self._send(message)

    def _add_headers(self, message: HTTPResponseStartEvent) -> None:
        kept = [header for header in message["headers"] if header[0].lower() != _REQUEST_ID_NAME]
        names = {name.lower() for name, _ in kept}
        kept += [header for header in _SECURITY if header[0] not in names]
        message["headers"] = [*kept, (_REQUEST_ID_NAME, self._request_id.encode("ascii"))]

    async def _drain(self) -> None:
        # A server that closes while its client still sends makes the client's system throw away the answer. A client
        # that asked first (Expect: 100-continue) has sent nothing yet.
        if "expect" in Headers.from_scope(self._scope):
            return
        left = _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_S):
                while not self._body_ended and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def _log_access(method: str, scope: HTTPScope, status: int | None, seconds: float) -> None:
    caller = scope.get("user")
    path = scope["path"]
    level = log.debug if path.startswith(QUIET) and (status or 500) < 400 else log.info
    level(
        "http_request",
        method=method,
        path=path,  # without the query: it may hold addresses and one-time tokens
        status=status,
        ms=round(seconds * 1000, 1),
        caller=getattr(caller, "id", None),
    )
