"""Error answers: one shape whatever went wrong, and no input that makes a 5xx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from gateway.access import PUBLIC
from gateway.dev_servers import EmbeddedPostgres
from gateway.infra.migrate import migrate
from gateway.jobs.errors import JobNotFound, UnknownQueue, WrongState
from gateway.problem import Problem
from tests.support.eventually import eventually
from tests.support.web import ADMIN, serving, settings_for

OPEN = {"access": PUBLIC}
JSON = {"Content-Type": "application/json"}
SHARED = pytest.mark.asyncio(loop_scope="module")  # the application of all
JOB = UUID(int=1)


class Part(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    file_name: str


class Thing(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    title: str
    reply_to: str | None = None
    parts: list[Part] = []
    by_name: dict[str, Part] = {}
    size: Annotated[int, msgspec.Meta(ge=0, le=10)] = 0
    extra: dict[str, Any] = {}


@post("/things", opt=OPEN, status_code=200)
async def things(data: JSONBody[Thing]) -> dict[str, Any]:
    return {"title": data.title}


@post("/lists", opt=OPEN, status_code=200)
async def lists(data: JSONBody[list[Thing]]) -> dict[str, Any]:
    return {"n": len(data)}


@get("/numbers/{number:int}", opt=OPEN | {"query": ("limit", "dryRun")})
async def numbers(
    number: FromPath[int],
    limit: FromQuery[int] = 1,
    dry_run: Annotated[bool, QueryParameter(name="dryRun")] = False,
) -> dict[str, Any]:
    return {"number": number, "limit": limit, "dryRun": dry_run}


FAILURES: dict[str, Exception] = {
    "problem": Problem(429, "slow_down", "Too fast", headers={"Retry-After": "3"}),
    "no-job": JobNotFound(JOB),
    "wrong-state": WrongState(JOB, "completed", "only failed jobs are retried"),
    "no-queue": UnknownQueue("emial", ("email-queue",)),
    "away": ConnectionRefusedError("no"),
    "text": asyncpg.CharacterNotInRepertoireError("invalid byte sequence"),
    "bug": ZeroDivisionError("secret@example.com"),
}


@get("/fail/{how:str}", opt=OPEN)
async def fail(how: FromPath[str]) -> dict[str, Any]:
    raise FAILURES[how]


ROUTES = (things, lists, numbers, fail)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """For all: nothing is kept of what they ask."""
    async with serving(settings_for(shared_database_url), routes=ROUTES) as (client, _):
        yield client


def checked(response: httpx.Response) -> dict[str, Any]:
    """The error of an answer that has exactly the documented shape."""
    body: dict[str, Any] = response.json()
    assert set(body) == {"success", "error"} and body["success"] is False
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "message", "details", "requestId"}
    assert error["requestId"] == response.headers["x-request-id"]
    return error


@SHARED
@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("problem", 429, "slow_down"),
        ("no-job", 404, "job_not_found"),
        ("wrong-state", 409, "wrong_state"),
        ("no-queue", 404, "unknown_queue"),
        ("away", 503, "ledger_unavailable"),
        ("text", 400, "invalid_text"),
        ("bug", 500, "internal_error"),
    ],
)
async def test_whatever_is_raised_has_one_shape(how: str, status: int, code: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/fail/{how}")
    error = checked(answer)
    assert (answer.status_code, error["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status in {429, 503})
    assert "secret@example.com" not in answer.text


@SHARED
async def test_an_unexpected_failure_is_logged_with_its_traceback(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as lines:
        await client.get("/fail/bug", headers={"X-Request-Id": "abc"})
    failed = next(line for line in lines if line["event"] == "request_failed")
    assert isinstance(failed["exc_info"], ZeroDivisionError) and failed["path"] == "/fail/bug"


@SHARED
@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"[]", "body", "expected object, got array"),
        (b"{}", "title", "is required"),
        (b'{"title": 1}', "title", "expected str, got int"),
        (b'{"title": "a", "titel": 1}', "titel", 'unknown field; did you mean "title"?'),
        (b'{"title": "a", "reply_to": "x"}', "reply_to", 'unknown field; did you mean "replyTo"?'),
        (b'{"title": "a", "zzz": 1}', "zzz", "unknown field; known: byName, extra, parts, replyTo, size, title"),
        (b'{"title": "a", "parts": [{"fileNam": ""}]}', "parts[0].fileNam", 'unknown field; did you mean "fileName"?'),
        (
            b'{"title": "a", "byName": {"k": {"fileNam": ""}}}',
            "byName[...].fileNam",
            'unknown field; did you mean "fileName"?',
        ),
        (b'{"title": "a", "parts": [{"fileName": 1}]}', "parts[0].fileName", "expected str, got int"),
        (b'{"title": "a", "size": 11}', "size", "expected int <= 10"),
        (b"", "body", "is required"),
        (b"null", "body", "expected object, got null"),
    ],
)
async def test_what_is_wrong_in_a_body_is_named(
    body: bytes, field: str, message: str, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/things", content=body, headers=JSON)
    error = checked(answer)
    assert (answer.status_code, error["code"]) == (400, "validation_error")
    assert error["details"] == [{"field": field, "message": message}]


@SHARED
async def test_what_is_wrong_in_a_list_is_named_with_its_place(client: httpx.AsyncClient) -> None:
    answer = await client.post("/lists", content=b'[{"title": "a"}, {"title": "b", "titel": 1}]', headers=JSON)
    assert checked(answer)["details"] == [{"field": "[1].titel", "message": 'unknown field; did you mean "title"?'}]


@SHARED
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"title=a",
        b'{"title": "a"}x',
        b'{"title": "\xff"}',
        b'{"title": "\\ud800"}',
        b'{"title": "a", "extra": {"n": NaN}}',
        b'{"title": "a", "extra": ' + b'{"a":' * 50_000,
        b"\xef\xbb\xbf{}",
        b"\x00",
    ],
)
async def test_what_is_not_json_is_said_so(body: bytes, client: httpx.AsyncClient) -> None:
    answer = await client.post("/things", content=body, headers=JSON)
    assert (answer.status_code, checked(answer)["code"]) == (400, "invalid_json")


@SHARED
async def test_parameters_are_named(client: httpx.AsyncClient) -> None:
    answer = await client.get("/numbers/1?limit=many")
    assert answer.status_code == 400
    assert checked(answer)["details"] == [{"field": "limit", "message": "expected int, got str"}]
    renamed = await client.get("/numbers/1?dryRun=perhaps")
    assert [detail["field"] for detail in checked(renamed)["details"]] == ["dryRun"]


@SHARED
async def test_unknown_paths_and_methods(client: httpx.AsyncClient) -> None:
    for path in ("/nope", "/numbers/x", "/%00", "/%ff%fe", "//"):
        unknown = await client.get(path)
        assert (unknown.status_code, checked(unknown)["code"]) == (404, "not_found")
    wrong = await client.delete("/things")
    assert (wrong.status_code, checked(wrong)["code"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["allow"]


async def test_postgres_away_is_503_until_it_is_back(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    server = own_postgres()
    await migrate(server.dsn)
    async with serving(settings_for(server.dsn)) as (client, _):
        server.stop()
        away = await client.get("/api/v1/admin/keys", headers=ADMIN)
        assert (away.status_code, checked(away)["code"]) == (503, "ledger_unavailable")
        assert away.headers["retry-after"] == "5"
        assert "Idempotency-Key" not in checked(away)["message"]
        key = {"name": "shop", "scopes": ["emails:send"]}
        making = await client.post("/api/v1/admin/keys", headers=ADMIN, json=key)
        assert (making.status_code, "Idempotency-Key" in checked(making)["message"]) == (503, True)
        server.start()

        async def answers() -> bool:
            return (await client.get("/api/v1/admin/keys", headers=ADMIN)).status_code == 200

        await eventually(answers)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(st.binary(max_size=200), st.recursive(st.none(), st.lists).map(msgspec.json.encode)),
    header=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60),
    query=st.text(max_size=40),
)
def test_no_input_makes_a_5xx(body: bytes, header: str, query: str, fuzzed: Callable[..., list[int]]) -> None:
    assert all(status < 500 for status in fuzzed(body, header.encode("latin-1"), query))


@pytest.fixture
def fuzzed(database_url: str) -> Iterator[Callable[..., list[int]]]:
    """Send one input to several routes, in a loop of its own: hypothesis calls plain functions."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        application = serving(settings_for(database_url), routes=ROUTES, wait=False)
        client, _ = runner.run(stack.enter_async_context(application))

        async def send(body: bytes, header: bytes, query: str) -> list[int]:
            headers = [(b"Authorization", b"Bearer dev"), (b"Idempotency-Key", header), (b"X-Request-Id", header)]
            headers += [(b"Content-Type", b"application/json")]
            routes = [("POST", path) for path in ("/things", "/api/v1/emails", "/api/v1/admin/keys")]
            routes += [("GET", "/numbers/1"), ("GET", "/api/v1/emails")]
            asked = [client.request(*route, content=body, headers=headers, params={"limit": query}) for route in routes]
            return [(await answer).status_code for answer in asked]

        yield lambda *given: runner.run(send(*given))
        runner.run(stack.aclose())
