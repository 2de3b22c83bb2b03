"""Agents over HTTP: who sees and writes them, that a row needs no restart, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
import pytest_asyncio

from gateway.infra.lifecycle import StartError
from gateway.runtime import Runtime
from gateway.services.orchestration.agents import ROWS_MAX, Agents, Catalog
from tests.support.people import As, data, people, refused
from tests.support.web import serving, settings_for

PATH = "/api/v1/orchestration/agents"
BODY: dict[str, Any] = {
    "name": "Translator",
    "description": "Finds texts that are not translated.",
    "prompt": "Look for texts of one language only.",
    "tools": ["github", "create_task"],
    "model": "gpt-5-nano",
    "outputSchema": {"type": "object", "properties": {"missing": {"type": "array", "items": {"type": "string"}}}},
    "maxOutputTokens": 2000,
    "timeoutS": 60,
}
FILE = "+++\nname = 'Own'\ndescription = 'From a file.'\n+++\nThe file's prompt."
pytestmark = pytest.mark.asyncio(loop_scope="module")
Served: TypeAlias = tuple[httpx.AsyncClient, Runtime, As]


@pytest_asyncio.fixture(loop_scope="module")
async def served(database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with with_a_file(database_url, tmp_path) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """For tests that write nothing, or take away what they wrote."""
    async with with_a_file(shared_database_url, tmp_path_factory.mktemp("agents")) as made:
        yield made


@asynccontextmanager
async def with_a_file(database_url: str, directory: Path) -> AsyncIterator[Served]:
    (directory / "own.md").write_text(FILE)
    async with serving(settings_for(database_url, agents_dir=str(directory))) as (client, runtime):
        yield client, runtime, people(runtime)


def agents_of(runtime: Runtime) -> Agents:
    return Agents(runtime.pool, Catalog.read(runtime.settings))


async def test_an_agent_from_its_making_to_its_end_without_a_restart(served: Served) -> None:
    client, runtime, who = served
    client.headers.update(who("admin"))
    made = data(await client.put(f"{PATH}/translator", json=BODY))
    assert {field: made[field] for field in BODY if field != "model"} == {k: v for k, v in BODY.items() if k != "model"}
    assert (made["slug"], made["model"], made["ownModel"]) == ("translator", "gpt-5-nano", "gpt-5-nano")
    assert (made["source"], made["restorable"], made["enabled"], made["updatedBy"]) == ("row", False, True, "admin")
    assert data(await client.get(f"{PATH}/translator")) == made

    project = data(await client.post("/api/v1/projects", json={"name": "P"}), 201)["id"]
    running = data(await client.get(f"/api/v1/projects/{project}/agents"))["running"]
    assert "translator" in running and running == sorted(running) and len(running) == 9
    agent = await agents_of(runtime).get("translator")
    assert agent is not None
    assert (agent.tools, agent.timeout_s, agent.enabled) == (("github", "create_task"), 60.0, True)
    assert "missing" in agent.output_schema["properties"] and "## Rules" in agent.prompt

    least = {name: BODY[name] for name in ("name", "description", "prompt")}
    changed = data(await client.put(f"{PATH}/translator", json=least | {"enabled": False}))
    assert (changed["tools"], changed["ownModel"], changed["outputSchema"]) == ([], None, None)
    assert changed["model"] == "gpt-5-mini"
    assert "translator" not in data(await client.get(f"/api/v1/projects/{project}/agents"))["running"]
    stopped = await agents_of(runtime).get("translator")
    assert stopped is not None and not stopped.enabled

    assert (await client.delete(f"{PATH}/translator")).status_code == 204
    refused(await client.get(f"{PATH}/translator"), 404, "agent_not_found")
    assert await agents_of(runtime).get("translator") is None


@pytest.mark.parametrize(("slug", "source"), [("developer", "built-in"), ("own", "file")])
async def test_a_file_is_changed_by_a_row_and_restored(shared: Served, slug: str, source: str) -> None:
    client, _, who = shared
    client.headers.update(who("admin"))
    before = data(await client.get(f"{PATH}/{slug}"))
    assert (before["source"], before["restorable"], before["updatedAt"]) == (source, False, None)
    refused(await client.delete(f"{PATH}/{slug}"), 409, "agent_not_changed")
    changed = data(await client.put(f"{PATH}/{slug}", json=BODY))
    assert (changed["name"], changed["source"], changed["restorable"]) == ("Translator", "row", True)
    assert len(data(await client.get(PATH))) == 8
    assert (await client.delete(f"{PATH}/{slug}")).status_code == 204
    assert data(await client.get(f"{PATH}/{slug}")) == before


async def test_who_may_do_what(shared: Served) -> None:
    client, _, who = shared
    got: dict[str, list[Any]] = {}
    for name in ("ann", "viewer", "operator", "admin"):
        client.headers.update(who(name))
        shown = await client.get(f"{PATH}/developer")
        got[name] = [
            (await client.get(PATH)).status_code,
            "prompt" in data(shown),
            (await client.put(f"{PATH}/translator", json=BODY)).status_code,
            (await client.delete(f"{PATH}/translator")).status_code,
        ]
    assert got == {
        "ann": [200, False, 403, 403],
        "viewer": [200, False, 403, 403],
        "operator": [200, True, 403, 403],
        "admin": [200, True, 200, 204],
    }
    assert all("prompt" not in agent for agent in data(await client.get(PATH)))


async def test_every_change_leaves_a_row(served: Served) -> None:
    client, runtime, who = served
    client.headers.update(who("admin"))
    await client.put(f"{PATH}/translator", json=BODY)
    await client.put(f"{PATH}/translator", json=BODY)
    await client.put(f"{PATH}/general", json=BODY)
    await client.put(f"{PATH}/general", json=BODY | {"model": "gpt-99"})  # refused
    await client.delete(f"{PATH}/general")
    await client.delete(f"{PATH}/translator")
    rows = await runtime.pool.fetch("SELECT actor, action, subject, detail FROM admin_audit ORDER BY id")
    assert [(row["action"], row["subject"]) for row in rows] == [
        ("agent.create", "translator"),
        ("agent.change", "translator"),
        ("agent.change", "general"),
        ("agent.restore", "general"),
        ("agent.delete", "translator"),
    ]
    assert {row["actor"] for row in rows} == {"admin"}
    assert rows[0]["detail"]["prompt"] == BODY["prompt"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a\n"}, "name"),
        ({"description": "a\nb"}, "description"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "\n "}, "prompt"),
        ({"prompt": "x" * 20_001}, "prompt"),
        ({"prompt": "a\u0000b"}, "prompt"),
        ({"tools": ["shell"]}, "tools[0]"),
        ({"tools": ["github", "github"]}, "tools"),
        ({"tools": "github"}, "tools"),
        ({"model": ""}, "model"),
        ({"model": "gpt 5"}, "model"),
        ({"outputSchema": []}, "outputSchema"),
        ({"outputSchema": {"type": "array"}}, "outputSchema"),
        ({"outputSchema": {"properties": {"summary": {}}}}, "outputSchema"),
        ({"outputSchema": {"properties": {"a": {"type": "sting"}}}}, "outputSchema"),
        ({"outputSchema": {"properties": {"a": {"$ref": "http://localhost/x"}}}}, "outputSchema"),
        ({"outputSchema": {"properties": {"a": {"description": "x" * 16_000}}}}, "outputSchema"),
        ({"maxOutputTokens": 1}, "maxOutputTokens"),
        ({"timeoutS": 0}, "timeoutS"),
        ({"timeoutS": 1e9}, "timeoutS"),
        ({"enabled": "yes"}, "enabled"),
        ({"slug": "x"}, "slug"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_written(
    shared: Served, changes: dict[str, Any], field: str
) -> None:
    client, runtime, who = shared
    changed = await runtime.pool.fetchval("SELECT count(*) FROM admin_audit")
    answer = await client.put(f"{PATH}/translator", json=BODY | changes, headers=who("admin"))
    error = refused(answer, 400, "validation_error")
    assert error["details"][0]["field"] == field and len(answer.text) < 1500
    assert await runtime.pool.fetchval("SELECT count(*) FROM agents") == 0
    assert await runtime.pool.fetchval("SELECT count(*) FROM admin_audit") == changed


async def test_a_model_without_a_price_is_refused_with_those_that_have_one(shared: Served) -> None:
    client, _, who = shared
    client.headers.update(who("admin"))
    error = refused(await client.put(f"{PATH}/t", json=BODY | {"model": "gpt-99"}), 422, "unknown_model")
    assert "gpt-5-mini" in error["message"] and error["details"][0]["field"] == "model"
    assert data(await client.put(f"{PATH}/t", json=BODY | {"model": "claude-haiku-4-5-20251001"}))["model"]
    assert (await client.delete(f"{PATH}/t")).status_code == 204


async def test_a_server_of_ones_own_may_serve_any_model(database_url: str) -> None:
    settings = settings_for(database_url, openai_base_url="http://127.0.0.1:9/v1")
    async with serving(settings) as (client, runtime):
        client.headers.update(people(runtime)("admin"))
        assert data(await client.put(f"{PATH}/t", json=BODY | {"model": "llama3:8b"}))["model"] == "llama3:8b"


async def test_slugs_are_checked(shared: Served) -> None:
    client, _, who = shared
    client.headers.update(who("admin"))
    for slug in ("A", "a%20b", "a" * 61, "-a", "%2e%2e", "a%00"):
        error = refused(await client.put(f"{PATH}/{slug}", json=BODY), 400, "validation_error")
        assert error["details"][0]["field"] == "slug"
        refused(await client.get(f"{PATH}/{slug}"), 404, "agent_not_found")
        refused(await client.delete(f"{PATH}/{slug}"), 404, "agent_not_found")


async def test_rows_are_bounded(served: Served) -> None:
    client, runtime, who = served
    client.headers.update(who("admin"))
    await runtime.pool.execute(
        "INSERT INTO agents (slug, name, prompt, updated_by) "
        "SELECT 'a' || n, 'A', 'x', 'me' FROM generate_series(1, $1::int) n",
        ROWS_MAX,
    )
    refused(await client.put(f"{PATH}/translator", json=BODY), 409, "too_many_agents")
    refused(await client.put(f"{PATH}/developer", json=BODY), 409, "too_many_agents")
    assert data(await client.put(f"{PATH}/a1", json=BODY))["name"] == "Translator"


async def test_a_file_that_cannot_be_read_stops_the_start(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "own.md").write_text(FILE.replace("name", "nmae"))
    with pytest.raises(StartError, match="line 2, nmae: unknown field"):
        await Runtime.open(settings_for(database_url, agents_dir=str(tmp_path)))
