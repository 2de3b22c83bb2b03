"""The admin API for looking for jobs and changing one or many, over the whole application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
import pytest_asyncio

from gateway.access import Role
from gateway.infra.uuid7 import uuid7
from gateway.jobs.job import NewJob
from gateway.jobs.registry import Task, TaskContext
from gateway.runtime import Runtime
from gateway.web.auth import mint_token
from tests.support.eventually import eventually
from tests.support.web import serving, settings_for

ADMIN = "/api/v1/admin"
JOBS = f"{ADMIN}/jobs"
QUEUE = f"{ADMIN}/queues/email"
QUEUE_NAME = "email-queue"
ORCHESTRATION = "orchestration-queue"
pytestmark = pytest.mark.asyncio(loop_scope="module")
App: TypeAlias = tuple[httpx.AsyncClient, Runtime]


@pytest_asyncio.fixture(loop_scope="module")
async def app(database_url: str) -> AsyncIterator[App]:
    """Without workers: jobs stay where the tests put them."""
    async with serving(settings_for(database_url, gateway_role="api")) as (client, runtime):
        client.headers["Authorization"] = f"Bearer {token(runtime, Role.ADMIN)}"
        yield client, runtime


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[App]:
    """Likewise, for tests that look at no job but their own."""
    async with serving(settings_for(shared_database_url, gateway_role="api")) as made:
        yield made


@pytest.fixture
def common(shared: App) -> httpx.AsyncClient:
    client, runtime = shared
    client.headers["Authorization"] = f"Bearer {token(runtime, Role.ADMIN)}"
    return client


@pytest.fixture
def client(app: App) -> httpx.AsyncClient:
    return app[0]


@pytest.fixture
def runtime(app: App) -> Runtime:
    return app[1]


def token(runtime: Runtime, role: Role) -> str:
    return mint_token(runtime.settings, "ann", role, datetime.now(UTC) + timedelta(minutes=5))


async def submitted(runtime: Runtime, count: int = 1, queue: str = QUEUE_NAME, **fields: Any) -> list[str]:
    jobs = [
        NewJob(id=uuid7(), queue=queue, task="test.task", args={"userId": n, "n": n}, **fields) for n in range(count)
    ]
    return [str(done.id) for done in await runtime.engine.submit_many(jobs)]


async def fail(runtime: Runtime, *ids: str, error: str = "no luck") -> None:
    await runtime.pool.execute(
        "UPDATE jobs SET state = 'failed', attempts = 3, error = $2, finished_at = now() WHERE id = ANY ($1)",
        [UUID(job_id) for job_id in ids],
        error,
    )


async def audit(runtime: Runtime) -> list[tuple[str, str, dict[str, Any]]]:
    rows = await runtime.pool.fetch("SELECT action, subject, detail FROM admin_audit WHERE actor = 'ann' ORDER BY id")
    return [(row["action"], row["subject"], row["detail"]) for row in rows]


def problem_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["details"][0]["field"] if error["details"] else None


async def found(client: httpx.AsyncClient, path: str, **query: str) -> list[str]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


async def ended(client: httpx.AsyncClient, operation_id: str) -> dict[str, Any]:
    async def now() -> dict[str, Any] | None:
        data = (await client.get(f"{ADMIN}/operations/{operation_id}")).json()["data"]
        return data if data["state"] != "running" else None

    return await eventually(now)


async def test_jobs_are_found_in_one_queue_and_in_all(client: httpx.AsyncClient, runtime: Runtime) -> None:
    ids = await submitted(runtime, 3, dedupe_key=None)
    [other] = await submitted(runtime, 1, queue=ORCHESTRATION, dedupe_key="order-1")
    await fail(runtime, ids[0], other, error="550 no such user")
    assert await found(client, JOBS) == [other, *ids[::-1]]
    assert await found(client, JOBS, q="such user") == [other, ids[0]]
    assert await found(client, JOBS, q="such user", queue="email") == [ids[0]]
    assert await found(client, f"{QUEUE}/jobs", q="such user") == [ids[0]]
    assert await found(client, f"{QUEUE}/jobs", error="no such", state="failed") == [ids[0]]
    assert await found(client, JOBS, q="order-1") == [other]
    assert await found(client, JOBS, q=ids[1]) == [ids[1]]
    assert await found(client, JOBS, q="args.userId:2") == [ids[2]]
    assert await found(client, JOBS, **{"from": "2100-01-01T00:00:00Z"}) == []
    assert await found(client, JOBS, until="2100-01-01T00:00:00Z", state="waiting") == ids[:0:-1]


async def test_pages_go_on_and_only_searches_tell_how_far_they_looked(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    ids = await submitted(runtime, 5)
    first = (await client.get(JOBS, params={"limit": 3})).json()
    assert first["page"] == {"nextCursor": ids[2], "limit": 3}
    assert await found(client, JOBS, cursor=first["page"]["nextCursor"]) == [ids[1], ids[0]]
    searched = (await client.get(JOBS, params={"q": "args.n:4"})).json()
    assert searched["page"] == {"nextCursor": None, "limit": 50, "searched": 5, "complete": True}
    assert set(searched["data"][0]) == set(first["data"][0])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=0101", "limit"),
        ("state=fialed", "state"),
        ("cursor=x", "cursor"),
        ("q=", "q"),
        ("q=args.userId", "q"),
        ("q=id:zz", "q"),
        ("q=%00", "q"),
        ("error=", "error"),
        ("q=timeout&error=550", "q"),
        ("from=yesterday", "from"),
        ("until=2026-01-01T00:00:00", "until"),
        ("from=9999-12-31T23:59:59-14:00", "from"),
        ("tags=x", "tags"),
        ("q=a&q=b", "q"),
    ],
)
async def test_wrong_queries_name_the_parameter(common: httpx.AsyncClient, query: str, field: str) -> None:
    for path in (JOBS, f"{QUEUE}/jobs"):
        assert problem_of(await common.get(f"{path}?{query}")) == (400, "validation_error", field)
    assert problem_of(await common.get(f"{JOBS}?queue=emial"))[:2] == (404, "unknown_queue")


async def test_promote_and_delete_one(client: httpx.AsyncClient, runtime: Runtime) -> None:
    [job_id] = await submitted(runtime, run_at=datetime.now(UTC) + timedelta(days=1))
    job = (await client.post(f"{JOBS}/{job_id}/promote")).json()["data"]
    assert job["state"] == "waiting"
    assert problem_of(await client.post(f"{JOBS}/{job_id}/promote"))[:2] == (409, "wrong_state")
    await runtime.pool.execute("UPDATE jobs SET state = 'active', lease_until = now() + interval '1 h'")
    assert problem_of(await client.delete(f"{JOBS}/{job_id}"))[:2] == (409, "wrong_state")
    await fail(runtime, job_id)
    assert (await client.delete(f"{JOBS}/{job_id}")).json()["data"] == {"id": job_id, "deleted": True}
    assert problem_of(await client.delete(f"{JOBS}/{job_id}"))[:2] == (404, "job_not_found")
    assert await audit(runtime) == [
        ("job.promote", job_id, {}),
        ("job.delete", job_id, {"state": "failed"}),
    ]


async def test_replay_names_the_field_that_is_wrong(client: httpx.AsyncClient, runtime: Runtime) -> None:
    [job_id] = await submitted(runtime)
    await fail(runtime, job_id)
    assert problem_of(await client.post(f"{JOBS}/{job_id}/replay", json={"args": {}}))[:2] == (409, "not_replayable")
    await runtime.pool.execute("UPDATE jobs SET task = 'email.send'")
    refused = await client.post(f"{JOBS}/{job_id}/replay", json={"args": {}})
    assert problem_of(refused)[:2] == (409, "not_replayable")
    assert "resend" in refused.json()["error"]["message"]
    assert problem_of(await client.post(f"{JOBS}/{job_id}/replay", json={"argz": {}})) == (
        400,
        "validation_error",
        "argz",
    )
    assert await audit(runtime) == []


class Report(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    project_id: str
    pages: int = 1


async def test_a_replay_is_a_new_job_whose_argument_was_checked(client: httpx.AsyncClient, runtime: Runtime) -> None:
    async def perform(_report: Report, _context: TaskContext) -> None: ...

    runtime.engine.registry.add_task(Task("test.report", QUEUE_NAME, Report, perform))
    [old] = await submitted(runtime)
    await runtime.pool.execute("UPDATE jobs SET task = 'test.report'")
    await fail(runtime, old)
    for args, field in (
        ({}, "args.projectId"),
        ({"projectId": 7}, "args.projectId"),
        ({"projectId": "p", "pages": "x"}, "args.pages"),
        ({"projectid": "p", "projectId": "p"}, "args.projectid"),
    ):
        refused = await client.post(f"{JOBS}/{old}/replay", json={"args": args})
        assert problem_of(refused) == (400, "validation_error", field)
    answer = await client.post(f"{JOBS}/{old}/replay", json={"args": {"projectId": "p"}})
    new = answer.json()["data"]
    assert (answer.status_code, new["state"], new["data"]) == (201, "waiting", {"projectId": "p"})
    assert answer.json()["links"] == {"replayOf": old, "replays": []}
    kept = (await client.get(f"{JOBS}/{old}")).json()
    assert (kept["data"]["state"], kept["data"]["error"]) == ("failed", "no luck")
    assert kept["links"] == {"replayOf": None, "replays": [new["id"]]}
    assert await audit(runtime) == [("job.replay", old, {"newId": new["id"]})]


async def test_a_dry_run_counts_and_changes_nothing(client: httpx.AsyncClient, runtime: Runtime) -> None:
    ids = await submitted(runtime, 4)
    await fail(runtime, *ids[:3])
    body = {"action": "retry", "filter": {"state": "failed"}, "dryRun": True}
    answer = await client.post(f"{QUEUE}/bulk", json=body)
    assert (answer.status_code, answer.json()["data"]) == (200, {"count": 3})
    body = {"action": "cancel", "ids": ids, "dryRun": True}
    assert (await client.post(f"{QUEUE}/bulk", json=body)).json()["data"] == {"count": 1}
    assert await runtime.pool.fetchval("SELECT count(*) FROM operations") == 0
    assert await audit(runtime) == []


async def test_work_on_many_is_an_operation_with_progress(client: httpx.AsyncClient, runtime: Runtime) -> None:
    ids = await submitted(runtime, 4)
    await fail(runtime, *ids[:3])
    body = {"action": "retry", "filter": {"q": "luck", "state": "failed"}}
    answer = await client.post(f"{QUEUE}/bulk", json=body)
    assert answer.status_code == 202
    operation_id = answer.json()["data"]["operationId"]
    assert answer.headers["Location"] == f"{ADMIN}/operations/{operation_id}"
    operation = await ended(client, operation_id)
    assert (operation["state"], operation["total"], operation["done"], operation["failed"]) == ("completed", 3, 3, 0)
    assert (operation["filter"], operation["actor"]) == ({"states": ["failed"], "error": "luck"}, "ann")
    assert (await client.get(f"/admin/operations/{operation_id}")).json()["data"] == operation
    assert (await client.get(f"{ADMIN}/operations")).json()["data"] == [operation]
    assert await found(client, JOBS, state="waiting") == ids[::-1]
    assert problem_of(await client.post(f"{ADMIN}/operations/{operation_id}/cancel"))[:2] == (409, "wrong_state")
    [(action, subject, detail)] = await audit(runtime)
    assert (action, subject) == ("queue.bulk", QUEUE_NAME)
    assert detail == {
        "action": "retry",
        "operationId": operation_id,
        "total": 3,
        "filter": {"q": "luck", "state": "failed"},
    }


async def test_deleting_a_mails_job_cancels_the_mail(client: httpx.AsyncClient, runtime: Runtime) -> None:
    mail = {"from": "shop@example.com", "to": "ada@example.com", "subject": "hi", "text": "hi"}
    sent = (await client.post("/api/v1/emails", json=mail)).json()["data"]
    job_id = str(await runtime.pool.fetchval("SELECT job_id FROM emails"))
    answer = await client.post(f"{QUEUE}/bulk", json={"action": "delete", "ids": [job_id]})
    assert (await ended(client, answer.json()["data"]["operationId"]))["done"] == 1
    assert (await client.get(f"/api/v1/emails/{sent['id']}")).json()["data"]["status"] == "cancelled"
    assert await runtime.pool.fetchval("SELECT count(*) FROM jobs") == 0


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"action": "retry"}, 422, "empty_filter", None),
        ({"action": "retry", "filter": {}}, 422, "empty_filter", None),
        ({"action": "retry", "filter": {"state": None}}, 422, "empty_filter", None),
        ({"action": "retry", "ids": []}, 422, "empty_filter", None),
        ({"action": "retry", "ids": [str(uuid4())], "filter": {"state": "failed"}}, 400, "validation_error", "ids"),
        ({"action": "retry", "ids": ["x"]}, 400, "validation_error", "ids[0]"),
        ({"action": "retri", "filter": {"state": "failed"}}, 400, "validation_error", "action"),
        ({"action": "retry", "filter": {"state": "completed"}}, 400, "validation_error", "filter.state"),
        ({"action": "delete", "filter": {"state": "active"}}, 400, "validation_error", "filter.state"),
        ({"action": "retry", "filter": {"q": "args.x"}}, 400, "validation_error", "filter.q"),
        ({"action": "retry", "filter": {"error": ""}}, 400, "validation_error", "filter.error"),
        ({"action": "retry", "filter": {"from": "soon"}}, 400, "validation_error", "filter.from"),
        ({"action": "retry", "filter": {"stat": "failed"}}, 400, "validation_error", "filter.stat"),
        ({"action": "retry", "filter": {"state": "failed"}, "dryrun": True}, 400, "validation_error", "dryrun"),
        ({"filter": {"state": "failed"}}, 400, "validation_error", "action"),
    ],
)
async def test_what_is_unclear_changes_nothing(
    common: httpx.AsyncClient, shared: App, body: Any, status: int, code: str, field: str | None
) -> None:
    assert problem_of(await common.post(f"{QUEUE}/bulk", json=body)) == (status, code, field)
    assert await shared[1].pool.fetchval("SELECT count(*) FROM operations") == 0


async def test_clean_counts_both_states(client: httpx.AsyncClient, runtime: Runtime) -> None:
    ids = await submitted(runtime, 3)
    await fail(runtime, *ids[:2])
    await runtime.pool.execute("UPDATE jobs SET finished_at = now() - interval '1 h' WHERE id = $1", UUID(ids[0]))
    answer = await client.post(f"{QUEUE}/clean", json={"olderThanMs": 60_000})
    assert answer.json()["data"] == {"cleaned": {"completed": 0, "failed": 1}}
    assert await found(client, JOBS) == [ids[2], ids[1]]
    for body, field in (
        ({}, "olderThanMs"),
        ({"olderThanMs": -1}, "olderThanMs"),
        ({"olderThanMs": 1, "limit": 0}, "limit"),
        ({"olderThanMs": 1, "state": "waiting"}, "state"),
    ):
        assert problem_of(await client.post(f"{QUEUE}/clean", json=body)) == (400, "validation_error", field)
    assert [row[0] for row in await audit(runtime)] == ["queue.clean"]


async def test_operations_that_do_not_exist(common: httpx.AsyncClient) -> None:
    for call, path in (
        (common.get, f"{ADMIN}/operations/{uuid4()}"),
        (common.get, f"/admin/operations/{uuid4()}"),
        (common.post, f"{ADMIN}/operations/{uuid4()}/cancel"),
    ):
        assert problem_of(await call(path))[:2] == (404, "operation_not_found")
    assert problem_of(await common.get(f"{ADMIN}/operations/x")) == (400, "validation_error", "id")


@pytest.mark.parametrize("role", [Role.USER, Role.VIEWER])
async def test_only_operators_change_jobs(common: httpx.AsyncClient, shared: App, role: Role) -> None:
    _, runtime = shared
    [job_id] = await submitted(runtime)
    common.headers["Authorization"] = f"Bearer {token(runtime, role)}"
    bulk = {"action": "cancel", "ids": [job_id]}
    answers = [
        await common.post(f"{JOBS}/{job_id}/promote"),
        await common.post(f"{JOBS}/{job_id}/replay", json={"args": {}}),
        await common.delete(f"{JOBS}/{job_id}"),
        await common.post(f"{QUEUE}/bulk", json=bulk),
        await common.post(f"{QUEUE}/bulk", json=bulk | {"dryRun": True}),
        await common.post(f"{QUEUE}/clean", json={"olderThanMs": 0}),
        await common.post(f"{ADMIN}/operations/{uuid4()}/cancel"),
    ]
    assert {answer.status_code for answer in answers} == {403}
    reads = [await common.get(path) for path in (JOBS, f"{ADMIN}/operations", f"{JOBS}/{job_id}")]
    assert {answer.status_code for answer in reads} == {403 if role is Role.USER else 200}


async def test_only_administrators_delete_jobs(common: httpx.AsyncClient, shared: App) -> None:
    _, runtime = shared
    [job_id] = await submitted(runtime)
    common.headers["Authorization"] = f"Bearer {token(runtime, Role.OPERATOR)}"
    bulk = {"action": "delete", "ids": [job_id]}
    for answer in (
        await common.delete(f"{JOBS}/{job_id}"),
        await common.post(f"{QUEUE}/bulk", json=bulk),
        await common.post(f"{QUEUE}/bulk", json=bulk | {"dryRun": True}),
        await common.post(f"{QUEUE}/clean", json={"olderThanMs": 0}),
    ):
        assert problem_of(answer)[:2] == (403, "insufficient_scope")
    assert (await common.get(f"{JOBS}/{job_id}")).status_code == 200
    cancel = {"action": "cancel", "ids": [job_id], "dryRun": True}
    assert (await common.post(f"{QUEUE}/bulk", json=cancel)).status_code == 200
