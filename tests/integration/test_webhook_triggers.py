"""Webhook triggers over HTTP: secrets shown once, deliveries let in by their signature alone, and bounds."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import httpx
import msgspec
import pytest
import pytest_asyncio

from gateway.runtime import Runtime
from gateway.services.orchestration.triggers.signature import signature_of
from tests.support.people import As, data, people, refused
from tests.support.web import serving, settings_for

TRIGGERS = "/api/v1/orchestration/triggers"
WEBHOOKS = "/api/v1/orchestration/webhooks"
NOBODY = "018f2f6e-7c1c-7000-8000-000000000000"
pytestmark = pytest.mark.asyncio(loop_scope="module")
Served: TypeAlias = tuple[httpx.AsyncClient, Runtime, As]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(shared_database_url: str) -> AsyncIterator[Served]:
    """No workers: runs wait. Each test has projects and triggers of its own."""
    async with serving(settings_for(shared_database_url, gateway_role="api")) as (client, runtime):
        yield client, runtime, people(runtime)


async def call(
    served: Served, method: str, path: str, body: Any = None, *, user: str = "ann", **query: str
) -> httpx.Response:
    client, _, who = served
    return await client.request(method, path, json=body, headers=who(user), params=query)


async def project_of(served: Served, **members: str) -> str:
    made = data(await call(served, "POST", "/api/v1/projects", {"name": "Shop"}), 201)
    for member, role in members.items():
        data(await call(served, "PUT", f"/api/v1/projects/{made['id']}/members/{member}", {"role": role}))
    return str(made["id"])


async def hooked(served: Served, project: str | None = None, **fields: Any) -> dict[str, Any]:
    body = {"projectId": project or await project_of(served), "name": "deploys", "agentSlug": "general", **fields}
    made: dict[str, Any] = data(await call(served, "POST", TRIGGERS, body), 201)
    return made


async def send(
    served: Served, hook: dict[str, Any], payload: Any = None, *, at: float | None = None, **headers: str
) -> httpx.Response:
    body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    signed = signature_of(hook["secret"], body, int(at or time.time()))
    return await served[0].post(hook["path"], content=body, headers={"X-Gateway-Signature": signed} | headers)


async def runs_of(served: Served, hook: dict[str, Any]) -> int:
    count = "SELECT count(*) FROM runs WHERE project_id = $1"
    return int(await served[1].pool.fetchval(count, hook["projectId"]))


async def test_the_secret_is_shown_once_and_stored_nowhere(served: Served) -> None:
    hook = await hooked(served)
    assert hook["secret"].startswith("whsec_") and hook["path"] == f"{WEBHOOKS}/{hook['id']}"
    shown = (await call(served, "GET", f"{TRIGGERS}/{hook['id']}")).text
    listed = (await call(served, "GET", TRIGGERS)).text
    tables = await served[1].pool.fetch(
        "SELECT t::text FROM webhook_triggers t UNION ALL SELECT a::text FROM admin_audit a"
    )
    stored = "".join(row[0] for row in tables)
    assert hook["id"] in stored and hook["id"] in listed
    assert hook["secret"] not in shown + listed + stored
    assert hook["secret"].encode().hex() not in stored


async def test_another_secret_makes_the_old_one_void(served: Served) -> None:
    hook = await hooked(served)
    rotated = data(await call(served, "POST", f"{TRIGGERS}/{hook['id']}/rotate"))
    assert rotated["secret"] != hook["secret"]
    refused(await send(served, hook, {"n": 1}), 401, "invalid_signature")
    assert data(await send(served, rotated, {"n": 1}), 202)["jobId"]


async def test_another_key_is_said_to_owners_and_not_to_senders(served: Served) -> None:
    hook = await hooked(served)
    url = served[1].settings.database_url
    other = settings_for(url, gateway_role="api", trigger_secret_key="0123456789abcdefghijklmnopqrstuvwxyz")
    async with serving(other) as (client, runtime):
        elsewhere = (client, runtime, people(runtime))
        refused(await send(elsewhere, hook, {"n": 1}), 401, "invalid_signature")
        assert "rotate it" in data(await call(elsewhere, "GET", f"{TRIGGERS}/{hook['id']}"))["problem"]


async def test_what_is_wrong_with_a_signature_is_not_told(served: Served) -> None:
    hook = await hooked(served)
    body = b'{"n": 1}'
    wrong = [
        {},
        {"X-Gateway-Signature": "t=1,v1=00"},
        {"X-Gateway-Signature": signature_of(hook["secret"], body, int(time.time()) - 301)},
        {"X-Gateway-Signature": signature_of("whsec_other", body, int(time.time()))},
        {"X-Gateway-Signature": signature_of(hook["secret"], b"{}", int(time.time()))},
        {"X-Hub-Signature-256": "sha256=" + "0" * 64},
    ]
    answers = [await served[0].post(hook["path"], content=body, headers=headers) for headers in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1
    assert await runs_of(served, hook) == 0


@pytest.mark.parametrize("trigger_id", [NOBODY, "no-id"])
async def test_no_trigger_is_not_found(served: Served, trigger_id: str) -> None:
    refused(await served[0].post(f"{WEBHOOKS}/{trigger_id}", content=b"{}"), 404, "not_found")
    for method in ("GET", "DELETE"):
        refused(await call(served, method, f"{TRIGGERS}/{trigger_id}"), 404, "not_found")
    refused(await call(served, "POST", f"{TRIGGERS}/{trigger_id}/rotate"), 404, "not_found")


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(served: Served) -> None:
    error = refused(await send(served, await hooked(served), b"x" * 1_000_001), 413, "payload_too_large")
    assert "1 MB" in error["message"]


@pytest.mark.parametrize("body", [b"", b"payload=%7B%7D", b'{"n": ', b"\xff", b"[" * 100_000])
async def test_a_signed_body_that_is_not_json_is_said_so(served: Served, body: bytes) -> None:
    error = refused(await send(served, await hooked(served), body), 400, "invalid_json")
    assert "application/json" in error["message"]


async def test_nul_characters_come_through_as_replacements(served: Served) -> None:
    told = data(await send(served, await hooked(served), b'{"text": "a\\u0000b"}'), 202)
    context = await served[1].pool.fetchval("SELECT context FROM runs WHERE id = $1", told["jobId"])
    assert context["webhook"]["payload"] == {"text": "a\ufffdb"}


async def test_a_payload_is_bounded(served: Served) -> None:
    payload = {"commits": [{"message": "m" * 2000}] * 300, "branch": "main"}
    told = data(await send(served, await hooked(served), payload), 202)
    context = await served[1].pool.fetchval("SELECT context FROM runs WHERE id = $1", told["jobId"])
    assert (context["webhook"]["cut"], context["webhook"]["payload"]["branch"]) == (True, "main")
    assert len(msgspec.json.encode(context)) < 20_000


async def test_what_a_trigger_does_not_want_is_skipped_with_the_reason(served: Served) -> None:
    hook = await hooked(served, events=["deploy"], actions=["done"], branches=["main", "release/*"])
    for payload, reason in (
        ({"event": "build"}, "the event 'build' is none of deploy"),
        ({"event": "deploy"}, "it names no action"),
        ({"event": "deploy", "action": "done"}, "it names no branch"),
        ({"event": "deploy", "action": "done", "branch": "dev"}, "the branch 'dev' is none of main, release/*"),
    ):
        assert data(await send(served, hook, payload), 202) == {"skipped": reason}
    assert data(await call(served, "GET", f"{TRIGGERS}/{hook['id']}"))["skipReason"].startswith("the branch 'dev'")
    wanted = {"event": "deploy", "action": "done", "branch": "release/2"}
    assert data(await send(served, hook, wanted), 202)["jobId"]


async def test_what_stands_against_the_run_is_said_and_kept(served: Served) -> None:
    hook = await hooked(served)
    first = data(await send(served, hook, {"n": 1}), 202)
    second = data(await send(served, hook, {"n": 2}), 202)
    assert second["skipped"].startswith("already_running: ") and first["jobId"] in second["skipped"]
    assert (await call(served, "GET", f"{TRIGGERS}/{hook['id']}")).json()["deliveries"][0]["skipped"] == second[
        "skipped"
    ]
    body = {name: hook[name] for name in ("projectId", "name", "agentSlug")}
    data(await call(served, "PUT", f"{TRIGGERS}/{hook['id']}", body | {"enabled": False}))
    assert data(await send(served, hook, {"n": 3}), 202) == {"skipped": "the trigger is switched off"}
    data(await call(served, "PUT", f"{TRIGGERS}/{hook['id']}", body | {"onConflict": "enqueue"}))
    third = data(await send(served, hook, {"n": 4}), 202)
    assert third["jobId"] not in (None, first["jobId"])
    await call(served, "DELETE", f"/api/v1/projects/{hook['projectId']}")
    assert data(await send(served, hook, {"n": 5}), 202)["skipped"].startswith("project_archived: ")


async def test_a_trigger_takes_so_many_deliveries_a_minute(served: Served) -> None:
    hook = await hooked(served, maxPerMinute=2)
    await served[1].pool.execute("UPDATE webhook_triggers SET minute = date_trunc('minute', now()), received = 0")
    now = time.time()
    answers = [await send(served, hook, {"n": n}, at=now) for n in range(4)]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert len(limited) == 2 or time.time() // 60 != now // 60
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in limited)
    # A delivery that is known already costs nothing.
    assert data(await send(served, hook, {"n": 0}, at=now), 202)["duplicate"] is True


async def test_the_same_signature_or_id_counts_once(served: Served) -> None:
    hook = await hooked(served)
    now = time.time()
    first = data(await send(served, hook, {"n": 1}, at=now), 202)
    assert data(await send(served, hook, {"n": 1}, at=now), 202) == {"jobId": first["jobId"], "duplicate": True}
    assert data(await send(served, hook, {"n": 1}, at=now - 1), 202)["skipped"].startswith("already_running")
    named = {"X-Gateway-Delivery": "d-1"}
    second = data(await send(served, hook, {"n": 2}, **named), 202)
    later = data(await send(served, hook, {"n": 2}, at=now - 5, **named), 202)
    assert later == {"skipped": second["skipped"], "duplicate": True}
    refused(await send(served, hook, {"n": 3}, **{"X-Gateway-Delivery": "d" * 201}), 400, "validation_error")


async def test_what_github_signed_while_the_trigger_was_off_starts_nothing_later(served: Served) -> None:
    hook = await hooked(served, scheme="github", actions=["opened"])
    body = {name: hook[name] for name in ("projectId", "name", "agentSlug", "scheme", "actions")}

    async def deliver(action: str, delivery_id: str) -> Any:
        payload = msgspec.json.encode({"action": action})
        signed = hmac.new(hook["secret"].encode(), payload, hashlib.sha256).hexdigest()
        headers = {
            "X-GitHub-Event": "issues",
            "X-GitHub-Delivery": delivery_id,
            "X-Hub-Signature-256": f"sha256={signed}",
        }
        return data(await served[0].post(hook["path"], content=payload, headers=headers), 202)

    data(await call(served, "PUT", f"{TRIGGERS}/{hook['id']}", body | {"enabled": False}))
    off = {"skipped": "the trigger is switched off"}
    assert [await deliver("opened", delivery_id) for delivery_id in ("d-1", "d-1", "d-2")] == [off] * 3
    data(await call(served, "PUT", f"{TRIGGERS}/{hook['id']}", body))
    assert await deliver("opened", "d-3") == off | {"duplicate": True}
    unwanted = await deliver("closed", "d-4")
    data(await call(served, "PUT", f"{TRIGGERS}/{hook['id']}", body | {"actions": []}))
    assert await deliver("closed", "d-5") == unwanted | {"duplicate": True}
    assert await runs_of(served, hook) == 0
    assert (await deliver("edited", "d-6"))["jobId"]


async def test_owners_and_operators_make_triggers_members_see_them(served: Served) -> None:
    project = await project_of(served, bob="member")
    hook = await hooked(served, project)
    path, body = f"{TRIGGERS}/{hook['id']}", {"projectId": project, "name": "other"}
    for user, read, change in (("bob", 200, 403), ("eve", 404, 404), ("viewer", 200, 403), ("operator", 200, 200)):
        assert (await call(served, "GET", path, user=user)).status_code == read
        assert (await call(served, "PUT", path, body, user=user)).status_code == change
    for user, status in (("bob", 403), ("eve", 404)):
        assert (await call(served, "POST", TRIGGERS, body, user=user)).status_code == status
        assert (await call(served, "POST", f"{path}/rotate", user=user)).status_code == status
        assert (await call(served, "DELETE", path, user=user)).status_code == status
    assert data(await call(served, "GET", TRIGGERS, user="eve")) == []
    refused(await call(served, "POST", TRIGGERS, body), 409, "trigger_exists")
    refused(await call(served, "PUT", path, {"projectId": NOBODY, "name": "other"}), 422, "project_fixed")
    refused(await call(served, "POST", TRIGGERS, body | {"name": "x", "agentSlug": "nobody"}), 422, "unknown_agent")
    assert (await call(served, "DELETE", path)).status_code == 204
    refused(await served[0].post(hook["path"], content=b"{}"), 404, "not_found")


async def test_without_a_key_no_trigger_can_be_made(database_url: str) -> None:
    given = {"jwt_secret": None, "auth_mode": "none", "host": "127.0.0.1", "gateway_role": "api"}
    async with serving(settings_for(database_url, **given)) as (client, _):
        project = data(await client.post("/api/v1/projects", json={"name": "Shop"}), 201)["id"]
        answer = await client.post(TRIGGERS, json={"projectId": project, "name": "x"})
        assert "TRIGGER_SECRET_KEY" in refused(answer, 409, "webhooks_not_configured")["message"]
