"""Schedules over HTTP, on the whole application: who may do what, what is refused, and what is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from gateway.access import Role
from gateway.jobs.registry import Task, TaskContext
from gateway.jobs.schedule import NewSchedule
from gateway.runtime import Runtime
from gateway.web.auth import mint_token
from tests.support.eventually import eventually
from tests.support.web import ADMIN, serving, settings_for

PATH = "/api/v1/admin/schedules"
QUEUE = "email-queue"
pytestmark = pytest.mark.asyncio(loop_scope="module")
Served = tuple[httpx.AsyncClient, Runtime]


class Cleanup(msgspec.Struct, forbid_unknown_fields=True):
    """``tick``: when it was due."""

    days: int
    tick: datetime | None = None


NIGHTLY: dict[str, Any] = {
    "name": "nightly",
    "task": "test.cleanup",
    "args": {"days": 7},
    "cron": "30 2 * * *",
    "timeZone": "Europe/Berlin",
}


async def clean_up(wanted: Cleanup, _context: TaskContext) -> str:
    return f"{wanted.days} days before {wanted.tick}"


@pytest_asyncio.fixture(loop_scope="module")
async def served(database_url: str) -> AsyncIterator[Served]:
    async with scheduling(database_url) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[Served]:
    """For tests that make nothing."""
    async with scheduling(shared_database_url) as made:
        yield made


@asynccontextmanager
async def scheduling(database_url: str) -> AsyncIterator[Served]:
    async with serving(settings_for(database_url)) as (client, runtime):
        runtime.engine.registry.add_task(Task("test.cleanup", QUEUE, Cleanup, clean_up))
        client.headers.update(ADMIN)
        yield client, runtime


async def data(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()["data"]


async def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    return error


async def test_a_schedule_from_its_making_to_its_end(served: Served) -> None:
    client, _ = served
    answer = await client.post(PATH, json=NIGHTLY)
    made = await data(answer, 201)
    assert answer.headers["Location"] == f"{PATH}/nightly"
    assert {field: made[field] for field in NIGHTLY} == NIGHTLY
    assert (made["queue"], made["missed"], made["missedMax"], made["overlap"]) == (QUEUE, "once", 100, "enqueue")
    assert (made["enabled"], made["declared"], made["problem"], made["lastTickAt"]) == (True, False, None, None)
    ticks = [datetime.fromisoformat(tick) for tick in made["nextTicks"]]
    assert len(ticks) == 5 and ticks == sorted(set(ticks)) and made["nextTicks"][0] == made["nextAt"]
    assert await data(await client.get(f"{PATH}/nightly")) == made

    changed = await data(await client.patch(f"{PATH}/nightly", json={"everyS": 3600, "overlap": "skip"}))
    assert (changed["cron"], changed["everyS"], changed["overlap"], changed["args"]) == (
        None,
        3600,
        "skip",
        {"days": 7},
    )
    back = await data(await client.patch(f"{PATH}/nightly", json={"cron": "@daily"}))
    assert (back["cron"], back["everyS"]) == ("@daily", None)

    body = {field: value for field, value in NIGHTLY.items() if field != "name"}
    replaced = await data(await client.put(f"{PATH}/nightly", json=body))
    assert (replaced["cron"], replaced["overlap"]) == ("30 2 * * *", "enqueue")
    await data(await client.put(f"{PATH}/project:1", json=body), 201)

    paused = await data(await client.post(f"{PATH}/nightly/pause", json={"reason": "holidays"}))
    assert (paused["enabled"], paused["disabledReason"], paused["nextAt"], paused["nextTicks"]) == (
        False,
        "holidays",
        None,
        [],
    )
    resumed = await data(await client.post(f"{PATH}/nightly/resume"))
    assert resumed["enabled"] and resumed["nextAt"] is not None

    listed = await client.get(PATH, params={"limit": 1})
    assert [one["name"] for one in await data(listed)] == ["nightly"]
    following = {"limit": 1, "cursor": listed.json()["page"]["nextCursor"]}
    last = await client.get(PATH, params=following)
    assert [one["name"] for one in await data(last)] == ["project:1"]
    assert last.json()["page"] == {"nextCursor": None, "limit": 1}
    assert len(await data(await client.get(PATH, params={"prefix": "project:"}))) == 1

    assert (await client.delete(f"{PATH}/nightly")).status_code == 204
    await refused(await client.delete(f"{PATH}/nightly"), 404, "schedule_not_found")


async def test_run_now_makes_a_job_that_runs_with_its_argument(served: Served) -> None:
    client, runtime = served
    await data(await client.post(PATH, json={**NIGHTLY, "tickArg": "tick", "overlap": "skip"}), 201)
    await runtime.engine.pause(QUEUE, until=None, reason="so that the job stays open")
    answer = await client.post(f"{PATH}/nightly/run")
    ran = await data(answer, 202)
    assert answer.headers["Location"] == f"/api/v1/admin/jobs/{ran['jobId']}"
    await refused(await client.post(f"{PATH}/nightly/run"), 409, "schedule_busy")
    await runtime.engine.resume(QUEUE)

    async def ended() -> Any:
        job = await data(await client.get(answer.headers["Location"]))
        return job if job["state"] == "completed" else None

    job = await eventually(ended)
    assert job["result"].startswith("7 days before 2")
    assert job["tags"] == ["schedule:nightly"]
    assert (await data(await client.get(f"{PATH}/nightly")))["lastJobId"] == ran["jobId"]


async def test_ticks_come_by_themselves(served: Served) -> None:
    client, runtime = served
    body = {"name": "often", "task": "test.cleanup", "args": {"days": 1}, "everyS": 1, "tickArg": "tick"}
    body["missed"] = "all"  # a machine that stands still for two seconds leaves none out
    made = await data(await client.post(PATH, json=body), 201)

    async def three() -> list[Any]:
        rows = await runtime.pool.fetch("SELECT args, state FROM jobs ORDER BY seq LIMIT 3")
        return rows if [row["state"] for row in rows] == ["completed"] * 3 else []

    ticks = [datetime.fromisoformat(row["args"]["tick"]) for row in await eventually(three)]
    first = datetime.fromisoformat(made["nextAt"])
    assert ticks == [first + timedelta(seconds=n) for n in range(3)]


async def test_who_may_do_what(served: Served) -> None:
    client, runtime = served
    await data(await client.post(PATH, json=NIGHTLY), 201)
    body = {"task": "test.cleanup", "args": {"days": 1}, "everyS": 60}
    answers: dict[Role, list[int]] = {}
    for role in (Role.USER, Role.VIEWER, Role.OPERATOR, Role.ADMIN):
        token = mint_token(runtime.settings, "ann", role, datetime.now(UTC) + timedelta(minutes=5))
        client.headers["Authorization"] = f"Bearer {token}"
        calls = (
            client.get(PATH),
            client.get(f"{PATH}/nightly"),
            client.post(f"{PATH}/nightly/pause"),
            client.post(f"{PATH}/nightly/resume"),
            client.post(f"{PATH}/nightly/run"),
            client.post(PATH, json={**body, "name": f"by-{role}"}),
            client.put(f"{PATH}/by-{role}", json=body),
            client.patch(f"{PATH}/nightly", json={"priority": 3}),
            client.delete(f"{PATH}/by-{role}"),
        )
        answers[role] = [(await call).status_code for call in calls]
    assert answers == {
        Role.USER: [403] * 9,
        Role.VIEWER: [200, 200, *[403] * 7],
        Role.OPERATOR: [200, 200, 200, 200, 202, *[403] * 4],
        Role.ADMIN: [200, 200, 200, 200, 202, 201, 200, 200, 204],
    }
    client.headers.pop("Authorization")
    assert (await client.get(PATH)).status_code == 401


async def test_every_change_leaves_a_row_and_a_refused_one_none(served: Served) -> None:
    client, runtime = served
    await data(await client.post(PATH, json=NIGHTLY), 201)
    await client.post(PATH, json=NIGHTLY)
    await client.post(f"{PATH}/weekly/run")
    await data(await client.patch(f"{PATH}/nightly", json={"priority": 3}))
    await data(await client.put(f"{PATH}/nightly", json={"task": "test.cleanup", "args": {"days": 1}, "everyS": 60}))
    await data(await client.post(f"{PATH}/nightly/pause", json={"reason": "x"}))
    await data(await client.post(f"{PATH}/nightly/resume"))
    ran = await data(await client.post(f"{PATH}/nightly/run"), 202)
    await client.delete(f"{PATH}/nightly")
    rows = await runtime.pool.fetch("SELECT action, subject, detail FROM admin_audit ORDER BY id")
    assert {row["subject"] for row in rows} == {"nightly"}
    assert [row["action"].removeprefix("schedule.") for row in rows] == [
        "create", "change", "replace", "pause", "resume", "run", "delete",
    ]  # fmt: skip
    assert rows[0]["detail"]["cron"] == "30 2 * * *"
    assert (rows[1]["detail"], rows[3]["detail"]) == ({"priority": 3}, {"reason": "x"})
    assert rows[5]["detail"] == {"jobId": ran["jobId"]}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": ""}, "name"),
        ({"task": "test.cleanpu"}, "task"),
        ({"queue": "email-queu"}, "queue"),
        ({"args": {"days": "seven"}}, "args.days"),
        ({"args": {}}, "args.days"),
        ({"args": {"days": 1, "dyas": 2}}, "args.dyas"),
        ({"args": []}, "args"),
        ({"tickArg": "days"}, "args.days"),
        ({"tickArg": "when"}, "args.when"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"cron": "*,1-5 61 * * *"}, "cron"),
        ({"cron": "* * * * \u0007"}, "cron"),
        ({"cron": "1," * 5000}, "cron"),
        ({"cron": None}, "cron"),
        ({"everyS": 60}, "cron"),
        ({"cron": None, "everyS": 0}, "everyS"),
        ({"cron": None, "everyS": 10**12}, "everyS"),
        ({"cron": None, "everyS": 1.5}, "everyS"),
        ({"timeZone": "europe/berlin"}, "timeZone"),
        ({"timeZone": "../../etc/passwd"}, "timeZone"),
        ({"missed": "never"}, "missed"),
        ({"missedMax": 0}, "missedMax"),
        ({"overlap": "replace"}, "overlap"),
        ({"priority": 11}, "priority"),
        ({"startAt": "2026-01-01T00:00"}, "startAt"),
        ({"endAt": "9999-12-31T23:59:59Z"}, "endAt"),
        ({"endAt": "2020-01-01T00:00:00Z"}, "endAt"),
        ({"startAt": "2031-01-01T00:00:00Z", "endAt": "2030-01-01T00:00:00Z"}, "endAt"),
        ({"crom": "* * * * *"}, "crom"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_made(shared: Served, changes: dict[str, Any], field: str) -> None:
    client, runtime = shared
    answer = await client.post(PATH, json={**NIGHTLY, **changes})
    error = await refused(answer, 400, "validation_error")
    assert error["details"][0]["field"] == field
    assert len(answer.text) < 1000
    assert await runtime.pool.fetchval("SELECT count(*) FROM schedules") == 0
    assert await runtime.pool.fetchval("SELECT count(*) FROM admin_audit") == 0


async def test_wrong_changes_of_one_that_is_there(served: Served) -> None:
    client, _ = served
    await data(await client.post(PATH, json=NIGHTLY), 201)
    await refused(await client.post(PATH, json=NIGHTLY), 409, "schedule_exists")
    for body, field in (({}, "body"), ({"cron": "x"}, "cron"), ({"everyS": 5, "cron": "* * * * *"}, "cron")):
        error = await refused(await client.patch(f"{PATH}/nightly", json=body), 400, "validation_error")
        assert error["details"][0]["field"] == field
    for call in (
        client.get(f"{PATH}/weekly"),
        client.patch(f"{PATH}/weekly", json={"priority": 1}),
        client.post(f"{PATH}/weekly/pause"),
        client.post(f"{PATH}/weekly/resume"),
        client.post(f"{PATH}/weekly/run"),
    ):
        await refused(await call, 404, "schedule_not_found")
    for query in ({"limit": "0"}, {"limit": "many"}, {"page": "2"}):
        await refused(await client.get(PATH, params=query), 400, "validation_error")
    await refused(await client.get(f"{PATH}/a%00b"), 400, "invalid_text")


async def test_what_code_declares_is_paused_but_not_changed(served: Served) -> None:
    client, runtime = served
    schedules = runtime.platform.schedules
    schedules.declare(NewSchedule(name="core", task="test.cleanup", args={"days": 1}, cron="@daily"))
    await schedules.ensure()
    assert (await data(await client.get(f"{PATH}/core")))["declared"] is True
    body = {"task": "test.cleanup", "args": {"days": 1}, "everyS": 60}
    for call in (
        client.put(f"{PATH}/core", json=body),
        client.patch(f"{PATH}/core", json={"priority": 1}),
        client.delete(f"{PATH}/core"),
    ):
        await refused(await call, 409, "schedule_declared")
    assert (await data(await client.post(f"{PATH}/core/pause")))["disabledReason"].startswith("paused by ")


async def test_it_says_why_nothing_comes_of_it(served: Served) -> None:
    client, runtime = served
    await data(await client.post(PATH, json=NIGHTLY), 201)
    await runtime.pool.execute("UPDATE schedules SET task = 'task.of.tomorrow'")
    assert "no task task.of.tomorrow" in (await data(await client.get(f"{PATH}/nightly")))["problem"]
    await refused(await client.post(f"{PATH}/nightly/run"), 409, "unknown_task")
    await runtime.pool.execute("UPDATE schedules SET task = 'test.cleanup', next_at = NULL")
    assert (await data(await client.get(PATH)))[0]["problem"] == "it has ended"


async def test_arguments_are_shown_to_viewers_as_those_of_jobs_are(served: Served) -> None:
    client, runtime = served
    runtime.engine.registry.add_task(Task("test.words", QUEUE, dict, clean_up))
    args = {"prompt": "dear ada", "apiKey": "hunter2", "n": 7}
    await runtime.platform.schedules.create(NewSchedule(name="words", task="test.words", args=args, every_s=3600))
    for role, hidden in ((Role.VIEWER, True), (Role.OPERATOR, False)):
        token = mint_token(runtime.settings, "somebody", role, datetime.now(UTC) + timedelta(minutes=5))
        for path in (PATH, f"{PATH}/words"):
            text = (await client.get(path, headers={"Authorization": f"Bearer {token}"})).text
            assert '"n":7' in text
            assert ("dear ada" not in text, "hunter2" not in text) == (hidden, hidden), path
