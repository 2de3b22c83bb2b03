"""Models for administrators: what they see, and that what they change holds for the next call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import click
import httpx
import pytest
import pytest_asyncio

from gateway.access import Role
from gateway.cli.models import micros_of, state_of, usd_of
from gateway.llm.model import ModelBusy
from gateway.runtime import Runtime
from gateway.web.auth import mint_token
from tests.support.models import KEY, ask
from tests.support.openai_server import OpenAIServer, openai_server, rate_limited
from tests.support.web import ADMIN, serving, settings_for

PATH = "/api/v1/admin/models"
SHARED = pytest.mark.asyncio(loop_scope="module")  # with the application of all that change nothing
World = tuple[httpx.AsyncClient, Runtime, OpenAIServer]


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with openai_server() as provider:
        settings = settings_for(database_url, openai_api_key=KEY, openai_base_url=provider.url)
        async with serving(settings) as (client, runtime):
            client.headers.update(ADMIN)
            yield client, runtime, provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_for(shared_database_url, openai_api_key=KEY, openai_base_url="http://127.0.0.1:1")
    async with serving(settings) as (client, _):
        client.headers.update(ADMIN)
        yield client


async def seen(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get(PATH)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    assert KEY not in answer.text
    return data


def of(data: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in data["models"] if one["model"] == name]
    return dict(found)


def lane(data: dict[str, Any]) -> dict[str, Any]:
    (found,) = [one for one in data["providers"] if one["name"] == "openai"]
    return dict(found)


async def test_prices_limits_and_providers_are_shown(world: World) -> None:
    client, _, _ = world
    data = await seen(client)
    assert data["defaultModel"] == "gpt-5-mini"
    assert len(data["models"]) > 30
    model = of(data, "gpt-5-mini")
    assert (model["inputMicros"], model["outputMicros"], model["configured"]) == (250_000, 2_000_000, True)
    assert (model["requestsPerMinute"], model["seenOn"]) == (None, "2026-11-22")
    assert not of(data, "claude-sonnet-4-5")["configured"]
    assert lane(data) == {
        "name": "openai", "configured": True, "failures": 0,
        "paused": False, "pausedUntil": None, "kind": None, "reason": None,
    }  # fmt: skip


async def test_a_limit_holds_for_the_next_call(world: World) -> None:
    client, runtime, provider = world
    body = {"model": "gpt-5-mini", "requestsPerMinute": 1}
    assert (await client.put(f"{PATH}/limits", json=body)).status_code == 200
    models = runtime.platform.models
    await models.complete(ask())
    with pytest.raises(ModelBusy):
        await models.complete(ask(model="gpt-5-mini-2025-08-07"))  # the same model
    shown = of(await seen(client), "gpt-5-mini")
    assert (shown["requestsPerMinute"], shown["requestsNow"], shown["tokensNow"]) == (1, 1, 120)
    assert (await client.put(f"{PATH}/limits", json={"model": "gpt-5-mini"})).status_code == 200
    await models.complete(ask())
    assert len(provider.calls) == 2


async def test_a_limit_of_a_model_without_a_price_is_shown(world: World) -> None:
    client, _, _ = world
    await client.put(f"{PATH}/limits", json={"model": "vendor/llama:70b", "tokensPerMinute": 5000})
    shown = of(await seen(client), "vendor/llama:70b")
    assert (shown["provider"], shown["inputMicros"], shown["tokensPerMinute"]) == (None, None, 5000)


async def test_a_price_holds_from_its_date_on(world: World) -> None:
    client, runtime, _ = world
    body = {"model": "gpt-9", "provider": "openai", "inputMicros": 1_000_000, "outputMicros": 10_000_000}
    later = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    assert (await client.post(f"{PATH}/prices", json=body)).status_code == 201
    assert (await client.post(f"{PATH}/prices", json=body | {"inputMicros": 0, "validFrom": later})).status_code == 201
    assert (await runtime.platform.models.complete(ask(model="gpt-9"))).spent.cost_micros == 300


async def test_a_provider_paused_by_hand_rests_until_it_is_resumed(world: World) -> None:
    client, runtime, provider = world
    models = runtime.platform.models
    path = f"{PATH}/providers/openai"
    paused = await client.post(f"{path}/pause", json={"reason": "their maintenance"})
    assert (paused.status_code, paused.json()["data"]["pausedUntil"]) == (200, None)
    assert lane(await seen(client)) | {"paused": True, "kind": "by_hand", "reason": "their maintenance"} == lane(
        await seen(client)
    )
    with pytest.raises(ModelBusy, match="an administrator paused") as busy:
        await models.complete(ask())
    assert 3500 < busy.value.after_s <= 3600
    until = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    assert (await client.post(f"{path}/pause", json={"until": until})).json()["data"]["pausedUntil"] is not None
    with pytest.raises(ModelBusy) as busy:
        await models.complete(ask())
    assert 500 < busy.value.after_s <= 600
    assert provider.calls == []
    assert not (await client.post(f"{path}/resume")).json()["data"]["paused"]
    await models.complete(ask())


async def test_resuming_ends_a_rest_that_the_provider_asked_for(world: World) -> None:
    client, runtime, provider = world
    provider.script(rate_limited("600"))
    with pytest.raises(ModelBusy):
        await runtime.platform.models.complete(ask())
    shown = lane(await seen(client))
    assert (shown["paused"], shown["kind"]) == (True, "rate_limited")
    await client.post(f"{PATH}/providers/openai/resume")
    await runtime.platform.models.complete(ask())


async def test_changes_are_audited(world: World, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    client, _, _ = world
    await client.put(f"{PATH}/limits", json={"model": "gpt-5", "tokensPerMinute": 7})
    await client.post(f"{PATH}/providers/openai/pause")
    rows = await pool.fetch("SELECT action, subject FROM admin_audit ORDER BY at")
    assert [tuple(row) for row in rows] == [("model.limit", "gpt-5"), ("provider.pause", "openai")]


@SHARED
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("PUT", "/limits", {"model": "gpt-5", "requestsPerMinute": 0}, 400, "requestsPerMinute"),
        ("PUT", "/limits", {"model": "gpt-5", "tokensPerMinute": 10**30}, 400, "tokensPerMinute"),
        ("PUT", "/limits", {"requestsPerMinute": 1}, 400, "model"),
        ("PUT", "/limits", {"model": "a b"}, 400, "model"),
        ("PUT", "/limits", {"model": "gpt-5", "rpm": 1}, 400, "rpm"),
        ("POST", "/prices", {"model": "x", "provider": "acme", "inputMicros": 1, "outputMicros": 1}, 400, "provider"),
        (
            "POST",
            "/prices",
            {"model": "x", "provider": "openai", "inputMicros": -1, "outputMicros": 1},
            400,
            "inputMicros",
        ),
        ("POST", "/providers/openai/pause", {"until": "2020-01-01T00:00:00Z"}, 400, "until"),
        ("POST", "/providers/acme/pause", {}, 404, "Known: anthropic, google, openai"),
        ("POST", "/providers/acme/resume", None, 404, "Known: anthropic, google, openai"),
    ],
)
async def test_bad_input_names_the_field(
    shared: httpx.AsyncClient, method: str, path: str, body: Any, status: int, said: str
) -> None:
    answer = await shared.request(method, PATH + path, json=body)
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


async def test_roles_are_asked_for(world: World) -> None:
    client, runtime, _ = world
    expires = datetime.now(UTC) + timedelta(minutes=5)

    async def status(role: Role, method: str, path: str, body: Any = None) -> int:
        token = mint_token(runtime.settings, "somebody", role, expires)
        headers = {"Authorization": f"Bearer {token}"}
        return (await client.request(method, PATH + path, json=body, headers=headers)).status_code

    assert await status(Role.USER, "GET", "") == 403
    assert await status(Role.VIEWER, "GET", "") == 200
    assert await status(Role.VIEWER, "POST", "/providers/openai/resume") == 403
    assert await status(Role.OPERATOR, "POST", "/providers/openai/resume") == 200
    assert await status(Role.OPERATOR, "PUT", "/limits", {"model": "gpt-5"}) == 403
    assert await status(Role.ADMIN, "PUT", "/limits", {"model": "gpt-5"}) == 200


def test_prices_on_the_command_line() -> None:
    assert (micros_of("--input", "0.25"), micros_of("--input", "15"), micros_of("--input", "1e-6")) == (
        250_000,
        15_000_000,
        1,
    )
    for wrong in ("free", "-1", "nan", "inf", "1e99", "0.0000001", ""):
        with pytest.raises(click.BadParameter):
            micros_of("--input", wrong)
    assert (usd_of(250_000), usd_of(15_000_000), usd_of(75_000), usd_of(None)) == ("$0.25", "$15.00", "$0.075", None)
    assert state_of({"paused": False}) == "open"
    assert state_of({"paused": True, "pausedUntil": None, "reason": "why"}) == "rests, until resumed: why"
