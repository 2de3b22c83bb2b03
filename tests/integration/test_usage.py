"""What agents cost: budgets by the month, usage by agent, model, day, project and run, and plans at 100,000 steps."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from gateway.infra.uuid7 import uuid7
from gateway.problem import Problem
from gateway.runtime import Runtime
from gateway.services.orchestration.budgets import SQL, Budgets, BudgetState, BudgetWatch
from tests.support.people import As, data, people, refused
from tests.support.web import serving, settings_for

USAGE = "/api/v1/orchestration/usage"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
SHARED = pytest.mark.asyncio(loop_scope="module")  # with the application of all that change nothing
Served: TypeAlias = tuple[httpx.AsyncClient, Runtime, As]


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Served]:
    async with serving(settings_for(database_url)) as (client, runtime):
        yield client, runtime, people(runtime)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[Served]:
    async with serving(settings_for(shared_database_url)) as (client, runtime):
        yield client, runtime, people(runtime)


async def project_of(served: Served, owner: str, budget_cents: int | None = None) -> UUID:
    client, _, who = served
    body = {"name": "Shop", "monthlyBudgetCents": budget_cents}
    return UUID(data(await client.post("/api/v1/projects", json=body, headers=who(owner)), 201)["id"])


async def spend(pool: Pool, project: UUID, *steps: dict[str, Any]) -> UUID:
    """One run with these steps; each says what differs from one call of a cent now. Answers the run's id."""
    run = uuid7()
    await pool.execute(
        "INSERT INTO runs (id, project_id, job_type, triggered_by) VALUES ($1, $2, 'batch', 'api')", run, project
    )
    for position, differs in enumerate(steps):
        step = {"agent": "developer", "model": "gpt-5", "at": datetime.now(UTC), "cents": 1.0, "calls": 1} | differs
        await pool.execute(
            "INSERT INTO run_steps (id, run_id, position, kind, agent_slug, model, started_at, cost_micros, calls,"
            " input_tokens, output_tokens) VALUES ($1, $2, $3, 'agent', $4, $5, $6, $7, $8, 100, 10)",
            *(uuid7(), run, position, step["agent"], step["model"], step["at"]),
            *(round(step["cents"] * 10_000), step["calls"]),
        )
    return run


def month_start() -> datetime:
    return datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


async def test_a_budget_lets_spend_warns_and_refuses(served: Served) -> None:
    client, runtime, who = served
    project = await project_of(served, "ann", 100)
    budgets = Budgets(runtime.pool)

    async def seen() -> tuple[Any, ...]:
        budget = data(await client.get(f"/api/v1/projects/{project}", headers=who("ann")))["budget"]
        return budget["monthlyCents"], budget["spentCents"], budget["warning"], budget["exhausted"]

    await spend(runtime.pool, project, {"cents": 79.9})
    await budgets.check(project)
    assert await seen() == (100, 79.9, False, False)
    await spend(runtime.pool, project, {"cents": 0.1})
    await budgets.check(project)
    assert await seen() == (100, 80, True, False)
    await spend(runtime.pool, project, {"cents": 20.5})
    assert await seen() == (100, 100.5, True, True)
    with pytest.raises(Problem) as raised:
        await budgets.check(project)
    problem = raised.value
    assert (problem.status, problem.code) == (402, "budget_exhausted")
    resets = (month_start() + timedelta(days=32)).replace(day=1)
    assert "'Shop' has spent $1.00 of its monthly budget of $1.00" in problem.message
    assert f"it resets at {resets:%Y-%m-%dT%H:%M:%SZ}" in problem.message
    await client.patch(f"/api/v1/projects/{project}", json={"monthlyBudgetCents": 200}, headers=who("ann"))
    await budgets.check(project)
    await client.patch(f"/api/v1/projects/{project}", json={"monthlyBudgetCents": None}, headers=who("ann"))
    await spend(runtime.pool, project, {"cents": 10**6})
    await budgets.check(project)
    await budgets.check(uuid7())  # who asks has found the project before


async def test_a_budget_of_nothing_refuses_and_the_month_counts_alone(served: Served) -> None:
    _, runtime, _ = served
    budgets = Budgets(runtime.pool)
    nothing = await project_of(served, "ann", 0)
    with pytest.raises(Problem):
        await budgets.check(nothing)
    project = await project_of(served, "ann", 10)
    before = month_start() - timedelta(microseconds=1)
    await spend(runtime.pool, project, {"cents": 1000, "at": before}, {"at": month_start(), "cents": 9})
    await spend(runtime.pool, project, {"cents": 1000, "at": None})  # it has not begun
    await spend(runtime.pool, await project_of(served, "bob"), {"cents": 1000})
    await budgets.check(project)
    await spend(runtime.pool, project, {"cents": 1})
    with pytest.raises(Problem):
        await budgets.check(project)


async def test_budgets_near_their_end_are_logged_once_and_counted(served: Served) -> None:
    client, runtime, who = served
    await runtime.maintenance.stop()  # it looks at budgets too
    project = await project_of(served, "ann", 100)
    await project_of(served, "ann", 100)
    await project_of(served, "ann")
    watch = BudgetWatch(Budgets(runtime.pool))
    assert watch.counts() == {}
    with capture_logs() as logs:
        await watch.look()
        assert logs == [] and watch.counts() == {"ok": 2, "warning": 0, "exhausted": 0}
        await spend(runtime.pool, project, {"cents": 85})
        await watch.look()
        await watch.look()
        await spend(runtime.pool, project, {"cents": 15})
        await watch.look()
        assert watch.counts() == {"ok": 1, "warning": 0, "exhausted": 1}
        await client.patch(f"/api/v1/projects/{project}", json={"monthlyBudgetCents": 110}, headers=who("ann"))
        await watch.look()
    told = [entry for entry in logs if str(entry["event"]).startswith("budget_")]
    assert [(entry["event"], entry["project"], entry["spent_cents"]) for entry in told] == [
        ("budget_warning", str(project), 85.0),
        ("budget_exhausted", str(project), 100.0),
        ("budget_warning", str(project), 100.0),
    ]
    await client.delete(f"/api/v1/projects/{project}", headers=who("ann"))
    await watch.look()
    assert watch.counts() == {"ok": 1, "warning": 0, "exhausted": 0}
    runtime.metrics.watch_budgets(watch.counts)
    assert 'gateway_project_budgets{state="ok"} 1.0' in (await client.get("/metrics")).text


async def test_a_budget_is_told_once_a_month_and_threshold_whoever_looks(served: Served) -> None:
    client, runtime, who = served
    await runtime.maintenance.stop()  # it looks at budgets too
    pool = runtime.pool
    project = await project_of(served, "ann", 100)
    budgets = Budgets(pool)
    replicas = [BudgetWatch(budgets) for _ in range(4)]

    async def told() -> int:
        return sum(await asyncio.gather(*(replica.tell() for replica in replicas)))

    async def budget(cents: int) -> None:
        body = {"monthlyBudgetCents": cents}
        assert (await client.patch(f"/api/v1/projects/{project}", json=body, headers=who("ann"))).status_code == 200

    assert await told() == 0
    await spend(pool, project, {"cents": 80})
    assert [await told(), await told(), await BudgetWatch(budgets).tell()] == [1, 0, 0]
    await spend(pool, project, {"cents": 20})
    assert [await told(), await told()] == [1, 0]
    await budget(120)
    assert [await told(), await told()] == [1, 0], "a budget that was raised is another one"
    await budget(100)
    assert await told() == 0
    rows = await pool.fetch("SELECT percent, budget_micros, spent_micros FROM budget_alerts ORDER BY told_at")
    assert [tuple(row) for row in rows] == [(80, 10**6, 8 * 10**5), (100, 10**6, 10**6), (80, 1_200_000, 10**6)]
    await pool.execute("UPDATE budget_alerts SET resets_at = resets_at - interval '1 month'")
    assert [await told(), await told()] == [1, 0], "a new month"
    [spending] = await budgets.budgeted()
    assert list(await budgets.told([spending])) == [project]


async def test_usage_adds_up_by_whatever_is_asked(served: Served) -> None:
    client, runtime, who = served
    client.headers.update(who("ann"))
    shop, site = await project_of(served, "ann"), await project_of(served, "ann")
    day = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
    late = day.replace(hour=23, minute=59, second=59)
    first = await spend(
        runtime.pool,
        shop,
        {"agent": "developer", "model": "gpt-5", "at": day, "cents": 2.5, "calls": 2},
        {"agent": "marketer", "model": "gpt-5-mini", "at": late, "cents": 0.25},
    )
    second = await spend(runtime.pool, shop, {"agent": "developer", "at": late + timedelta(seconds=1), "cents": 3})
    third = await spend(runtime.pool, site, {"agent": "marketer", "model": "gpt-5", "at": day, "cents": 1})
    await spend(runtime.pool, site, {"at": day - timedelta(days=60), "cents": 500})
    await spend(runtime.pool, await project_of(served, "bob"), {"cents": 500})

    async def usage(**query: Any) -> Any:
        return data(await client.get(USAGE, params=query))

    found = await usage()
    assert found["total"] == {"runs": 3, "calls": 5, "inputTokens": 400, "outputTokens": 40, "costCents": 6.75}
    assert found["rows"] == [
        {"agent": "developer", "runs": 2, "calls": 3, "inputTokens": 200, "outputTokens": 20, "costCents": 5.5},
        {"agent": "marketer", "runs": 2, "calls": 2, "inputTokens": 200, "outputTokens": 20, "costCents": 1.25},
    ]
    figures = [(row["model"], row["day"], row["costCents"]) for row in (await usage(groupBy="model,day"))["rows"]]
    one, two = f"{day:%Y-%m-%d}", f"{day + timedelta(days=1):%Y-%m-%d}"
    assert figures == [("gpt-5", one, 3.5), ("gpt-5-mini", one, 0.25), ("gpt-5", two, 3.0)]
    by_project = await usage(groupBy="project")
    assert {row["project"]: row["costCents"] for row in by_project["rows"]} == {str(shop): 5.75, str(site): 1.0}
    by_run = await usage(groupBy="run", projectId=str(shop))
    assert {row["run"]: row["costCents"] for row in by_run["rows"]} == {str(first): 2.75, str(second): 3.0}
    assert by_run["total"]["costCents"] == 5.75
    assert (await usage(groupBy=""))["rows"] == []
    until = f"{day + timedelta(days=1):%Y-%m-%d}"
    narrow = await usage(**{"from": f"{day:%Y-%m-%d}", "until": until, "groupBy": "run"})
    assert {row["run"] for row in narrow["rows"]} == {str(first), str(third)}
    nothing = await usage(**{"from": "2020-01-01", "until": "2020-02-01"})
    assert nothing["rows"] == [] and set(nothing["total"].values()) == {0}


async def test_whose_usage_is_shown(served: Served) -> None:
    client, runtime, who = served
    project = await project_of(served, "ann")
    await spend(runtime.pool, project, {})
    await spend(runtime.pool, await project_of(served, "bob"), {})

    async def runs(name: str, **query: Any) -> int:
        return int(data(await client.get(USAGE, params=query, headers=who(name)))["total"]["runs"])

    assert [await runs(name) for name in ("ann", "bob", "eve", "viewer", "admin")] == [1, 1, 0, 2, 2]
    assert [await runs(name, projectId=str(project)) for name in ("ann", "viewer")] == [1, 1]
    for foreign in (project, uuid7(), "no-id"):
        answer = await client.get(USAGE, params={"projectId": str(foreign)}, headers=who("bob"))
        refused(answer, 404, "not_found")
    assert (await client.get(USAGE)).status_code == 401


@SHARED
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"groupBy": "agent,user"}, "groupBy"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "2026-01-01T00:00:00"}, "from"),
        ({"from": "2026-01-02", "until": "2026-01-02"}, "from"),
        ({"from": "2024-01-01", "until": "2026-01-01"}, "from"),
        ({"until": "0001-01-01T00:00:00+14:00"}, "until"),
        ({"until": "9999-12-31"}, "until"),
        ({"form": "2026-01-01"}, "form"),
    ],
)
async def test_wrong_questions_are_refused(shared: Served, query: dict[str, str], field: str) -> None:
    client, _, who = shared
    error = refused(await client.get(USAGE, params=query, headers=who("ann")), 400, "validation_error")
    assert error["details"][0]["field"] == field


async def test_rows_are_bounded(served: Served) -> None:
    client, runtime, who = served
    await fill(runtime.pool, await project_of(served, "ann"), runs=2001, steps=1)
    error = refused(await client.get(USAGE, params={"groupBy": "run"}, headers=who("ann")), 400, "validation_error")
    assert "more than 2000 rows" in error["message"]
    assert data(await client.get(USAGE, headers=who("ann")))["total"]["runs"] == 2001


async def fill(pool: Pool, project: UUID, *, runs: int, steps: int, days: float = 1.0) -> None:
    """Runs with steps, spread over the last ``days``."""
    await pool.execute(
        "INSERT INTO runs (id, project_id, job_type, triggered_by)"
        " SELECT gen_random_uuid(), $1, 'batch', 'api' FROM generate_series(1, $2::int)",
        project,
        runs,
    )
    await pool.execute(
        "INSERT INTO run_steps (id, run_id, position, kind, agent_slug, model, started_at, cost_micros, calls)"
        " SELECT gen_random_uuid(), r.id, n, 'agent', 'agent-' || n, 'gpt-5', now() - random() * $3::interval, 100, 1"
        " FROM runs r, generate_series(1, $2::int) n WHERE r.project_id = $1",
        project,
        steps,
        timedelta(days=days),
    )


async def plan_of(pool: Pool, name: str, *values: Any) -> tuple[set[str], float]:
    """Tables that are read as a whole, and the milliseconds that the statement took."""
    literals = [f"'{value}'" if value is not None else "NULL" for value in values]
    text = re.sub(r"\$(\d+)", lambda found: literals[int(found[1]) - 1], SQL[name])
    (top,) = json.loads(json.dumps(await pool.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}")))
    whole: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        if node["Node Type"] == "Seq Scan":
            whole.add(node["Relation Name"])
        for inner in node.get("Plans", ()):
            walk(inner)

    walk(top["Plan"])
    return whole, float(top["Execution Time"])


async def test_plans_with_a_hundred_thousand_steps(served: Served) -> None:
    """Neither a budget's check nor a project's usage reads the whole table of steps."""
    client, runtime, who = served
    pool = runtime.pool
    projects = [await project_of(served, "ann" if number == 0 else "bob", 10**6) for number in range(20)]
    for project in projects:
        await fill(pool, project, runs=1000, steps=5, days=200)
    await pool.execute("VACUUM ANALYZE runs, run_steps, projects, project_members")
    assert await pool.fetchval("SELECT count(*) FROM run_steps") == 100_000
    now = datetime.now(UTC)
    month = (now - timedelta(days=30), now, "{agent,model,day}", 2002)
    mine = projects[0]
    plans = {
        "budget_check": (mine,),
        "budget_spendings": ("{" + ",".join(map(str, projects)) + "}",),
        "usage_of_projects": (*month, mine, None),
    }
    for name, values in plans.items():
        looks = [await plan_of(pool, name, *values) for _ in range(3)]
        took_ms = min(took for _, took in looks)  # a busy machine makes one of them wait
        assert not any("run_steps" in whole for whole, _ in looks), name
        assert took_ms < 500, f"{name} took {took_ms} ms"
    for values in ((*month, None, "ann"), (now - timedelta(days=1), now, "{agent}", 2002)):
        whole, _ = await plan_of(pool, "usage_of_projects" if len(values) == 6 else "usage_of_all", *values)
        assert "run_steps" not in whole
    assert (await Budgets(pool).of(projects[:1]))[mine].state is BudgetState.OK
    seen = data(await client.get(USAGE, params={"groupBy": "day"}, headers=who("ann")))
    assert 0 < seen["total"]["calls"] <= 1500 and 28 <= len(seen["rows"]) <= 32
