"""Limits, drain and backpressure over HTTP, on the whole application."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
import structlog

from gateway.access import Role
from gateway.runtime import Runtime
from gateway.web.auth import mint_token
from tests.support.eventually import eventually
from tests.support.web import ADMIN, serving, settings_for

EMAIL = "/api/v1/admin/queues/email"
MAIL = {"from": "a@shop.example", "to": "b@example.com", "subject": "s", "text": "t"}
SHARED = pytest.mark.asyncio(loop_scope="module")  # with the application of all that change nothing
Served = tuple[httpx.AsyncClient, Runtime]


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Served]:
    async with serving(settings_for(database_url, email_queue_concurrency=5)) as (client, runtime):
        client.headers.update(ADMIN)
        yield client, runtime


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[Served]:
    async with serving(settings_for(shared_database_url)) as (client, runtime):
        client.headers.update(ADMIN)
        yield client, runtime


async def data(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()["data"]


async def test_a_replica_whose_connections_are_all_busy_shows_that_it_lives(
    served: Served, pool: asyncpg.Pool[Any]
) -> None:
    _, runtime = served
    async with AsyncExitStack() as busy:
        for _ in range(runtime.pool.get_max_size()):
            await busy.enter_async_context(runtime.pool.acquire())
        await runtime.presence.drain()
        assert await pool.fetchval("SELECT draining FROM replicas") is True


async def test_slots_that_a_request_opens_have_nothing_of_it_in_their_log_lines(served: Served) -> None:
    client, runtime = served
    seen: list[dict[str, Any]] = []
    runtime.controls.watch("email-queue", lambda _policy: seen.append(structlog.contextvars.get_contextvars()))
    await data(await client.patch(EMAIL, json={"concurrency": 8}))
    assert seen == [{}]


async def test_a_patch_holds_at_once_here_and_is_shown_with_the_defaults(served: Served) -> None:
    client, runtime = served
    body = {
        "concurrency": 8,
        "rateLimit": {"max": 50, "durationMs": 2000},
        "attempts": 5,
        "retention": {"completedCount": 20},
    }
    changed = await data(await client.patch(EMAIL, json=body))
    assert changed["limits"] | {"timeoutMs": 0} == {
        "concurrency": 8,
        "rateLimit": {"max": 50, "durationMs": 2000},
        "attempts": 5,
        "backoffMs": 60_000,
        "timeoutMs": 0,
        "groupConcurrency": None,
        "groupRateLimit": None,
    }
    assert changed["defaultLimits"]["concurrency"] == 5
    assert changed["defaultLimits"]["rateLimit"] == {"max": 10, "durationMs": 1000}
    assert (changed["retention"]["completedCount"], changed["defaultRetention"]["completedCount"]) == (20, 1000)
    assert [worker.slots for worker in runtime.workers if worker.policy.name == "email-queue"] == [8]
    shown = await data(await client.get(EMAIL))
    shown["workers"] = changed["workers"]  # as of the last sign of life, of which one may have come
    assert shown == changed | {"oldestWaitingS": None}
    back = await data(await client.patch(EMAIL, json={"concurrency": None, "rateLimit": None, "retention": None}))
    assert (back["limits"]["concurrency"], back["limits"]["rateLimit"]) == (5, {"max": 10, "durationMs": 1000})
    assert (back["limits"]["attempts"], back["retention"]) == (5, back["defaultRetention"])


async def test_a_change_leaves_its_words_in_the_audit_trail(served: Served) -> None:
    client, runtime = served
    await data(await client.patch(EMAIL, json={"concurrency": None, "attempts": 2}))
    row = await runtime.pool.fetchrow("SELECT actor, action, subject, detail FROM admin_audit")
    assert row is not None
    assert (row["action"], row["subject"]) == ("queue.limits", "email-queue")
    assert row["detail"] == {"concurrency": None, "attempts": 2}


@SHARED
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ([], "body"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 10_001}, "concurrency"),
        ({"concurrency": "five"}, "concurrency"),
        ({"concurency": 5}, "concurency"),
        ({"rateLimit": {"max": 5}}, "rateLimit.durationMs"),
        ({"rateLimit": {"max": 0, "durationMs": 1}}, "rateLimit.max"),
        ({"rateLimit": 5}, "rateLimit"),
        ({"attempts": 0}, "attempts"),
        ({"backoffMs": 2_000_000_001}, "backoffMs"),
        ({"retention": {}}, "body"),
        ({"retention": {"failedS": 0}}, "retention.failedS"),
    ],
)
async def test_bad_changes_name_the_field_and_change_nothing(shared: Served, body: Any, field: str) -> None:
    client, runtime = shared
    answer = await client.patch(EMAIL, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["details"][0]["field"] == field
    assert await runtime.pool.fetchval("SELECT count(*) FROM queue_overrides") == 0
    assert await runtime.pool.fetchval("SELECT count(*) FROM admin_audit") == 0


async def test_a_replica_tells_how_it_is_and_which_limits_it_goes_by(served: Served) -> None:
    client, runtime = served

    async def replica() -> Any:
        [found] = await data(await client.get("/api/v1/admin/workers"))
        return found

    before = await replica()
    assert before["id"] == runtime.replica_id
    assert before["slots"]["email-queue"] == {"slots": 5, "busy": 0, "limits": 0}
    assert before["vitals"]["rssBytes"] > 10_000_000
    assert before["vitals"]["loopLagS"] >= 0
    await data(await client.patch(EMAIL, json={"attempts": 4}))
    await runtime.presence.drain()  # tells at once what its next sign of life would
    limits = (await replica())["slots"]["email-queue"]["limits"]
    assert limits == runtime.engine.registry.queue("email-queue").revision != 0
    await data(await client.patch(EMAIL, json={"attempts": None}))
    await runtime.presence.drain()
    assert (await replica())["slots"]["email-queue"]["limits"] == 0


async def test_operators_drain_and_administrators_change_limits(served: Served) -> None:
    client, runtime = served
    answers = {}
    for role in Role:
        token = mint_token(runtime.settings, "ann", role, datetime.now(UTC) + timedelta(minutes=5))
        headers = {"Authorization": f"Bearer {token}"}
        patched = await client.patch(EMAIL, json={"attempts": 4}, headers=headers)
        drained = await client.post("/api/v1/admin/workers/nobody/drain", headers=headers)
        answers[role] = (patched.status_code, drained.status_code)
    assert answers == {
        Role.USER: (403, 403),
        Role.VIEWER: (403, 403),
        Role.OPERATOR: (403, 404),
        Role.ADMIN: (200, 404),
    }


async def test_unknown_queues_and_workers(served: Served) -> None:
    client, _ = served
    assert (await client.patch("/api/v1/admin/queues/emial", json={"attempts": 4})).status_code == 404
    answer = await client.post("/api/v1/admin/workers/nobody/drain")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "worker_not_found")
    assert (await client.post("/api/v1/admin/workers/a%00b/drain")).status_code == 404


async def test_a_drained_replica_serves_http_and_says_so(served: Served) -> None:
    client, runtime = served
    path = f"/api/v1/admin/workers/{runtime.replica_id}/drain"
    assert await data(await client.post(path), 202) == {"id": runtime.replica_id, "draining": True}
    [worker] = await data(await client.get("/api/v1/admin/workers"))
    assert worker["draining"] is True
    await eventually(lambda: all(worker.slots == 0 for worker in runtime.workers))
    mail = await data(await client.post("/api/v1/emails", json=MAIL), 202)
    assert (await client.get("/health/ready")).status_code == 200

    async def without_slots() -> Any:
        found = await data(await client.get(EMAIL))
        return found if found["workers"]["slots"] == 0 else None

    queue = await eventually(without_slots)
    assert [why["reason"] for why in queue["whyWaiting"]] == ["no_worker"]
    found = await runtime.pool.fetchval("SELECT job_id FROM emails WHERE id = $1::uuid", mail["id"])
    shown = await data(await client.get(f"/api/v1/admin/jobs/{found}"))
    assert (shown["state"], [why["reason"] for why in shown["whyWaiting"]]) == ("waiting", ["no_worker"])
    scrape = (await client.get("/metrics")).text
    assert 'gateway_worker_slots{queue="email-queue",state="free"} 0.0' in scrape


async def test_why_a_paused_queue_and_a_scheduled_mail_wait(served: Served) -> None:
    client, runtime = served
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await data(await client.post(f"{EMAIL}/pause", json={"until": until, "reason": "provider is down"}))
    await data(await client.post("/api/v1/emails", json=MAIL), 202)
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    await data(await client.post("/api/v1/emails", json=MAIL | {"scheduledAt": later}), 202)
    [paused] = (await data(await client.get(EMAIL)))["whyWaiting"]
    assert (paused["reason"], "provider is down" in paused["message"]) == ("paused", True)
    assert datetime.fromisoformat(paused["until"]) == datetime.fromisoformat(until)
    assert paused["since"] is not None
    job_id = await runtime.pool.fetchval("SELECT id FROM jobs WHERE state = 'delayed'")
    [scheduled] = (await data(await client.get(f"/api/v1/admin/jobs/{job_id}")))["whyWaiting"]
    assert (scheduled["reason"], scheduled["ahead"]) == ("scheduled", None)


async def test_a_change_is_kept_over_a_restart(database_url: str) -> None:
    settings = settings_for(database_url)
    async with serving(settings) as (client, _):
        await data(await client.patch(EMAIL, json={"concurrency": 11}, headers=ADMIN))
    async with serving(settings) as (client, runtime):
        assert (await data(await client.get(EMAIL, headers=ADMIN)))["limits"]["concurrency"] == 11
        assert runtime.workers[0].slots == 11


async def test_a_full_queue_answers_429_and_a_repeated_key_its_first_answer(database_url: str) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    mail = MAIL | {"scheduledAt": later}
    async with serving(settings_for(database_url, email_queue_max_waiting=2)) as (client, runtime):
        client.headers.update(ADMIN)
        first = await client.post("/api/v1/emails", json=mail, headers={"Idempotency-Key": "one"})
        second = await data(await client.post("/api/v1/emails", json=mail), 202)
        await runtime.engine.backlog.refresh()  # one that met a slow commit has not counted it
        for refused in (
            await client.post("/api/v1/emails", json=mail),
            await client.post("/api/v1/emails", json=mail, headers={"Idempotency-Key": "two"}),
            await client.post("/api/v1/emails/batch", json=[mail]),
        ):
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
            assert (refused.headers["Retry-After"], refused.headers["ratelimit-limit"]) == ("1", "2")
        again = await client.post("/api/v1/emails", json=mail, headers={"Idempotency-Key": "one"})
        assert (again.status_code, again.json()) == (202, first.json())
        assert await runtime.pool.fetchval("SELECT count(*) FROM emails") == 2
        assert (await data(await client.get(EMAIL)))["maxWaiting"] == 2
        await data(await client.post(f"/api/v1/emails/{second['id']}/cancel"))

        async def accepted() -> bool:
            return (await client.post("/api/v1/emails", json=mail)).status_code == 202

        await eventually(accepted)


async def test_mails_that_come_together_stay_within_the_bound_of_a_full_queue(database_url: str) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    async with serving(settings_for(database_url, email_queue_max_waiting=20)) as (client, _):
        client.headers.update(ADMIN)
        calls = [client.post("/api/v1/emails", json=MAIL | {"scheduledAt": later}) for _ in range(100)]
        answers = Counter(answer.status_code for answer in await asyncio.gather(*calls))
        assert set(answers) == {202, 429}
        assert 20 <= answers[202] <= 20 + 50  # 50 requests at most share a commit
        found = await data(await client.get(EMAIL))
        assert found["counts"]["delayed"] == answers[202]
