"""What a cron job of the installation may ask: with its secret alone, and safe to ask again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from gateway.infra.uuid7 import uuid7
from gateway.runtime import Runtime
from gateway.settings import SettingsError, load
from tests.support.eventually import eventually
from tests.support.people import As, data, people, refused
from tests.support.web import SECRET, serving, settings_for

WORKERS = "/api/v1/workers"
CRON = "kq8WmZ2v7Yt4Rb1Nc6Hs9Jd3Lf5Gx0Pa"
MACHINE = {"Authorization": f"Bearer {CRON}"}
ROUTES = [
    ("POST", f"{WORKERS}/process-email-queue"),
    ("POST", f"{WORKERS}/cleanup-email-logs"),
    ("POST", f"{WORKERS}/orchestration/batch"),
    ("POST", f"{WORKERS}/orchestration/project/00000000-0000-7000-8000-000000000000"),
    ("POST", f"{WORKERS}/orchestration/retry-failed"),
    ("POST", f"{WORKERS}/orchestration/cleanup"),
    ("GET", f"{WORKERS}/health"),
]
SHARED = pytest.mark.asyncio(loop_scope="module")  # with the application of all that count nothing
Served: TypeAlias = tuple[httpx.AsyncClient, Runtime, As]


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Served]:
    """No workers: what is queued waits."""
    async with serving(settings_for(database_url, gateway_role="api", cron_secret=CRON)) as (client, runtime):
        await runtime.maintenance.stop()  # its chores and duties do the same by themselves
        yield client, runtime, people(runtime)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[Served]:
    """Likewise, for tests marked so."""
    async with serving(settings_for(shared_database_url, gateway_role="api", cron_secret=CRON)) as (client, runtime):
        yield client, runtime, people(runtime)


async def ask(served: Served, path: str, method: str = "POST", **query: Any) -> httpx.Response:
    return await served[0].request(method, f"{WORKERS}{path}", params=query, headers=MACHINE)


async def project_of(served: Served, **fields: Any) -> str:
    body = {"name": "Shop", **fields}
    made = data(await served[0].post("/api/v1/projects", json=body, headers=served[2]("ann")), 201)
    return str(made["id"])


@SHARED
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_machines_come_in_with_the_secret_and_with_nothing_else(shared: Served, method: str, path: str) -> None:
    client, _, who = shared
    wrong = ["", "Bearer", f"Basic {CRON}", f"Bearer {CRON}x", f"Bearer {CRON[:-1]}", "Bearer ü", f"Bearer {SECRET}"]
    headers = [{}, *({"Authorization": text.encode("utf-8")} for text in wrong), who("admin"), who("ann")]
    for given in headers:
        answer = await client.request(method, path, headers=given)
        assert answer.status_code == 401, (given, answer.text)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert CRON not in answer.text
    assert (await client.request(method, path, headers=MACHINE)).status_code in (200, 202, 404)
    bearer = {"authorization": f"bearer  {CRON} "}
    assert (await client.request(method, path, headers=bearer)).status_code in (200, 202, 404, 409)


@SHARED
async def test_the_secret_opens_nothing_else(shared: Served) -> None:
    for path in ("/api/v1/admin/queues/email", "/api/v1/emails", "/api/v1/projects"):
        assert (await shared[0].get(path, headers=MACHINE)).status_code == 401


async def test_without_a_secret_they_are_off_and_the_log_says_so(database_url: str) -> None:
    with capture_logs() as logs:
        async with serving(settings_for(database_url, gateway_role="api")) as (client, runtime):
            assert "CRON_SECRET is not set" in str([each for each in logs if each["event"] == "machine_routes_off"])
            for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}, people(runtime)("admin")):
                answer = await client.post(f"{WORKERS}/process-email-queue", headers=headers)
                assert answer.status_code == 401
            # The token of ``gateway dev`` opens everything on a developer's machine.
            dev = {"Authorization": "Bearer dev"}
            assert (await client.post(f"{WORKERS}/process-email-queue", headers=dev)).status_code == 200


@pytest.mark.parametrize("value", ["short", "change-me-change-me-change-me-change-me"])
@pytest.mark.parametrize("name", ["CRON_SECRET", "TRIGGER_SECRET_KEY"])
def test_a_weak_secret_stops_the_start(name: str, value: str) -> None:
    environment = {"DATABASE_URL": "postgresql://db/gateway", "JWT_SECRET": SECRET, "SMTP_HOST": "smtp.example"}
    with pytest.raises(SettingsError, match=name):
        load(environment | {name: value})


@SHARED
@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/process-email-queue", {"limit": 0}),
        ("/process-email-queue", {"limit": 1001}),
        ("/process-email-queue", {"limt": 5}),
        ("/cleanup-email-logs", {"days": 3651}),
        ("/orchestration/batch", {"priority": 11}),
        ("/orchestration/batch", {"useQueue": "perhaps"}),
        ("/orchestration/cleanup", {"olderThanDays": 0}),
    ],
)
async def test_what_is_out_of_bounds_is_named(shared: Served, path: str, query: dict[str, Any]) -> None:
    error = refused(await ask(shared, path, **query), 400, "validation_error")
    assert error["details"][0]["field"] == next(iter(query))


async def test_mails_that_lost_their_job_get_a_new_one(served: Served) -> None:
    client, runtime, who = served
    mail = {"from": "shop@shop.example", "to": "ada@example.com", "text": "Hello"}
    ids = [data(await client.post("/api/v1/emails", json=mail, headers=who("ann")), 202)["id"] for _ in range(3)]
    assert data(await ask(served, "/process-email-queue")) == {"processed": 0}
    await runtime.pool.execute("DELETE FROM jobs")
    await runtime.pool.execute("UPDATE emails SET updated_at = now() - interval '2 minutes'")
    assert data(await ask(served, "/process-email-queue", limit=2)) == {"processed": 2}
    assert data(await ask(served, "/process-email-queue", limit=2)) == {"processed": 1}
    assert await runtime.pool.fetchval("SELECT count(*) FROM jobs WHERE queue = 'email-queue'") == len(ids)


async def test_logs_of_mails_that_ended_long_ago_go_and_the_mails_stay(served: Served) -> None:
    client, runtime, who = served
    mail = {"from": "shop@shop.example", "to": "ada@example.com", "text": "Hello"}
    for _ in range(3):
        data(await client.post("/api/v1/emails", json=mail, headers=who("ann")), 202)
    (old, waiting, _) = [row["id"] for row in await runtime.pool.fetch("SELECT id FROM emails ORDER BY id")]
    await runtime.pool.execute("UPDATE emails SET status = 'sent' WHERE id <> $1", waiting)
    await runtime.pool.execute("UPDATE emails SET updated_at = now() - interval '31 days' WHERE id <= $1", waiting)
    await runtime.pool.execute("UPDATE email_events SET at = now() - interval '31 days'")
    columns = "email_id, fence, attempt, worker, transport"
    attempt = f"INSERT INTO email_attempts ({columns}) SELECT id, 1, 1, 'w', 'smtp' FROM emails"
    await runtime.pool.execute(attempt)
    events = await runtime.pool.fetchval("SELECT count(*) FROM email_events WHERE email_id = $1", old)
    assert data(await ask(served, "/cleanup-email-logs", days=30)) == {"events": events, "attempts": 1}
    assert data(await ask(served, "/cleanup-email-logs", days=30)) == {"events": 0, "attempts": 0}
    assert data(await client.get(f"/api/v1/emails/{old}", headers=who("ann")))["status"] == "sent"
    assert await runtime.pool.fetchval("SELECT count(*) FROM email_attempts") == 2
    actors = await runtime.pool.fetch("SELECT actor FROM admin_audit WHERE action = 'email.clean_logs'")
    assert [row["actor"] for row in actors] == ["cron", "cron"]


async def test_each_active_project_gets_one_batch(served: Served) -> None:
    open_projects = [await project_of(served) for _ in range(3)]
    broke = await project_of(served, monthlyBudgetCents=0)
    archived = await project_of(served)
    await served[0].delete(f"/api/v1/projects/{archived}", headers=served[2]("ann"))
    first = data(await ask(served, "/orchestration/batch", useQueue="true", priority=3), 202)
    assert sorted(one["projectId"] for one in first["started"]) == sorted(open_projects)
    assert [(one["projectId"], one["code"]) for one in first["skipped"]] == [(broke, "budget_exhausted")]
    rows = await served[1].pool.fetch("SELECT triggered_by, job_type, priority FROM runs")
    assert [tuple(row) for row in rows] == [("cron", "batch", 3)] * 3
    again = data(await ask(served, "/orchestration/batch"), 202)
    assert (again["started"], {one["code"] for one in again["skipped"]}) == (
        [],
        {"already_running", "budget_exhausted"},
    )


async def test_a_full_queue_does_not_hide_what_had_started(database_url: str) -> None:
    settings = settings_for(database_url, gateway_role="api", cron_secret=CRON, orchestration_queue_max_waiting=2)
    async with serving(settings) as (client, runtime):
        served = (client, runtime, people(runtime))
        projects = [await project_of(served) for _ in range(4)]
        answer = data(await ask(served, "/orchestration/batch"), 202)
        assert len(answer["started"]) == await runtime.pool.fetchval("SELECT count(*) FROM runs") == 2
        assert [one["code"] for one in answer["skipped"]] == ["queue_full"] * 2
        assert {one["projectId"] for one in answer["started"] + answer["skipped"]} == set(projects)


@SHARED
async def test_one_project_gets_a_batch_or_the_reason(shared: Served) -> None:
    project = await project_of(shared)
    assert data(await ask(shared, f"/orchestration/project/{project}"), 202)["status"] == "queued"
    refused(await ask(shared, f"/orchestration/project/{project}"), 409, "already_running")
    refused(await ask(shared, f"/orchestration/project/{uuid7()}"), 404, "not_found")
    refused(await ask(shared, "/orchestration/project/shop"), 404, "not_found")


async def test_failed_runs_are_repeated_once(served: Served) -> None:
    project = await project_of(served)
    data(await ask(served, f"/orchestration/project/{project}"), 202)
    assert data(await ask(served, "/orchestration/retry-failed")) == {"retriedCount": 0, "failedJobs": 0}
    await served[1].pool.execute("UPDATE jobs SET state = 'failed', finished_at = now(), error = 'broke'")

    assert data(await ask(served, "/orchestration/retry-failed")) == {"retriedCount": 1, "failedJobs": 1}
    assert await served[1].pool.fetchval("SELECT status FROM runs") == "queued"


async def test_old_jobs_runs_and_logs_go_paid_ones_stay(served: Served) -> None:
    pool = served[1].pool
    for _ in range(3):
        data(await ask(served, f"/orchestration/project/{await project_of(served)}"), 202)
    await pool.execute("UPDATE jobs SET state = 'failed', finished_at = now() - interval '8 days'")
    await pool.execute("UPDATE runs SET finished_at = now() - interval '8 days'")
    (paid, young, _) = [row["id"] for row in await pool.fetch("SELECT id FROM runs ORDER BY id")]
    await pool.execute("UPDATE runs SET cost_micros = 5 WHERE id = $1", paid)
    await pool.execute("UPDATE runs SET finished_at = now() WHERE id = $1", young)
    await pool.execute("UPDATE jobs SET finished_at = now() WHERE id = $1", young)
    columns = "key, repository, kind, body, bytes, fetched_at"
    page = f"INSERT INTO github_pages ({columns}) VALUES ($1, 'a/b', 'x', '', 0, now() - $2::text::interval)"
    await pool.executemany(page, [(b"1", "8 days"), (b"2", "1 day")])
    expected = {"queueJobsCleaned": 2, "dbJobsCleaned": 1, "logsCleaned": 0, "cacheCleaned": 1}
    assert data(await ask(served, "/orchestration/cleanup")) == expected
    assert {row["id"] for row in await pool.fetch("SELECT id FROM runs")} == {paid, young}
    assert set(data(await ask(served, "/orchestration/cleanup")).values()) == {0}


async def test_health_says_which_queue_nobody_works_on(served: Served, database_url: str) -> None:
    health = data(await ask(served, "/health", "GET"))
    assert (health["status"], health["mode"]) == ("degraded", "direct")
    assert sorted(health["unattended"]) == sorted(health["queues"])
    async with serving(settings_for(database_url)):

        async def attended() -> bool:
            seen = data(await ask(served, "/health", "GET"))
            assert (seen["status"], seen["unattended"]) == ("ok", []), seen
            return bool(seen["queues"]["orchestration-queue"]["slots"] == 3)

        await eventually(attended, 30)
