"""Schedules of runs over HTTP: who may, what is refused and why, and the runs to come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import httpx
import pytest
import pytest_asyncio

from gateway.runtime import Runtime
from tests.support.people import As, data, people, refused
from tests.support.web import serving, settings_for

SCHEDULES = "/api/v1/orchestration/schedules"
NOBODY = "018f2f6e-7c1c-7000-8000-000000000000"
pytestmark = pytest.mark.asyncio(loop_scope="module")
Served: TypeAlias = tuple[httpx.AsyncClient, Runtime, As]


@pytest_asyncio.fixture(loop_scope="module")
async def served(database_url: str) -> AsyncIterator[Served]:
    """No workers: nothing is judged meanwhile."""
    async with serving(settings_for(database_url, gateway_role="api")) as (client, runtime):
        yield client, runtime, people(runtime)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[Served]:
    """Likewise, for tests that look at projects of their own only."""
    async with serving(settings_for(shared_database_url, gateway_role="api")) as (client, runtime):
        yield client, runtime, people(runtime)


async def call(
    served: Served, method: str, path: str, body: Any = None, *, user: str = "ann", **query: str
) -> httpx.Response:
    client, _, who = served
    return await client.request(method, path, json=body, headers=who(user), params=query)


async def project_of(served: Served, user: str = "ann", **members: str) -> str:
    made = data(await call(served, "POST", "/api/v1/projects", {"name": "Shop"}, user=user), 201)
    for member, role in members.items():
        path = f"/api/v1/projects/{made['id']}/members/{member}"
        data(await call(served, "PUT", path, {"role": role}, user=user))
    return str(made["id"])


async def make(served: Served, **body: Any) -> httpx.Response:
    fields = {"cron": "30 2 * * 1-5", "timeZone": "Europe/Berlin", **body}
    return await call(served, "POST", SCHEDULES, {name: value for name, value in fields.items() if value is not None})


async def test_a_schedule_from_its_making_to_its_end(served: Served) -> None:
    project = await project_of(served)
    window = {"from": "02:00", "to": "06:00", "days": ["mon", "wed"]}
    answer = await make(served, projectId=project, agentSlug="researcher", window=window, maxRunsPerDay=3)
    made = data(answer, 201)
    assert answer.headers["location"] == f"{SCHEDULES}/{made['id']}"
    assert (made["window"], made["minIntervalMinutes"], made["maxRunsPerDay"]) == (window, 60, 3)
    assert (made["cooldownMinutesAfterError"], made["enabled"], made["problem"]) == (30, True, None)
    runs = [datetime.fromisoformat(run) for run in made["nextRuns"]]
    assert len(runs) == 5 and all(run.isoweekday() in (1, 3) and run.minute == 30 for run in runs)
    assert data(await call(served, "GET", SCHEDULES, projectId=project))[0]["nextRuns"] == made["nextRuns"][:1]

    body = {"projectId": project, "preset": "weekly", "hour": 7, "enabled": False}
    changed = data(await call(served, "PUT", f"{SCHEDULES}/{made['id']}", body))
    assert (changed["cron"], changed["preset"], changed["agentSlug"]) == ("0 7 * * 1", "weekly", None)
    assert (changed["enabled"], changed["nextRuns"], changed["window"]) == (False, [], None)
    again = data(await call(served, "PUT", f"{SCHEDULES}/{made['id']}", body | {"enabled": True}))
    first = datetime.fromisoformat(again["nextRuns"][0])
    assert (first.isoweekday(), first.hour) == (1, 7)

    gone = await call(served, "DELETE", f"{SCHEDULES}/{made['id']}")
    assert gone.status_code == 204
    refused(await call(served, "GET", f"{SCHEDULES}/{made['id']}"), 404, "not_found")
    pool = served[1].pool
    assert await pool.fetchval("SELECT count(*) FROM schedules") == 0
    actions = await pool.fetch("SELECT action FROM admin_audit WHERE action LIKE 'run_schedule.%' ORDER BY id")
    assert [row["action"].partition(".")[2] for row in actions] == ["create", "replace", "replace", "delete"]


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"cron": "0 0 30 2 *"}, "cron", "never comes"),
        ({"cron": "* * * * * *"}, "cron", "six fields"),
        ({"cron": "soon"}, "cron", "five are needed"),
        ({"cron": None}, "cron", "or preset is needed"),
        ({"preset": "daily"}, "cron", "one of them"),
        ({"cron": None, "preset": "hourly", "hour": 3}, "hour", "goes with"),
        ({"timeZone": "Berlin"}, "timeZone", 'did you mean "Europe/Berlin"'),
        ({"agentSlug": "reseacher"}, "agentSlug", "known: "),
        ({"window": {"from": "09:00", "to": "17:00"}}, "window", "never open"),
        ({"window": {"from": "02:00", "to": "03:00", "days": ["sun"]}}, "window", "never open"),
        ({"window": {"from": "09:00", "to": "09:00"}}, "window", "closes when it opens"),
    ],
)
async def test_what_cannot_be_is_named(shared: Served, fields: dict[str, Any], field: str, said: str) -> None:
    pool = shared[1].pool
    count = "SELECT (SELECT count(*) FROM run_schedules) + (SELECT count(*) FROM schedules)"
    before = await pool.fetchval(count)
    answer = await make(shared, projectId=await project_of(shared), **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["details"][0]["field"]) == (422, field), error
    assert said in error["message"]
    assert await pool.fetchval(count) == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"minIntervalMinutes": 59}, "minIntervalMinutes"),
        ({"maxRunsPerDay": 25}, "maxRunsPerDay"),
        ({"cooldownMinutesAfterError": -1}, "cooldownMinutesAfterError"),
        ({"window": {"from": "9:00", "to": "17:00"}}, "window.from"),
        ({"window": {"from": "09:00", "to": "17:00", "days": []}}, "window.days"),
        ({"cron": None, "preset": "yearly"}, "preset"),
        ({"projectId": "shop"}, "projectId"),
        ({"timezone": "UTC"}, "timezone"),
    ],
)
async def test_what_is_malformed_is_named(shared: Served, fields: dict[str, Any], field: str) -> None:
    answer = await make(shared, **({"projectId": NOBODY} | fields))
    error = refused(answer, 400, "validation_error")
    assert error["details"][0]["field"] == field


async def test_a_project_has_one_schedule_for_each_agent_and_one_for_batches(shared: Served) -> None:
    project = await project_of(shared)
    for slug in (None, "researcher"):
        data(await make(shared, projectId=project, agentSlug=slug), 201)
        error = refused(await make(shared, projectId=project, agentSlug=slug), 409, "schedule_exists")
        assert error["details"][0]["field"] == "agentSlug"
    other = data(await make(shared, projectId=project, agentSlug="marketer"), 201)
    body = {"projectId": project, "agentSlug": "researcher", "cron": "@daily"}
    refused(await call(shared, "PUT", f"{SCHEDULES}/{other['id']}", body), 409, "schedule_exists")
    data(await make(shared, projectId=await project_of(shared)), 201)


async def test_members_see_schedules_owners_and_operators_change_them(shared: Served) -> None:
    project = await project_of(shared, bob="member")
    made = data(await make(shared, projectId=project), 201)
    path, body = f"{SCHEDULES}/{made['id']}", {"projectId": project, "preset": "daily"}
    for user, read, change in (("bob", 200, 403), ("eve", 404, 404), ("viewer", 200, 403), ("operator", 200, 200)):
        assert (await call(shared, "GET", path, user=user)).status_code == read
        assert (await call(shared, "PUT", path, body, user=user)).status_code == change
    for user, status in (("bob", 403), ("eve", 404)):
        assert (await call(shared, "POST", f"{path}/fire", user=user)).status_code == status
        assert (await call(shared, "DELETE", path, user=user)).status_code == status
        assert (await call(shared, "POST", SCHEDULES, body, user=user)).status_code == status
    assert data(await call(shared, "GET", SCHEDULES, user="eve")) == []
    assert len(data(await call(shared, "GET", SCHEDULES, user="bob"))) == 1
    assert (await call(shared, "GET", SCHEDULES, user="eve", projectId=project)).status_code == 404
    assert (await shared[0].get(SCHEDULES)).status_code == 401


async def test_a_schedule_stays_in_its_project(shared: Served) -> None:
    made = data(await make(shared, projectId=await project_of(shared)), 201)
    body = {"projectId": await project_of(shared), "cron": "@daily"}
    refused(await call(shared, "PUT", f"{SCHEDULES}/{made['id']}", body), 422, "project_fixed")


@pytest.mark.parametrize("schedule_id", [NOBODY, "no-id"])
async def test_what_is_not_there_is_not_found(shared: Served, schedule_id: str) -> None:
    for method, body in (("GET", None), ("PUT", {"projectId": NOBODY, "cron": "@daily"}), ("DELETE", None)):
        refused(await call(shared, method, f"{SCHEDULES}/{schedule_id}", body), 404, "not_found")


async def test_pages_go_on_where_the_last_one_ended(served: Served) -> None:
    project = await project_of(served)
    slugs = ("researcher", "marketer", "designer")
    made = [data(await make(served, projectId=project, agentSlug=slug), 201)["id"] for slug in slugs]
    first = (await call(served, "GET", SCHEDULES, limit="2")).json()
    rest = (await call(served, "GET", SCHEDULES, limit="2", cursor=first["page"]["nextCursor"])).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == made[::-1]
    assert rest["page"]["nextCursor"] is None
    for query in ({"limit": "0"}, {"limit": "²"}, {"cursor": "x"}, {"projectId": "x"}):
        refused(await call(served, "GET", SCHEDULES, **query), 400, "validation_error")


async def test_ticks_that_an_administrator_took_away_are_said_and_put_back(shared: Served) -> None:
    project = await project_of(shared)
    made = data(await make(shared, projectId=project), 201)
    path, name = f"{SCHEDULES}/{made['id']}", f"project:{project}:{made['id']}"
    admin = f"/api/v1/admin/schedules/{name}"
    data(await call(shared, "POST", f"{admin}/pause", {"reason": "holidays"}, user="operator"))
    paused = data(await call(shared, "GET", path))
    assert (paused["nextRuns"], "holidays" in paused["problem"]) == ([], True)
    assert (await call(shared, "DELETE", admin, user="admin")).status_code == 204
    assert "deleted" in data(await call(shared, "GET", path))["problem"]
    refused(await call(shared, "POST", f"{path}/fire"), 409, "no_ticks")
    body = {"projectId": project, "cron": "30 2 * * 1-5", "timeZone": "Europe/Berlin"}
    assert data(await call(shared, "PUT", path, body))["nextRuns"] == made["nextRuns"]
    await call(shared, "DELETE", admin, user="admin")
    assert (await call(shared, "DELETE", path)).status_code == 204


async def test_missed_ticks_are_told(served: Served) -> None:
    project = await project_of(served)
    made = data(await make(served, projectId=project), 201)
    missed = "UPDATE schedules SET skipped_at = now(), skip_reason = 'ticks from then on: missed'"
    await served[1].pool.execute(missed)
    told = data(await call(served, "GET", f"{SCHEDULES}/{made['id']}"))["skipped"]
    assert (told["code"], told["reason"]) == ("missed", "ticks from then on: missed")
    assert datetime.now(UTC) - datetime.fromisoformat(told["at"]) < timedelta(minutes=1)
