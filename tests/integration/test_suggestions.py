"""Suggestions, tasks and the policies of actions over HTTP, on the whole application."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import httpx
import pytest

from gateway.runtime import Runtime
from gateway.services.orchestration.outcomes import Outcomes
from gateway.services.orchestration.projects import Projects
from gateway.services.orchestration.suggestions import Suggestions
from tests.support.people import As, data, people, refused
from tests.support.run_rows import FakeAgent, RunRow, asks, project_row, run_row
from tests.support.web import serving, settings_for

BASE = "/api/v1/orchestration"
UNKNOWN = "0198c1d2-0000-7000-8000-000000000000"
Served: TypeAlias = tuple[httpx.AsyncClient, Runtime, As]


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Served]:
    async with serving(settings_for(database_url)) as (client, runtime):
        yield client, runtime, people(runtime)


@pytest.fixture
async def run(served: Served) -> RunRow:
    """Of a project of Ann's, in which Bob is a member."""
    pool = served[1].pool
    return await run_row(pool, await project_row(pool, owner="ann", bob="member"))


async def found(served: Served, run: RunRow, **output: Any) -> None:
    runtime = served[1]
    async with runtime.pool.acquire() as connection, connection.transaction():
        outcomes = Outcomes(runtime.engine)
        await outcomes.record(connection, run, run.step_id, FakeAgent(), output)


def points(number: int) -> list[dict[str, Any]]:
    return [{"title": f"Point {n}", "detail": "Why\nand how", "priority": n + 1} for n in range(number)]


async def test_an_approved_suggestion_becomes_a_task(served: Served, run: RunRow) -> None:
    client, _, who = served
    await found(served, run, suggestions=points(2))
    listed = data(await client.get(f"{BASE}/suggestions?projectId={run.project_id}&status=open", headers=who("bob")))
    assert [(one["title"], one["priority"], one["agentSlug"]) for one in listed] == [
        *(("Point 1", 2, "developer"), ("Point 0", 1, "developer")),
    ]

    approved = data(await client.post(f"{BASE}/suggestions/{listed[0]['id']}/approve", headers=who("bob")))
    rejected = data(await client.post(f"{BASE}/suggestions/{listed[1]['id']}/reject", headers=who("ann")))

    assert (approved["status"], approved["decidedBy"], approved["taskId"]) == ("approved", "bob", listed[0]["id"])
    assert (rejected["status"], rejected["taskId"]) == ("rejected", None)
    (task,) = data(await client.get(f"{BASE}/tasks?projectId={run.project_id}", headers=who("ann")))
    assert (task["id"], task["title"], task["detail"], task["status"], task["runId"]) == (
        *(approved["taskId"], "Point 1", "Why\nand how", "open", str(run.id)),
    )
    for one in listed:
        answer = await client.post(f"{BASE}/suggestions/{one['id']}/reject", headers=who("ann"))
        assert "already; it can be decided once" in refused(answer, 409, "already_decided")["message"]


async def test_two_people_at_once_make_one_task(served: Served, run: RunRow) -> None:
    client, runtime, who = served
    await found(served, run, suggestions=points(1))
    (one,) = data(await client.get(f"{BASE}/suggestions", headers=who("ann")))
    path = f"{BASE}/suggestions/{one['id']}"

    answers = await asyncio.gather(
        *(client.post(f"{path}/{word}", headers=who("ann")) for word in ("approve", "reject") for _ in range(4))
    )

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 7}
    assert await runtime.pool.fetchval("SELECT count(*) FROM tasks") <= 1


async def test_suggestions_expire(served: Served, run: RunRow) -> None:
    client, runtime, who = served
    await found(served, run, suggestions=points(2))
    await runtime.pool.execute("UPDATE suggestions SET expires_at = now() WHERE position = 0")
    listed = data(await client.get(f"{BASE}/suggestions", headers=who("ann")))
    answer = await client.post(f"{BASE}/suggestions/{listed[1]['id']}/approve", headers=who("ann"))
    assert "expired already" in refused(answer, 409, "already_decided")["message"]

    await Suggestions(runtime.pool, Projects(runtime.pool)).expire()

    listed = data(await client.get(f"{BASE}/suggestions", headers=who("ann")))
    assert [one["status"] for one in listed] == ["open", "expired"]


async def test_tasks_move_on(served: Served, run: RunRow) -> None:
    client, _, who = served
    await found(served, run, tasks=points(1))
    (task,) = data(await client.get(f"{BASE}/tasks?status=open", headers=who("bob")))
    path = f"{BASE}/tasks/{task['id']}"

    for status in ("in_progress", "done", "dropped", "open", "done"):
        changed = data(await client.patch(path, json={"status": status}, headers=who("bob")))
        assert changed["status"] == status

    assert data(await client.get(f"{BASE}/tasks?status=open", headers=who("bob"))) == []
    assert changed["updatedAt"] > task["updatedAt"]
    refused(await client.patch(path, json={"status": "odd"}, headers=who("bob")), 400, "validation_error")
    refused(await client.patch(path, json={}, headers=who("bob")), 400, "validation_error")


async def test_lists_have_pages(served: Served, run: RunRow) -> None:
    client, _, who = served
    await found(served, run, suggestions=points(5), tasks=points(5))
    for path in ("suggestions", "tasks"):
        seen, cursor = [], ""
        while True:
            answer = (await client.get(f"{BASE}/{path}?limit=2{cursor}", headers=who("ann"))).json()
            seen += [one["title"] for one in answer["data"]]
            if answer["page"]["nextCursor"] is None:
                break
            cursor = f"&cursor={answer['page']['nextCursor']}"
        assert seen == [f"Point {n}" for n in (4, 3, 2, 1, 0)]


async def test_who_sees_and_who_changes(served: Served, run: RunRow) -> None:
    client, _, who = served
    await found(served, run, suggestions=points(1), tasks=points(1))
    (one,) = data(await client.get(f"{BASE}/suggestions", headers=who("viewer")))
    (task,) = data(await client.get(f"{BASE}/tasks", headers=who("viewer")))
    for shown in (one, task):
        assert (shown["title"], shown["detail"], shown["contentHidden"]) == ("", "", True)
    for path in ("suggestions", "tasks"):
        for reader in ("bob", "operator"):
            (shown,) = data(await client.get(f"{BASE}/{path}", headers=who(reader)))
            assert (shown["title"], shown["contentHidden"]) == ("Point 0", False)
    changes = (
        ("POST", f"{BASE}/suggestions/{one['id']}/approve", None),
        ("POST", f"{BASE}/suggestions/{one['id']}/reject", None),
        ("PATCH", f"{BASE}/tasks/{task['id']}", {"status": "done"}),
    )
    for method, path, body in changes:
        refused(await client.request(method, path, json=body, headers=who("viewer")), 403, "not_member")
        refused(await client.request(method, path, json=body, headers=who("zoe")), 404, "not_found")
        for missing in (UNKNOWN, "no-id"):
            gone = path.replace(one["id"], missing).replace(task["id"], missing)
            refused(await client.request(method, gone, json=body, headers=who("ann")), 404, "not_found")
    for path in ("suggestions", "tasks"):
        assert data(await client.get(f"{BASE}/{path}", headers=who("zoe"))) == []
        refused(await client.get(f"{BASE}/{path}?projectId={run.project_id}", headers=who("zoe")), 404, "not_found")
        for query in ("status=odd", "projectId=x", "limit=0", "limit=a", "cursor=y"):
            answer = await client.get(f"{BASE}/{path}?{query}", headers=who("ann"))
            error = refused(answer, 400, "validation_error")
            assert error["details"][0]["field"] == query.partition("=")[0]
    assert data(await client.post(changes[0][1], headers=who("operator")))["status"] == "approved"


async def test_policies_from_their_making_to_their_end(served: Served, run: RunRow) -> None:
    client, runtime, who = served
    listed = data(await client.get(f"{BASE}/action-configs?projectId={run.project_id}", headers=who("bob")))
    assert [(one["action"], one["id"], one["risk"], one["requiresApproval"]) for one in listed] == [
        ("create_task", None, "low", False),
        ("send_email", None, "high", True),
        ("comment_issue", None, "medium", True),
        ("open_issue", None, "medium", True),
    ]
    assert {(one["maxPerHour"], one["maxPerDay"], one["cooldownSeconds"]) for one in listed} == {(3, 10, 900)}
    body = {"projectId": str(run.project_id), "action": "open_issue", "risk": "low", "requiresApproval": False}

    answer = await client.post(f"{BASE}/action-configs", json=body, headers=who("ann"))
    made = data(answer, 201)

    assert answer.headers["Location"] == f"{BASE}/action-configs/{made['id']}"
    refused(await client.post(f"{BASE}/action-configs", json=body, headers=who("ann")), 409, "action_config_exists")
    path = f"{BASE}/action-configs/{made['id']}"
    changed = data(await client.put(path, json={"maxPerHour": 7}, headers=who("operator")))
    assert (changed["maxPerHour"], changed["risk"], changed["updatedBy"]) == (7, "medium", "operator")
    listed = data(await client.get(f"{BASE}/action-configs?projectId={run.project_id}", headers=who("bob")))
    assert listed[3] == changed
    assert (await client.delete(path, headers=who("ann"))).status_code == 204
    refused(await client.delete(path, headers=who("ann")), 404, "not_found")
    refused(await client.put(path, json={}, headers=who("ann")), 404, "not_found")
    trail = await runtime.pool.fetch("SELECT actor, action FROM admin_audit ORDER BY id")
    assert [tuple(row) for row in trail] == [
        ("ann", "action_config.create"),
        ("operator", "action_config.replace"),
        ("ann", "action_config.delete"),
    ]


async def test_bad_and_foreign_policies_are_refused(served: Served, run: RunRow) -> None:
    client, _, who = served
    good = {"projectId": str(run.project_id), "action": "open_issue"}
    wrong: tuple[dict[str, Any], ...] = (
        {"action": "drop_database"},
        {"risk": "none"},
        {"maxPerHour": 0},
        {"maxPerDay": 10_001},
        {"cooldownSeconds": -1},
        {"cooldownSeconds": 86_401},
        {"enabled": "yes"},
        {"projectId": "x"},
        {"colour": "red"},
    )
    for fields in wrong:
        answer = await client.post(f"{BASE}/action-configs", json=good | fields, headers=who("ann"))
        assert answer.status_code == 400, fields
    refused(await client.post(f"{BASE}/action-configs", json=good, headers=who("bob")), 403, "not_owner")
    refused(await client.post(f"{BASE}/action-configs", json=good, headers=who("zoe")), 404, "not_found")
    refused(await client.get(f"{BASE}/action-configs", headers=who("ann")), 400, "validation_error")
    made = data(await client.post(f"{BASE}/action-configs", json=good, headers=who("ann")), 201)
    for name, status, code in (("bob", 403, "not_owner"), ("zoe", 404, "not_found")):
        path = f"{BASE}/action-configs/{made['id']}"
        refused(await client.put(path, json={}, headers=who(name)), status, code)
        refused(await client.delete(path, headers=who(name)), status, code)
    for missing in (UNKNOWN, "no-id"):
        refused(await client.put(f"{BASE}/action-configs/{missing}", json={}, headers=who("ann")), 404, "not_found")


async def test_a_replaced_policy_decides(served: Served, run: RunRow) -> None:
    client, runtime, who = served
    body = {"projectId": str(run.project_id), "action": "create_task", "requiresApproval": True, "risk": "low"}
    data(await client.post(f"{BASE}/action-configs", json=body, headers=who("ann")), 201)

    await found(served, run, actions=[asks("create_task", title="t")])

    row = await runtime.pool.fetchrow("SELECT status, reason FROM actions")
    assert tuple(row) == ("pending", "the policy asks for approval")
