"""What is asked of the one port of supervised processes, and not of the process that happens to answer.

``/metrics``: one process's own numbers would make each counter jump, because each scrape reaches another process. So
the answer is that of all. Without a supervisor there is none: absent is right, a jump is not.

``/health/ready``: whoever asks wants to know whether the port may get traffic. A process that leaves it, or is late,
would say no over a connection that is kept, while the next request is another's. So a process that is not ready asks
for the others; when no other is ready either, or nobody knows, its own answer stands.

A process's own numbers and readiness are at its own listener, for the supervisor.
"""

from __future__ import annotations

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from gateway.infra.metrics import CONTENT_TYPE
from gateway.supervise.child import Inherited, SupervisorAway

log = structlog.get_logger(__name__)

_READY = b'{"status":"ready"}'


class SharedPort:
    """Wraps the application; everything else goes through."""

    def __init__(self, app: ASGIApp, inherited: Inherited) -> None:
        self._app = app
        self._inherited = inherited
        self._own_port = inherited.own_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match self._asked(scope):
            case "/metrics":
                await self._metrics(send)
            case "/health/ready":
                await self._ready(scope, receive, send)
            case _:
                await self._app(scope, receive, send)

    def _asked(self, scope: Scope) -> str | None:
        """The path of a GET at the shared port, or of a HEAD: balancers ask by both."""
        if scope["type"] != ScopeType.HTTP or scope["method"] not in ("GET", "HEAD"):
            return None
        server = scope["server"]
        if server is None or server[1] == self._own_port:
            return None
        return scope["path"].rstrip("/")  # the routes take a slash at the end too

    async def _metrics(self, send: Send) -> None:
        try:
            status, content, body = 200, CONTENT_TYPE, await self._inherited.metrics_of_all()
        except SupervisorAway as error:
            log.warning("metrics_without_supervisor", reason=str(error))
            status, content, body = 503, "text/plain; charset=utf-8", f"{error}\n".encode()
        await _answer(send, status, content, body)

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        own: list[Message] = []

        async def keep(message: Message) -> None:
            own.append(message)

        await self._app(scope, receive, keep)
        if own and own[0]["type"] == "http.response.start" and own[0]["status"] == 503 and await self._another_is():
            await _answer(send, 200, "application/json", _READY)
            return
        for message in own:
            await send(message)

    async def _another_is(self) -> bool:
        try:
            return await self._inherited.another_is_ready()
        except SupervisorAway as error:
            log.warning("readiness_without_supervisor", reason=str(error))
            return False


async def _answer(send: Send, status: int, content: str, body: bytes) -> None:
    headers = [(b"content-type", content.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
