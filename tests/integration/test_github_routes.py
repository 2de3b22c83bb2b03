"""GET /orchestration/analysis over the whole application, and what is kept of analyses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
import pytest_asyncio

from gateway.infra.uuid7 import uuid7
from gateway.runtime import Runtime
from gateway.services.orchestration.github import AnalysisStore
from gateway.services.orchestration.github.store import prune
from gateway.services.orchestration.projects import NewProject, Projects
from gateway.settings import Settings
from gateway.web.auth import mint_token
from tests.support.github_app import REPOSITORY, TOKEN, Pool, a_week, age, github
from tests.support.github_data import Act, FakeRepository, Reply
from tests.support.github_server import GitHubServer, github_server
from tests.support.web import ADMIN, serving, settings_for

PATH = "/api/v1/orchestration/analysis"
SHARED = pytest.mark.asyncio(loop_scope="module")  # GitHub is not asked


@pytest.fixture
async def hub() -> AsyncIterator[GitHubServer]:
    async with github_server() as server:
        yield server


@pytest.fixture
def app(hub: GitHubServer) -> FakeRepository:
    made = hub.add(REPOSITORY)
    a_week(made)
    return made


@pytest.fixture
def settings(hub: GitHubServer, database_url: str) -> Settings:
    return settings_for(database_url, github_api_url=hub.url, github_token=TOKEN)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as (client, _runtime):
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[tuple[httpx.AsyncClient, Runtime]]:
    settings = settings_for(shared_database_url, github_api_url="http://127.0.0.1:1", github_token=TOKEN)
    async with serving(settings) as made:
        yield made


async def new_project(pool: Pool, repository: str | None = REPOSITORY) -> UUID:
    return (await Projects(pool).create("owner", NewProject(name="App", repository=repository))).id


def caller(settings: Settings, subject: str) -> dict[str, str]:
    token = mint_token(settings, subject, "user", datetime.now(UTC) + timedelta(hours=1))
    return {"Authorization": f"Bearer {token}"}


async def aged(pool: Pool, hours: float) -> None:
    """Kept analyses and pages are older by so much."""
    await pool.execute("UPDATE analyses SET analysed_at = analysed_at - $1::interval", timedelta(hours=hours))
    await age(pool, hours)


async def test_a_member_sees_the_analysis_of_his_project(
    client: httpx.AsyncClient, app: FakeRepository, settings: Settings, pool: Pool
) -> None:
    project = await new_project(pool)
    answer = await client.get(f"{PATH}/{project}", headers=caller(settings, "owner"))
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data["repository"] == REPOSITORY and data["periodHours"] == 24
    assert data["pullRequests"]["merged"] == 1 and data["pullRequests"]["oldest"]["title"] == "Old and forgotten"
    assert data["hotSpots"][0] == {"path": "src/a.py", "commits": 2, "additions": 7, "deletions": 3}
    assert data["incomplete"] == [] and len(data["summary"]) > 5
    assert "note" not in answer.json()


async def test_unknown_and_foreign_projects_look_the_same(
    client: httpx.AsyncClient, app: FakeRepository, hub: GitHubServer, settings: Settings, pool: Pool
) -> None:
    project = await new_project(pool)
    stranger = caller(settings, "stranger")
    answers = [await client.get(f"{PATH}/{name}", headers=stranger) for name in (project, uuid7(), "no-id")]
    assert {answer.status_code for answer in answers} == {404}
    errors: list[dict[str, Any]] = [answer.json()["error"] for answer in answers]
    assert len({(error["code"], error["message"]) for error in errors}) == 1
    assert hub.calls == []
    assert (await client.get(f"{PATH}/{project}")).status_code == 401


@SHARED
async def test_a_project_without_a_repository_says_how_to_set_one(shared: tuple[httpx.AsyncClient, Runtime]) -> None:
    client, runtime = shared
    answer = await client.get(f"{PATH}/{await new_project(runtime.pool, None)}", headers=ADMIN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_configured")
    assert "owner/name" in answer.json()["error"]["message"]


@SHARED
@pytest.mark.parametrize("hours", ["0", "2161", "-1", "1.5", "day", "9" * 40, "", "１２"])
async def test_a_period_that_is_none_names_its_field(shared: tuple[httpx.AsyncClient, Runtime], hours: str) -> None:
    client, runtime = shared
    answer = await client.get(f"{PATH}/{await new_project(runtime.pool)}", params={"periodHours": hours}, headers=ADMIN)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == "periodHours"


async def test_a_kept_analysis_is_shown_for_an_hour_and_then_made_anew(
    client: httpx.AsyncClient, app: FakeRepository, hub: GitHubServer, pool: Pool
) -> None:
    project = await new_project(pool)
    first = (await client.get(f"{PATH}/{project}", headers=ADMIN)).json()["data"]
    app.add_issue("New")
    asked = len(hub.calls)
    await aged(pool, 0.9)
    assert (await client.get(f"{PATH}/{project}", headers=ADMIN)).json()["data"]["until"] == first["until"]
    assert len(hub.calls) == asked
    await aged(pool, 0.2)
    anew = (await client.get(f"{PATH}/{project}", headers=ADMIN)).json()["data"]
    assert anew["issues"]["opened"] == first["issues"]["opened"] + 1


async def test_periods_are_kept_apart_and_another_repository_is_not_the_old_one(
    client: httpx.AsyncClient, app: FakeRepository, hub: GitHubServer, pool: Pool
) -> None:
    project = await new_project(pool)
    day = (await client.get(f"{PATH}/{project}", headers=ADMIN)).json()["data"]
    week = (await client.get(f"{PATH}/{project}?periodHours=168", headers=ADMIN)).json()["data"]
    assert day["commits"]["total"] == 3 and week["commits"]["total"] == 4
    hub.add("octo/new")
    await pool.execute("UPDATE projects SET repository = 'octo/new'")
    assert (await client.get(f"{PATH}/{project}", headers=ADMIN)).json()["data"]["commits"]["total"] == 0


async def test_who_asks_for_the_same_at_once_asks_github_once(
    client: httpx.AsyncClient, app: FakeRepository, hub: GitHubServer, pool: Pool
) -> None:
    project = await new_project(pool)
    hub.delay_s = 0.005
    answers = await asyncio.gather(*(client.get(f"{PATH}/{project}", headers=ADMIN) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["data"]["until"] for answer in answers}) == 1
    paths = [(call.path, str(call.query)) for call in hub.calls]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("trouble", [Reply(500), Act.CUT, Reply(429, None, {"Retry-After": "90"})])
async def test_while_github_is_away_the_last_analysis_is_shown_with_a_note(
    client: httpx.AsyncClient, app: FakeRepository, hub: GitHubServer, pool: Pool, trouble: Reply | Act
) -> None:
    project, other = await new_project(pool), await new_project(pool, "octo/other")
    first = (await client.get(f"{PATH}/{project}", headers=ADMIN)).json()["data"]
    await aged(pool, 2)
    hub.rule = lambda _call: trouble
    answer = await client.get(f"{PATH}/{project}", headers=ADMIN)
    assert answer.status_code == 200 and answer.json()["data"] == first
    assert REPOSITORY in answer.json()["note"]
    answer = await client.get(f"{PATH}/{other}", headers=ADMIN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "github_unavailable")
    assert 1 <= int(answer.headers["retry-after"]) <= 90


async def test_a_refusal_is_told_as_it_is(client: httpx.AsyncClient, hub: GitHubServer, pool: Pool) -> None:
    answer = await client.get(f"{PATH}/{await new_project(pool, 'octo/none')}", headers=ADMIN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "github_refused")
    assert "octo/none" in answer.json()["error"]["message"] and "GITHUB_TOKEN" in answer.json()["error"]["message"]


async def test_the_later_analysis_is_kept_whichever_comes_first(
    hub: GitHubServer, app: FakeRepository, pool: Pool
) -> None:
    project, store = await new_project(pool), AnalysisStore(pool)
    later = await github(hub, pool).analyse(REPOSITORY)
    earlier = msgspec.structs.replace(later, until=later.until - timedelta(hours=1), incomplete=["earlier"])
    run = uuid7()
    await store.keep(project, later, run)
    await store.keep(project, earlier)
    kept = await store.latest(project, 24)
    assert kept is not None and kept.analysis == later
    assert await pool.fetchval("SELECT run_id FROM analyses") == run


async def test_pruning_leaves_each_project_its_latest_analysis(
    hub: GitHubServer, app: FakeRepository, pool: Pool
) -> None:
    project, store = await new_project(pool), AnalysisStore(pool)
    day = await github(hub, pool).analyse(REPOSITORY, 24)
    for hours in (24, 48):
        old = day.until - timedelta(days=60, hours=hours)
        await store.keep(project, msgspec.structs.replace(day, period_hours=hours, until=old))
    await prune(pool)
    assert await store.latest(project, 24) is not None
    assert await store.latest(project, 48) is None
