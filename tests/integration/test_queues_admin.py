"""The admin API for queues, jobs and workers on a real ledger."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from litestar import Litestar
from litestar.di import Provide

from gateway.access import Role
from gateway.feature import Platform
from gateway.infra.metrics import Metrics
from gateway.infra.uuid7 import uuid7
from gateway.jobs.direct_broker import DirectBroker
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.engine import Engine
from gateway.jobs.events import Events
from gateway.jobs.inspector import Inspector
from gateway.jobs.job import NewJob
from gateway.jobs.policy import QueuePolicy, RateLimit
from gateway.jobs.records import Records, Replica
from gateway.jobs.registry import Registry
from gateway.jobs.schedules import Schedules
from gateway.jobs.store import Store
from gateway.jobs.unique import UniqueJobs
from gateway.llm import open_models
from gateway.settings import load
from gateway.web import jobs_admin, queues_admin
from gateway.web.auth import Authenticator, check_access_declared, mint_token
from gateway.web.errors import exception_handlers
from gateway.web.middleware import RequestEdge
from tests.support.realtime import realtime

SECRET = "c2f1e6b0a7d94835" * 2
ROUTES = (*queues_admin.ROUTES, *jobs_admin.ROUTES)
QUEUES = (
    QueuePolicy(
        name="email-queue", concurrency=5, rate=RateLimit(10, 1000), attempts=3, backoff_ms=60_000, timeout_s=60
    ),
    QueuePolicy(name="orchestration-queue", concurrency=3, rate=None, attempts=3, backoff_ms=30_000, timeout_s=600),
)


Client = httpx.AsyncClient


@pytest.fixture
def platform(pool: asyncpg.Pool[asyncpg.Record], database_url: str, tmp_path: Any) -> Platform:
    registry = Registry()
    for policy in QUEUES:
        registry.add_queue(policy)
    store = Store(pool, "test", 30_000)
    dispatcher = Dispatcher(DirectBroker(store), Events())
    engine = Engine(registry, store, Records(pool), dispatcher, UniqueJobs(pool, store))
    settings = load({"DATABASE_URL": database_url, "JWT_SECRET": SECRET}, tmp_path, serving=False).settings
    inspector = Inspector(pool, engine, store, dispatcher)
    models = open_models(settings, pool, Metrics())
    told = realtime(settings, pool, dispatcher, Events())
    return Platform(settings, pool, engine, inspector, Schedules(pool, engine), models, told.publisher, told.hub)


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[Client]:
    await Store(platform.pool, "test", 30_000).ensure_queues([policy.name for policy in QUEUES])
    app = Litestar(
        route_handlers=ROUTES,
        dependencies={"platform": Provide(lambda: platform, sync_to_thread=False)},
        guards=[Authenticator(platform.settings, platform.pool).guard],
        exception_handlers=exception_handlers(),
    )
    transport = httpx.ASGITransport(RequestEdge(app))
    headers = bearer(platform, Role.ADMIN)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


def bearer(platform: Platform, role: Role) -> dict[str, str]:
    token = mint_token(platform.settings, "ann", role, datetime.now(UTC) + timedelta(minutes=5))
    return {"Authorization": f"Bearer {token}"}


async def submitted(platform: Platform, count: int = 1, **fields: Any) -> list[str]:
    jobs = [NewJob(id=uuid7(), queue="email-queue", task="email.send", args={"n": n}, **fields) for n in range(count)]
    return [str(done.id) for done in await platform.engine.submit_many(jobs)]


async def fail(platform: Platform, job_id: str) -> None:
    await platform.pool.execute(
        "UPDATE jobs SET state = 'failed', attempts = 3, error = 'no', finished_at = now() WHERE id = $1::uuid", job_id
    )


async def audit_rows(platform: Platform) -> list[dict[str, Any]]:
    found = await platform.pool.fetch("SELECT actor, action, subject, detail, request_id FROM admin_audit ORDER BY id")
    return [dict(row) for row in found]


def problem_of(answer: Any) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["details"][0]["field"] if error["details"] else None


async def test_lists_all_queues_with_exact_numbers(client: Client, platform: Platform) -> None:
    ids = await submitted(platform, 3)
    await submitted(platform, 2, run_at=datetime.now(UTC) + timedelta(hours=1))
    await fail(platform, ids[0])
    found = (await client.get("/api/v1/admin/queues")).json()["data"]
    assert [queue["name"] for queue in found] == ["email-queue", "orchestration-queue"]
    assert found[0]["counts"] == {
        "waiting": 2,
        "delayed": 2,
        "active": 0,
        "completed": 0,
        "failed": 1,
        "cancelled": 0,
    }
    assert found[0]["oldestWaitingS"] >= 0
    assert found[1]["counts"]["waiting"] == 0
    assert found[1]["oldestWaitingS"] is None
    assert found[1]["limits"] == {
        "concurrency": 3,
        "rateLimit": None,
        "attempts": 3,
        "backoffMs": 30_000,
        "timeoutMs": 600_000,
        "groupConcurrency": None,
        "groupRateLimit": None,
    }


async def test_bull_board_list_has_exactly_its_keys(client: Client, platform: Platform) -> None:
    await submitted(platform, 2)
    empty = {"active": 0, "waiting": 0, "completed": 0, "failed": 0}
    assert (await client.get("/admin/queues/api/queues")).json() == {
        "queues": [
            {"name": "email-queue", "counts": {**empty, "waiting": 2}},
            {"name": "orchestration-queue", "counts": empty},
        ]
    }


async def test_a_queue_adds_up_the_slots_of_live_replicas(client: Client, platform: Platform) -> None:
    for number, busy in enumerate((2, 1)):
        now = datetime.now(UTC)
        await Records(platform.pool).beat(
            Replica(
                id=f"r{number}",
                role="all",
                version="1",
                host="h",
                pid=7,
                mode="direct",
                slots={"email-queue": {"slots": 5, "busy": busy}},
                draining=False,
                started_at=now,
                seen_at=now,
            )
        )
    assert (await client.get("/api/v1/admin/queues/email")).json()["data"]["workers"] == {
        "replicas": 2,
        "slots": 10,
        "busy": 3,
    }


async def test_pause_and_resume_by_short_name_are_audited(client: Client, platform: Platform) -> None:
    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    body = {"until": until, "reason": "provider is down"}
    answer = await client.post("/api/v1/admin/queues/email/pause", json=body, headers={"X-Request-Id": "req-1"})
    assert answer.status_code == 200
    paused = (await client.get("/api/v1/admin/queues/email-queue")).json()["data"]
    assert (paused["paused"], paused["pauseReason"]) == (True, "provider is down")
    assert datetime.fromisoformat(paused["pausedUntil"]) == datetime.fromisoformat(until)
    resumed = (await client.post("/api/v1/admin/queues/email/resume")).json()["data"]
    assert resumed["paused"] is False
    rows = await audit_rows(platform)
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        ("ann", "queue.pause", "email-queue"),
        ("ann", "queue.resume", "email-queue"),
    ]
    assert rows[0]["detail"]["reason"] == "provider is down"
    assert rows[0]["request_id"] == "req-1"


async def test_pause_needs_no_body(client: Client) -> None:
    answer = (await client.post("/api/v1/admin/queues/email/pause")).json()["data"]
    assert (answer["paused"], answer["pausedUntil"], answer["pauseReason"]) == (True, None, None)


async def test_jobs_come_in_pages_newest_first(client: Client, platform: Platform) -> None:
    ids = [job_id for _ in range(5) for job_id in await submitted(platform)]
    seen: list[str] = []
    cursor = None
    while True:
        query: dict[str, Any] = {"limit": 2, "state": "waiting,delayed"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/v1/admin/queues/email/jobs", params=query)).json()
        seen += [job["id"] for job in page["data"]]
        cursor = page["page"]["nextCursor"]
        if cursor is None:
            break
    assert seen == list(reversed(ids))
    assert "data" not in page["data"][0]
    assert (await client.get("/api/v1/admin/queues/email/jobs?state=failed")).json()["data"] == []


async def test_one_job_in_full(client: Client, platform: Platform) -> None:
    [job_id] = await submitted(platform)
    job = (await client.get(f"/api/v1/admin/jobs/{job_id}")).json()["data"]
    assert (job["id"], job["state"], job["data"], job["errors"]) == (job_id, "waiting", {"n": 0}, [])
    assert (job["attempts"], job["maxAttempts"], job["startedAt"]) == (0, 3, None)


async def test_retry_a_failed_job(client: Client, platform: Platform) -> None:
    [job_id] = await submitted(platform)
    await fail(platform, job_id)
    job = (await client.post(f"/api/v1/admin/jobs/{job_id}/retry")).json()["data"]
    assert (job["state"], job["attempts"]) == ("waiting", 0)
    assert [row["action"] for row in await audit_rows(platform)] == ["job.retry"]
    again = await client.post(f"/api/v1/admin/jobs/{job_id}/retry")
    assert problem_of(again)[:2] == (409, "wrong_state")
    assert len(await audit_rows(platform)) == 1


async def test_cancel_a_waiting_job(client: Client, platform: Platform) -> None:
    [job_id, other] = await submitted(platform, 2)
    job = (await client.post(f"/api/v1/admin/jobs/{job_id}/cancel", json={"reason": "not wanted"})).json()["data"]
    assert (job["state"], job["error"]) == ("cancelled", "not wanted")
    by_default = (await client.post(f"/api/v1/admin/jobs/{other}/cancel")).json()["data"]
    assert "ann" in by_default["error"]
    assert problem_of(await client.post(f"/api/v1/admin/jobs/{job_id}/cancel"))[:2] == (409, "wrong_state")
    assert [(row["action"], row["detail"]) for row in await audit_rows(platform)] == [
        ("job.cancel", {"reason": "not wanted"}),
        ("job.cancel", {}),
    ]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("state=fialed", "state"),
        ("state=", "state"),
        ("cursor=x", "cursor"),
    ],
)
async def test_bad_queries_name_the_field(client: Client, query: str, field: str) -> None:
    assert problem_of(await client.get(f"/api/v1/admin/queues/email/jobs?{query}")) == (400, "validation_error", field)


FUTURE = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None).isoformat()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"until": FUTURE}, "until"),
        ({"until": "soon"}, "until"),
        ({"until": "2001-01-01T00:00:00Z"}, "until"),
        ({"until": "9999-12-31T23:59:59-14:00"}, "until"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "a\x00b"}, "reason"),
        ({"reason": 7}, "reason"),
        ({"untill": None}, "untill"),
        ([], "body"),
    ],
)
async def test_bad_bodies_name_the_field_and_change_nothing(
    client: Client, platform: Platform, body: Any, field: str
) -> None:
    answer = await client.post("/api/v1/admin/queues/email/pause", json=body)
    assert problem_of(answer) == (400, "validation_error", field)
    assert (await platform.engine.queue_status("email-queue")).paused is False
    assert await audit_rows(platform) == []


async def test_bodies_that_are_not_json(client: Client) -> None:
    answer = await client.post(
        "/api/v1/admin/queues/email/pause", content=b"{until", headers={"Content-Type": "application/json"}
    )
    assert problem_of(answer)[:2] == (400, "invalid_json")


@pytest.mark.parametrize("verb", ["", "/retry", "/cancel"])
async def test_ids_that_are_not_ids_and_unknown_ids(client: Client, verb: str) -> None:
    call = client.post if verb else client.get
    assert problem_of(await call(f"/api/v1/admin/jobs/not-an-id{verb}")) == (400, "validation_error", "id")
    assert problem_of(await call(f"/api/v1/admin/jobs/{uuid4()}{verb}"))[:2] == (404, "job_not_found")


async def test_unknown_queues_are_answered_with_the_nearest_one(client: Client) -> None:
    answer = await client.get("/api/v1/admin/queues/emial")
    assert problem_of(answer) == (404, "unknown_queue", "name")
    assert 'did you mean "email"?' in json.dumps(answer.json(), ensure_ascii=False).replace("\\", "")
    assert "email, orchestration" in answer.json()["error"]["message"]


async def test_who_may_read_and_who_may_change(client: Client, platform: Platform) -> None:
    path = "/api/v1/admin/queues/email"
    statuses = {}
    for role in (Role.USER, Role.VIEWER, Role.OPERATOR):
        headers = bearer(platform, role)
        read = await client.get(path, headers=headers)
        change = await client.post(f"{path}/resume", headers=headers)
        statuses[role] = (read.status_code, change.status_code)
    assert statuses == {Role.USER: (403, 403), Role.VIEWER: (200, 403), Role.OPERATOR: (200, 200)}
    assert (await client.get(path, headers={"Authorization": ""})).status_code == 401
    assert len(await audit_rows(platform)) == 1


def test_every_route_declares_who_may_call_it() -> None:
    given = {"platform": Provide(lambda: None, sync_to_thread=False)}
    check_access_declared(Litestar(route_handlers=ROUTES, dependencies=given, openapi_config=None))
