"""HTTP to the outside: one place for time-outs and limits."""

from __future__ import annotations

from typing import Final

import httpx

from gateway import __version__

CONNECT_TIMEOUT_S: Final = 5.0


def open_http(timeout_s: float = 10.0) -> httpx.AsyncClient:
    """A client that follows no redirects and gives up after ``timeout_s`` without an answer. The caller closes it."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
        limits=httpx.Limits(max_connections=20, max_keepalive_connections=5),
        headers={"User-Agent": f"gateway/{__version__}"},
        follow_redirects=False,
    )
