"""HTTP to the outside: one place for time-outs and limits."""

from __future__ import annotations

from typing import Any, Final

import httpx

from gateway import __version__
from gateway.infra.tracing import Attributes, span

CONNECT_TIMEOUT_S: Final = 5.0


def open_http(timeout_s: float = 10.0) -> httpx.AsyncClient:
    """A client that follows no redirects and gives up after ``timeout_s`` without an answer. The caller closes it."""
    return _Client(
        timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
        limits=httpx.Limits(max_connections=20, max_keepalive_connections=5),
        headers={"User-Agent": f"gateway/{__version__}"},
        follow_redirects=False,
    )


class _Client(httpx.AsyncClient):
    """Each request is a step of the trace that it is made for. The address alone is told: queries may hold secrets."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        facts: Attributes = {"http.request.method": request.method, "server.address": request.url.host}
        with span(request.method, "client", facts) as step:
            response = await super().send(request, **options)
            step.note({"http.response.status_code": response.status_code})
        return response
