"""What every route demands of a request: known parameters, JSON or no body, and no other site's page in development."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.app import create_app
from gateway.runtime import DevOptions, Runtime
from gateway.services.email.sandbox import Sandbox, inbox_routes
from gateway.web.local import is_loopback
from tests.support.web import ADMIN, serving, settings_for

KEYS = "/api/v1/admin/keys"
EMAILS = "/api/v1/emails"
NEW_KEY = b'{"name": "shop", "scopes": ["emails:send"]}'
JSON = {"Content-Type": "application/json"}
SHARED = pytest.mark.asyncio(loop_scope="module")  # the application of all
GUESSABLE: dict[str, dict[str, Any]] = {
    "development": {"gateway_env": "development"},
    "no tokens": {"auth_mode": "none", "host": "127.0.0.1"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """For all: no test looks at what another made."""
    async with serving(settings_for(shared_database_url)) as (client, _):
        client.headers.update(ADMIN)
        yield client


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@SHARED
@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", "/api/v1/admin/queues?foo=1", "foo"),
        ("GET", "/api/v1/admin/queues/email/jobs?foo=1", "foo"),
        ("GET", "/api/v1/admin/queues/email/jobs?limit=1&limit=2", "limit"),
        ("GET", f"{EMAILS}/x?foo=1", "foo"),
        ("GET", f"{EMAILS}?stauts=sent", "stauts"),
        ("GET", f"{KEYS}?limit=1", "limit"),
        ("POST", f"{KEYS}?name=shop", "name"),
        ("POST", "/api/v1/admin/queues/email/resume?until=now", "until"),
    ],
)
async def test_unknown_and_repeated_parameters_are_refused(
    client: httpx.AsyncClient, method: str, path: str, field: str
) -> None:
    answer = await client.request(method, path)
    assert error_of(answer) == (400, "validation_error")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]


@SHARED
@pytest.mark.parametrize("path", ["/health/live?verbose=1", "/metrics?from=prometheus"])
async def test_machines_may_add_parameters_of_their_own_to_public_routes(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


@SHARED
async def test_a_parameter_that_was_probably_meant_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/admin/queues/email/jobs?limt=5")
    assert 'did you mean "limit"?' in answer.json()["error"]["message"]


async def test_the_routes_take_the_parameters_that_the_schema_describes(database_url: str) -> None:
    runtime = await Runtime.open(settings_for(database_url))
    app = create_app(runtime)
    paths = app.openapi_schema.to_schema()["paths"]
    checked = 0
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in handler.http_methods:
                operation = paths.get(route.path_format, {}).get(method.lower())
                if operation is not None:
                    described = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
                    assert described == set(handler.opt.get("query", ())), (method, route.path)
                    checked += bool(described)
    assert checked >= 5
    await runtime.stop()


@SHARED
@pytest.mark.parametrize("path", ["/api/v1/admin/queues/email/resume", f"/api/v1/admin/jobs/{'0' * 32}/retry"])
async def test_a_body_where_none_is_taken_is_refused(client: httpx.AsyncClient, path: str) -> None:
    refused = await client.post(path, json={"until": "now"})
    assert error_of(refused) == (400, "validation_error")
    assert refused.json()["error"]["details"][0]["field"] == "body"
    for empty in ({}, None):
        assert (await client.post(path, json=empty)).status_code != 400


@SHARED
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_bodies_that_are_not_plain_json_are_415(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    for path in (KEYS, EMAILS, "/api/v1/admin/queues/email/pause"):
        answer = await client.post(path, content=NEW_KEY, headers=headers)
        assert error_of(answer) == (415, "unsupported_media_type"), path


@SHARED
@pytest.mark.parametrize(
    "media_type", ["application/json", "Application/JSON;charset=UTF-8", 'application/json; charset="utf-8"']
)
async def test_json_may_say_that_it_is_utf_8(client: httpx.AsyncClient, media_type: str) -> None:
    assert (await client.post(KEYS, content=NEW_KEY, headers={"Content-Type": media_type})).status_code == 201


@pytest.mark.parametrize("mode", list(GUESSABLE))
async def test_pages_of_other_sites_are_refused_where_nothing_is_secret(database_url: str, mode: str) -> None:
    settings = settings_for(database_url, cors_origin="https://shop.example", **GUESSABLE[mode])
    async with serving(settings, routes=tuple(inbox_routes(Sandbox()))) as (client, _):
        client.headers.update(ADMIN | JSON)
        for foreign in (
            {"Host": "evil.example"},
            {"Host": "evil.example:3003", "Origin": "http://evil.example:3003"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": ""},
            {"Origin": "http://evil.example"},
            {"Origin": "http://localhost.evil.example"},
            {"Origin": "null"},
        ):
            for method, path in (("POST", KEYS), ("GET", KEYS), ("GET", "/dev/inbox"), ("DELETE", "/dev/inbox")):
                content = NEW_KEY if method == "POST" else None
                answer = await client.request(method, path, content=content, headers=foreign)
                assert error_of(answer) == (403, "local_only"), (method, path, foreign)
        for ours in (
            {"Host": "127.0.0.1:3003"},
            {"Host": "127.8.9.1"},
            {"Host": "[::1]:3003", "Origin": "http://[::1]:3003"},
            {"Host": "LOCALHOST:1", "Origin": "http://localhost:5173"},
            {"Origin": "https://shop.example"},
        ):
            assert (await client.get(KEYS, headers=ours)).status_code == 200, ours
            assert (await client.post(KEYS, content=NEW_KEY, headers=ours)).status_code == 201, ours


async def test_with_real_tokens_any_name_and_origin_may_call(database_url: str) -> None:
    runtime = await Runtime.open(settings_for(database_url), DevOptions())
    transport = httpx.ASGITransport(create_app(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.example") as client:
        answer = await client.get(KEYS, headers={"Origin": "https://other.example"})
    assert error_of(answer) == (401, "missing_token")
    await runtime.stop()


@pytest.mark.parametrize(
    "host",
    ["", "localhost.evil.example", "127.0.0.1@evil.example", "127.1", "[::1", "::1", "0.0.0.0", "1.2.3.4:80", "a b"],
)
def test_names_that_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)
