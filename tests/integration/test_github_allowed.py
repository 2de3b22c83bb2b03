"""Whose words decide which repositories GITHUB_TOKEN is used for (docs/github.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.services.orchestration.github import GitHubRefused
from gateway.settings import SettingsError, load
from tests.support.github_app import REPOSITORY, TOKEN, Pool, a_week, github
from tests.support.github_server import GitHubServer, github_server
from tests.support.people import data, people, refused
from tests.support.run_rows import project_row
from tests.support.web import SECRET, serving, settings_for

PROJECTS = "/api/v1/projects"
ANALYSIS = "/api/v1/orchestration/analysis"


@pytest.fixture
async def hub() -> AsyncIterator[GitHubServer]:
    async with github_server() as server:
        a_week(server.add(REPOSITORY))
        yield server


async def tries(database_url: str, name: str, repository: str, **settings: Any) -> tuple[httpx.Response, ...]:
    """Answers to making a project with the repository, and to giving it to one that has none."""
    async with serving(settings_for(database_url, **settings)) as (client, runtime):
        who = people(runtime)(name)
        plain = data(await client.post(PROJECTS, json={"name": "Plain"}, headers=who), 201)
        return (
            await client.post(PROJECTS, json={"name": "Shop", "repository": repository}, headers=who),
            await client.patch(f"{PROJECTS}/{plain['id']}", json={"repository": repository}, headers=who),
        )


async def test_what_the_token_sees_is_not_for_whoever_names_it(database_url: str) -> None:
    for answer in await tries(database_url, "ann", "company/private", github_token=TOKEN):
        error = refused(answer, 403, "repository_not_allowed")
        assert error["details"][0]["field"] == "repository" and "GITHUB_REPOSITORIES" in error["message"]
    for settings in ({}, {"github_token": TOKEN, "gateway_env": "development"}):
        made, changed = await tries(database_url, "ann", "company/private", **settings)
        assert (made.status_code, changed.status_code) == (201, 200)
    made, changed = await tries(database_url, "operator", "company/private", github_token=TOKEN)
    assert (made.status_code, changed.status_code) == (201, 200)


@pytest.mark.parametrize("name", ["ann", "admin"])
async def test_a_list_says_which_it_may_be(database_url: str, name: str) -> None:
    named = {"github_token": TOKEN, "github_repositories": "Octo/App, labs/*"}
    for repository in ("octo/app", "labs/any", "LABS/other"):
        made, changed = await tries(database_url, name, repository, **named)
        assert (made.status_code, changed.status_code) == (201, 200)
    for repository in ("octo/apps", "octo/other", "labs-2/any", "company/private"):
        for answer in await tries(database_url, name, repository, **named):
            error = refused(answer, 403, "repository_not_allowed")
            assert repository in error["message"] and "octo/app," not in error["message"].lower()


async def test_an_owner_keeps_and_takes_away_what_an_operator_set(database_url: str, pool: Pool) -> None:
    path = f"{PROJECTS}/{await project_row(pool, owner='ann', repository='Acme/shop')}"
    async with serving(settings_for(database_url, github_token=TOKEN)) as (client, runtime):
        ann = people(runtime)("ann")
        same = data(await client.patch(path, json={"name": "New", "repository": "acme/shop"}, headers=ann))
        assert same["name"] == "New"
        refused(await client.patch(path, json={"repository": "acme/other"}, headers=ann), 403, "repository_not_allowed")
        assert data(await client.patch(path, json={"repository": None}, headers=ann))["repository"] is None
        refused(await client.patch(path, json={"repository": "acme/shop"}, headers=ann), 403, "repository_not_allowed")


async def test_a_list_holds_for_projects_that_had_their_repository_before(
    database_url: str, pool: Pool, hub: GitHubServer
) -> None:
    path = f"{ANALYSIS}/{await project_row(pool, owner='ann', repository=REPOSITORY)}"
    settings = {"github_api_url": hub.url, "github_token": TOKEN}
    async with serving(settings_for(database_url, **settings)) as (client, runtime):
        data(await client.get(path, headers=people(runtime)("ann")))
    asked = len(hub.calls)
    async with serving(settings_for(database_url, github_repositories="acme/*", **settings)) as (client, runtime):
        error = refused(await client.get(path, headers=people(runtime)("ann")), 400, "github_refused")
        assert REPOSITORY in error["message"] and "GITHUB_REPOSITORIES" in error["message"]
    hub_of_a_list = github(hub, pool, github_repositories="acme/*")
    for call in (
        hub_of_a_list.analyse(REPOSITORY),
        hub_of_a_list.comment(REPOSITORY, 1, "Hello", "key"),
        hub_of_a_list.open_issue(REPOSITORY, "Hello", "you", "key"),
    ):
        with pytest.raises(GitHubRefused, match="GITHUB_REPOSITORIES") as raised:
            await call
        assert raised.value.kind == "not_allowed"
    assert len(hub.calls) == asked, "GitHub was asked"


@pytest.mark.parametrize("wrong", ["https://github.com/octo/app", "octo", "*", "octo/", "*/app", "octo/app;labs/*"])
def test_a_list_that_names_no_repository_stops_the_start(tmp_path: Path, wrong: str) -> None:
    good = {"DATABASE_URL": "postgresql://db/gateway", "JWT_SECRET": SECRET, "SMTP_HOST": "smtp.example"}
    load(good | {"GITHUB_REPOSITORIES": "octo/app, labs/*"}, tmp_path)
    with pytest.raises(SettingsError, match="GITHUB_REPOSITORIES"):
        load(good | {"GITHUB_REPOSITORIES": wrong}, tmp_path)
