"""How many requests are answered at once: beyond that they are refused, before their bodies are read.

Requests that wait for a PostgreSQL connection hold memory. Without a bound, a slow ledger or a flood of callers would
fill it.
"""

from __future__ import annotations

from typing import Final

import structlog
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from gateway.problem import Problem
from gateway.web.middleware import BODY_MAX_BYTES, QUIET, answer_problem

log = structlog.get_logger(__name__)

# At most so many requests for each PostgreSQL connection: together they are answered within about a second.
PER_CONNECTION: Final = 100
RETRY_AFTER_S: Final = 1
BODIES_MAX_BYTES: Final = 10 * BODY_MAX_BYTES


class Intake:
    """Wraps the application. ``most``: requests whose answer has not begun; what is streamed after that does not count.
    Health and metrics are always let in."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._inside = 0
        self._bytes = 0  # of bodies, as their senders declared them

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"].startswith(QUIET):
            await self._app(scope, receive, send)
            return
        size = _size(scope)
        if self._inside >= self._most or (self._bytes and self._bytes + size > BODIES_MAX_BYTES):
            log.warning("too_busy", path=scope["path"], inside=self._inside)
            await _refuse(scope, send)
            return
        place = _Place(self, size, send)
        try:
            await self._app(scope, receive, place.send)
        finally:
            place.leave()

    def enter(self, size: int) -> None:
        self._inside += 1
        self._bytes += size

    def leave(self, size: int) -> None:
        self._inside -= 1
        self._bytes -= size


class _Place:
    """One request's place, left once: when its answer begins, or when it ends without any."""

    def __init__(self, intake: Intake, size: int, send: Send) -> None:
        self._intake: Intake | None = intake
        self._size = size
        self._send = send
        intake.enter(size)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.leave()
        await self._send(message)

    def leave(self) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.leave(self._size)


def _size(scope: HTTPScope) -> int:
    headers = Headers.from_scope(scope)
    if "transfer-encoding" in headers:
        return BODY_MAX_BYTES
    declared = headers.get("content-length", "0")
    return min(int(declared), BODY_MAX_BYTES) if declared.isascii() and declared.isdigit() else 0


async def _refuse(scope: HTTPScope, send: Send) -> None:
    words = "Too many requests are being answered at this moment. Try again in a second"
    await answer_problem(Problem(503, "too_busy", words, headers={"Retry-After": str(RETRY_AFTER_S)}), scope, send)
