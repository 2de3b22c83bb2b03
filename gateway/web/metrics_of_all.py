"""``/metrics`` behind the one port of supervised processes: whichever of them is asked, the answer is that of all.

One process's own numbers would make each counter jump, because each scrape reaches another process. Its own numbers
are at its own listener, for the supervisor. Without a supervisor there is no answer: absent is right, a jump is not.
"""

from __future__ import annotations

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.infra.metrics import CONTENT_TYPE
from gateway.supervise.child import Inherited, SupervisorAway

log = structlog.get_logger(__name__)


class MetricsOfAll:
    """Wraps the application; everything but ``GET /metrics`` at the public listener goes through."""

    def __init__(self, app: ASGIApp, inherited: Inherited) -> None:
        self._app = app
        self._inherited = inherited
        self._own_port = inherited.own_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_asked_here(scope):
            await self._app(scope, receive, send)
            return
        try:
            status, content, body = 200, CONTENT_TYPE, await self._inherited.metrics_of_all()
        except SupervisorAway as error:
            log.warning("metrics_without_supervisor", reason=str(error))
            status, content, body = 503, "text/plain; charset=utf-8", f"{error}\n".encode()
        headers = [(b"content-type", content.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _is_asked_here(self, scope: Scope) -> bool:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "GET":
            return False
        if scope["path"].rstrip("/") != "/metrics":  # the routes take a slash at the end too
            return False
        server = scope["server"]
        return server is not None and server[1] != self._own_port
