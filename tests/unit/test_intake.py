"""How many requests are let in at once."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from gateway.web.intake import BODIES_MAX_BYTES, Intake
from gateway.web.middleware import BODY_MAX_BYTES, RequestEdge
from tests.support.eventually import eventually


class Slow:
    """An application whose answers begin, and end, when the test says so."""

    def __init__(self) -> None:
        self.begin, self.end = asyncio.Event(), asyncio.Event()
        self.inside = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.inside += 1
        try:
            if not scope["path"].startswith("/health"):
                await self.begin.wait()
            if scope["path"] == "/breaks":
                raise RuntimeError("no answer")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok", "more_body": True})
            if scope["path"] == "/stream":
                await self.end.wait()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.inside -= 1


@pytest.fixture
def slow() -> Slow:
    return Slow()


def client_of(slow: Slow, most: int) -> httpx.AsyncClient:
    app: Any = RequestEdge(Intake(slow, most))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_one_too_many_is_refused_and_health_is_not(slow: Slow) -> None:
    async with client_of(slow, 2) as client:
        held = [asyncio.create_task(client.get("/api")) for _ in range(2)]
        await eventually(lambda: slow.inside == 2)
        refused = await client.get("/api", headers={"X-Request-Id": "r-1"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_busy")
        assert (refused.headers["Retry-After"], refused.json()["error"]["requestId"]) == ("1", "r-1")
        assert (await client.get("/health/live")).status_code == 200
        slow.begin.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        assert (await client.get("/api")).status_code == 200


async def test_a_failed_request_gives_its_place_back(slow: Slow) -> None:
    slow.begin.set()
    async with client_of(slow, 1) as client:
        for _ in range(3):
            assert (await client.get("/breaks")).status_code == 500


async def test_a_stream_that_has_begun_takes_no_place(slow: Slow) -> None:
    slow.begin.set()
    async with client_of(slow, 1) as client:
        streaming = asyncio.create_task(client.get("/stream"))
        await eventually(lambda: slow.inside == 1)
        assert (await client.get("/api")).status_code == 200
        slow.end.set()
        assert (await streaming).status_code == 200


@pytest.mark.parametrize("headers", [{"Content-Length": str(BODY_MAX_BYTES)}, {"Transfer-Encoding": "chunked"}])
async def test_bodies_together_are_bounded(slow: Slow, headers: dict[str, str]) -> None:
    several = BODIES_MAX_BYTES // BODY_MAX_BYTES
    async with client_of(slow, 1000) as client:
        held = [asyncio.create_task(client.post("/api", headers=headers)) for _ in range(several)]
        await eventually(lambda: slow.inside == several)
        assert (await client.post("/api", headers={"Content-Length": "10"})).status_code == 503
        assert (await client.get("/health/live")).status_code == 200
        slow.begin.set()
        await asyncio.gather(*held)
        assert (await client.post("/api", headers=headers)).status_code == 200
