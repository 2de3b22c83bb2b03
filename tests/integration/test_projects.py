"""Projects over HTTP, on the whole application: who sees and changes what, what is refused, what is written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from gateway.access import SCOPES_OF, Principal, Role
from gateway.infra.uuid7 import uuid7
from gateway.problem import Problem
from gateway.runtime import Runtime
from gateway.services.orchestration.projects import MEMBERS_MAX, Projects
from tests.support.people import As, data, people, refused
from tests.support.web import serving, settings_for

PATH = "/api/v1/projects"
SHOP = {
    "name": "Shop",
    "repository": "acme/shop",
    "facts": {"language": "de", "goal": "first hundred customers"},
    "monthlyBudgetCents": 1250,
}
pytestmark = pytest.mark.asyncio(loop_scope="module")
Served: TypeAlias = tuple[httpx.AsyncClient, Runtime, As]


@pytest_asyncio.fixture(loop_scope="module")
async def served(database_url: str) -> AsyncIterator[Served]:
    async with serving(settings_for(database_url)) as (client, runtime):
        yield client, runtime, people(runtime)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(shared_database_url: str) -> AsyncIterator[Served]:
    async with serving(settings_for(shared_database_url)) as (client, runtime):
        yield client, runtime, people(runtime)


@pytest.fixture
def shared(gateway: Served) -> Served:
    """For tests that look at projects of their own only. The client is nobody."""
    gateway[0].headers.pop("Authorization", None)
    return gateway


async def make(served: Served, owner: str = "ann", **fields: Any) -> dict[str, Any]:
    client, _, who = served
    made: dict[str, Any] = data(await client.post(PATH, json=SHOP | fields, headers=who(owner)), 201)
    return made


async def test_a_project_from_its_making_to_its_archive(served: Served) -> None:
    client, _, who = served
    answer = await client.post(PATH, json=SHOP, headers=who("ann"))
    made = data(answer, 201)
    path = f"{PATH}/{made['id']}"
    assert answer.headers["Location"] == path
    assert {name: made[name] for name in ("name", "repository", "facts")} == {
        name: SHOP[name] for name in ("name", "repository", "facts")
    }
    assert (made["role"], made["createdBy"], made["archivedAt"]) == ("owner", "ann", None)
    budget = made["budget"]
    assert (budget["monthlyCents"], budget["spentCents"], budget["warning"]) == (1250, 0, False)
    assert data(await client.get(path, headers=who("ann"))) == made

    patch = {"repository": None, "monthlyBudgetCents": None, "name": " Shop 2 "}
    changed = data(await client.patch(path, json=patch, headers=who("ann")))
    assert (changed["name"], changed["repository"], changed["facts"]) == ("Shop 2", None, SHOP["facts"])
    assert (changed["budget"]["monthlyCents"], changed["role"]) == (None, "owner")

    assert (await client.delete(path, headers=who("ann"))).status_code == 204
    archived = data(await client.get(path, headers=who("ann")))
    assert archived["archivedAt"] is not None and archived["facts"] == SHOP["facts"]
    assert data(await client.get(PATH, headers=who("ann"))) == []
    assert data(await client.get(PATH, params={"archived": "true"}, headers=who("ann"))) == [archived]
    assert (await client.delete(path, headers=who("ann"))).status_code == 204
    assert data(await client.get(path, headers=who("ann")))["archivedAt"] == archived["archivedAt"]
    opened = data(await client.patch(path, json={"archived": False}, headers=who("ann")))
    assert opened["archivedAt"] is None


async def test_who_may_do_what(shared: Served) -> None:
    client, _, who = shared
    project = await make(shared)
    path = f"{PATH}/{project['id']}"
    data(await client.put(f"{path}/members/bob", headers=who("ann")))
    got: dict[str, list[int]] = {}
    for name in ("ann", "bob", "eve", "viewer", "operator", "admin"):
        calls = (
            client.get(path),
            client.get(f"{path}/members"),
            client.get(f"{path}/agents"),
            client.patch(path, json={"name": "X"}),
            client.put(f"{path}/members/zoe", json={"role": "member"}),
            client.put(f"{path}/agents", json={"enabled": ["developer"]}),
        )
        client.headers.update(who(name))
        got[name] = [(await call).status_code for call in calls]
    assert got == {
        "ann": [200] * 6,
        "bob": [200, 200, 200, 403, 403, 403],
        "eve": [404] * 6,
        "viewer": [200, 200, 200, 403, 403, 403],
        "operator": [200] * 6,
        "admin": [200] * 6,
    }
    client.headers.pop("Authorization")
    assert (await client.get(path)).status_code == 401


async def test_unknown_and_foreign_look_the_same(shared: Served) -> None:
    client, _, who = shared
    project = await make(shared)
    answers = [
        refused(await client.get(f"{PATH}/{one}", headers=who("eve")), 404, "not_found")
        for one in (project["id"], uuid7(), "no-id")
    ]
    assert len({(answer["message"], str(answer["details"])) for answer in answers}) == 1


async def test_a_list_shows_ones_own_page_by_page(served: Served) -> None:
    client, _, who = served
    mine = [(await make(served, name=f"P{number}"))["id"] for number in range(5)]
    await make(served, "bob", name="foreign")
    found, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = await client.get(PATH, params=query, headers=who("ann"))
        found += [one["id"] for one in data(answer)]
        cursor = answer.json()["page"]["nextCursor"]
        if cursor is None:
            break
    assert found == mine[::-1]
    seen = data(await client.get(PATH, headers=who("viewer")))
    assert [(one["name"], one["role"]) for one in seen][:2] == [("foreign", None), ("P4", None)] and len(seen) == 6
    for query in ({"limit": 0}, {"limit": "x"}, {"cursor": "x"}, {"archived": "maybe"}, {"page": 2}):
        error = refused(await client.get(PATH, params=query, headers=who("ann")), 400, "validation_error")
        assert error["details"][0]["field"] in query


async def test_members_come_and_go_but_an_owner_stays(shared: Served) -> None:
    client, _, who = shared
    path = f"{PATH}/{(await make(shared))['id']}/members"
    added = data(await client.put(f"{path}/auth0%7Cbob", headers=who("ann")))
    assert (added["principal"], added["role"]) == ("auth0|bob", "member")
    refused(await client.delete(f"{path}/ann", headers=who("ann")), 409, "last_owner")
    refused(await client.put(f"{path}/ann", json={"role": "member"}, headers=who("ann")), 409, "last_owner")
    refused(await client.delete(f"{path}/ann", headers=who("admin")), 409, "last_owner")
    refused(await client.delete(f"{path}/ann", headers=who("auth0|bob")), 403, "not_owner")
    assert data(await client.put(f"{path}/auth0%7Cbob", json={"role": "owner"}, headers=who("ann")))["role"] == "owner"
    assert (await client.delete(f"{path}/ann", headers=who("ann"))).status_code == 204
    refused(await client.get(path, headers=who("ann")), 404, "not_found")
    assert [one["principal"] for one in data(await client.get(path, headers=who("auth0|bob")))] == ["auth0|bob"]
    refused(await client.delete(f"{path}/nobody", headers=who("auth0|bob")), 404, "not_found")
    data(await client.put(f"{path}/carl", headers=who("auth0|bob")))
    assert (await client.delete(f"{path}/carl", headers=who("carl"))).status_code == 204  # leaves


async def test_owners_who_leave_at_once_do_not_leave_it_alone(shared: Served) -> None:
    client, runtime, who = shared
    owners = [f"owner-{number}" for number in range(4)]
    for _ in range(5):
        project = await make(shared, owners[0])
        path = f"{PATH}/{project['id']}/members"
        for owner in owners[1:]:
            data(await client.put(f"{path}/{owner}", json={"role": "owner"}, headers=who(owners[0])))
        leaves = [client.delete(f"{path}/{owner}", headers=who(owner)) for owner in owners[:2]]
        demotes = [client.put(f"{path}/{owner}", json={"role": "member"}, headers=who(owner)) for owner in owners[2:]]
        statuses = sorted(answer.status_code for answer in await asyncio.gather(*leaves, *demotes))
        assert statuses in ([200, 200, 204, 409], [200, 204, 204, 409])
        left = await runtime.pool.fetchval(
            "SELECT count(*) FROM project_members WHERE project_id = $1 AND role = 'owner'", UUID(project["id"])
        )
        assert left == 1


async def test_members_are_bounded(shared: Served) -> None:
    client, runtime, who = shared
    project = UUID((await make(shared))["id"])
    await runtime.pool.execute(
        "INSERT INTO project_members (project_id, principal) SELECT $1, 'm' || n FROM generate_series(2, $2::int) n",
        project,
        MEMBERS_MAX,
    )
    path = f"{PATH}/{project}/members"
    refused(await client.put(f"{path}/one-more", headers=who("ann")), 409, "too_many_members")
    assert data(await client.put(f"{path}/m2", json={"role": "owner"}, headers=who("ann")))["role"] == "owner"
    assert [one["role"] for one in data(await client.get(path, headers=who("ann")))[:3]] == ["owner", "owner", "member"]


async def test_changes_of_different_fields_both_stay(shared: Served) -> None:
    client, _, who = shared
    path = f"{PATH}/{(await make(shared))['id']}"
    patches = ({"name": "New"}, {"monthlyBudgetCents": 7}, {"facts": {}}, {"repository": "acme/new"})
    await asyncio.gather(*(client.patch(path, json=patch, headers=who("ann")) for patch in patches))
    now = data(await client.get(path, headers=who("ann")))
    assert (now["name"], now["facts"], now["repository"], now["budget"]["monthlyCents"]) == ("New", {}, "acme/new", 7)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": 7}, "name"),
        ({"repository": "shop"}, "repository"),
        ({"repository": "https://github.com/acme/shop"}, "repository"),
        ({"repository": "acme/.."}, "repository"),
        ({"repository": "acme/shop\n"}, "repository"),
        ({"repository": "acme/shop/tree"}, "repository"),
        ({"facts": []}, "facts"),
        ({"facts": {"all": "x" * 16_000}}, "facts"),
        ({"monthlyBudgetCents": -1}, "monthlyBudgetCents"),
        ({"monthlyBudgetCents": 1.5}, "monthlyBudgetCents"),
        ({"monthlyBudgetCents": 10**12}, "monthlyBudgetCents"),
        ({"budget": 5}, "budget"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_made(shared: Served, fields: dict[str, Any], field: str) -> None:
    client, runtime, who = shared
    projects = await runtime.pool.fetchval("SELECT count(*) FROM projects")
    changes = await runtime.pool.fetchval("SELECT count(*) FROM admin_audit")
    error = refused(await client.post(PATH, json=SHOP | fields, headers=who("ann")), 400, "validation_error")
    assert error["details"][0]["field"] == field and len(error["message"]) < 400
    project = await make(shared)
    path = f"{PATH}/{project['id']}"
    refused(await client.patch(path, json=fields, headers=who("ann")), 400, "validation_error")
    assert await runtime.pool.fetchval("SELECT count(*) FROM projects") == projects + 1
    assert await runtime.pool.fetchval("SELECT count(*) FROM admin_audit") == changes + 1
    assert data(await client.get(path, headers=who("ann"))) == project


async def test_bad_bodies_of_the_other_routes(shared: Served) -> None:
    client, _, who = shared
    client.headers.update(who("ann"))
    path = f"{PATH}/{(await make(shared))['id']}"
    refused(await client.patch(path, json={}), 400, "validation_error")
    refused(await client.post(PATH, json={"facts": {}}), 400, "validation_error")
    refused(await client.post(PATH, json=SHOP | {"facts": {"a": "\u0000"}}), 400, "invalid_text")
    refused(await client.put(f"{path}/members/bob", json={"role": "king"}), 400, "validation_error")
    refused(await client.put(f"{path}/members/{'b' * 256}"), 400, "validation_error")
    refused(await client.put(f"{path}/members/%00"), 400, "validation_error")
    refused(await client.put(f"{path}/agents", json={"enabled": "developer"}), 400, "validation_error")
    refused(await client.put(f"{path}/agents", json={}), 400, "validation_error")
    refused(await client.put(f"{path}/agents", json={"enabled": ["develoepr"]}), 422, "unknown_agent")


async def test_a_project_chooses_its_agents(shared: Served) -> None:
    client, _, who = shared
    client.headers.update(who("ann"))
    path = f"{PATH}/{(await make(shared))['id']}/agents"
    before = data(await client.get(path))
    assert before["enabled"] is None and len(before["running"]) == 7
    for enabled in (["seo_writer", "code-review"], ["general"], []):
        chosen = data(await client.put(path, json={"enabled": enabled}))
        assert chosen == {"enabled": sorted(enabled), "running": sorted(enabled)}
    assert data(await client.put(path, json={"enabled": None})) == before


async def test_every_change_leaves_a_row(served: Served) -> None:
    client, runtime, who = served
    client.headers.update(who("ann"))
    project = await make(served)
    path = f"{PATH}/{project['id']}"
    await client.patch(path, json={"name": "X"})
    await client.put(f"{path}/members/bob")
    await client.delete(f"{path}/members/bob")
    await client.delete(f"{path}/members/ann")  # refused
    await client.put(f"{path}/agents", json={"enabled": ["general"]})
    await client.delete(path)
    rows = await runtime.pool.fetch("SELECT actor, action, subject, detail FROM admin_audit ORDER BY id")
    assert {(row["actor"], row["subject"]) for row in rows} == {("ann", project["id"])}
    assert [(row["action"].removeprefix("project."), row["detail"]) for row in rows] == [
        ("create", SHOP),
        ("change", {"name": "X"}),
        ("member.put", {"principal": "bob", "role": "member"}),
        ("member.remove", {"principal": "bob"}),
        ("agents", {"enabled": ["general"]}),
        ("archive", {}),
    ]


async def test_what_others_build_on(shared: Served) -> None:
    """``visible``, ``changeable``, ``runnable``, ``open``: what runs, approvals and triggers ask."""
    client, runtime, who = shared
    project = UUID((await make(shared))["id"])
    await client.put(f"{PATH}/{project}/members/bob", headers=who("ann"))
    projects = Projects(runtime.pool)

    async def status(method: Any, *arguments: Any) -> int:
        try:
            await method(*arguments)
        except Problem as problem:
            return problem.status
        return 200

    def named(name: str, role: Role = Role.USER) -> Principal:
        return Principal(id=name, kind="user", role=role, scopes=SCOPES_OF[role])

    callers = [named("ann"), named("bob"), named("eve"), named("v", Role.VIEWER), named("o", Role.OPERATOR)]
    wanted = {
        projects.visible: [200, 200, 404, 200, 200],
        projects.changeable: [200, 403, 404, 403, 200],
        projects.runnable: [200, 200, 404, 403, 200],
    }
    for method, expected in wanted.items():
        assert [await status(method, caller, project) for caller in callers] == expected
    assert (await status(projects.open, project), await status(projects.open, uuid7())) == (200, 404)
    await client.delete(f"{PATH}/{project}", headers=who("ann"))
    assert [await status(projects.runnable, caller, project) for caller in callers] == [409, 409, 404, 403, 409]
    assert await status(projects.open, project) == 409
    assert await status(projects.visible, callers[0], project) == 200
