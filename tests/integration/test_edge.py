"""What every request gets at the edge: an id, security headers, a log line, and a limit to its body."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import structlog
import uvicorn
from litestar import post
from litestar.params import JSONBody

from gateway.access import PUBLIC
from gateway.app import create_app
from gateway.runtime import DevOptions, Runtime
from gateway.web.middleware import BODY_MAX_BYTES
from tests.support.eventually import eventually
from tests.support.web import ADMIN, serving, settings_for

JSON = {"Content-Type": "application/json"}


class Thing(msgspec.Struct):
    title: str


@post("/things", opt={"access": PUBLIC}, status_code=200)
async def things(data: JSONBody[Thing]) -> dict[str, Any]:
    return {"title": len(data.title)}


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings_for(database_url)) as (client, _):
        yield client


async def test_request_ids_are_kept_if_they_are_sound(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nope", headers={"X-Request-Id": "a-1.b:2_C"})).headers["x-request-id"] == "a-1.b:2_C"
    ids = {
        (await client.get("/health/live", headers={"X-Request-Id": bad})).headers["x-request-id"]
        for bad in ("", "a b", "x" * 129, "<script>")
    }
    assert len(ids) == 4 and all(len(given) == 32 for given in ids)


async def test_a_host_that_is_none_is_refused(client: httpx.AsyncClient) -> None:
    for path in ("/nope", "/admin/queues", "/health/live"):
        for host in ("localhost:abc", "localhost:99999", "[::1", "[::1]:x"):
            answer = await client.get(path, headers={"Host": host})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_host"), (path, host)
            assert answer.json()["error"]["requestId"] == answer.headers["x-request-id"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        for host in ("gateway.example", "127.0.0.1:80", "[::1]:3003", "my_host:"):
            assert (await client.get(path, headers={"Host": host})).status_code < 405, (path, host)


async def test_every_answer_has_the_security_headers(client: httpx.AsyncClient) -> None:
    for path in ("/nope", "/health/live", "/metrics", "/openapi.json"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")


async def test_the_documentation_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    assert "/api/v1/emails" in schema["paths"]
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/api/v1/emails" in page.text
    assert "http://" not in page.text and "https://" not in page.text and "<script" not in page.text


async def test_the_documentation_has_no_further_routes(client: httpx.AsyncClient) -> None:
    for path in ("/docs/x", "/docs/openapi.json", "/docs/openapi.yaml"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_head_is_get_without_its_body(listening: str) -> None:
    async with connected(listening) as client:
        for path in ("/health/live", "/metrics", "/docs", "/openapi.json", "/nope"):
            head, got = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (got.status_code, b"")
            assert head.headers["content-type"] == got.headers["content-type"]
        assert (await client.head("/health/live")).headers["content-length"] == str(len(b'{"status":"ok"}'))
        assert (await client.head("/api/v1/admin/keys")).status_code == 401
        assert (await client.head("/api/v1/admin/keys", headers=ADMIN)).status_code == 200
        assert (await client.head("/things")).status_code == 405


async def test_the_access_log_has_no_query_and_no_quiet_checks(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as lines:
        await client.get("/api/v1/emails?tag=hunter2", headers=ADMIN)
        await client.get("/health/live")
    logged = [line for line in lines if line["event"] == "http_request"]
    assert "hunter2" not in str(logged)
    assert [(line["path"], line["status"], line["caller"], line["log_level"]) for line in logged] == [
        ("/api/v1/emails", 200, "dev", "info"),
        ("/health/live", 200, None, "debug"),
    ]


@pytest.fixture
async def listening(database_url: str) -> AsyncIterator[str]:
    """The address of the application behind the real HTTP server."""
    runtime = await Runtime.open(settings_for(database_url), DevOptions(token="dev", routes=(things,)))
    server = uvicorn.Server(uvicorn.Config(create_app(runtime), http="httptools", lifespan="on", log_config=None))
    listener = socket.create_server(("127.0.0.1", 0))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await eventually(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await running


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def test_a_body_of_26_mb_gets_an_answer_that_its_sender_can_read(listening: str) -> None:
    body = b'{"title": "' + b"a" * 26_000_000 + b'"}'

    async def in_chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1_000_000):
            yield body[start : start + 1_000_000]

    # After "close" the server would close while the rest is still on its way, and the answer be lost with it.
    closing = {"Connection": "close"}
    for content in (body, in_chunks()):
        async with connected(listening) as client:
            answer = await client.post("/things", content=content, headers=JSON | closing)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
        assert "25 MB" in answer.text
    async with connected(listening) as client:
        largest = b'{"title": "' + b"a" * (BODY_MAX_BYTES - 13) + b'"}'
        assert (await client.post("/things", content=largest, headers=JSON)).status_code == 200


async def test_a_sender_that_asks_first_is_told_before_it_sends(listening: str) -> None:
    host, _, port = listening.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = ("POST /things HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 90000000")
    writer.write("\r\n".join((*lines, "Expect: 100-continue", "", "")).encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()
