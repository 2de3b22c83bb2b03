"""Access: every route demands something, and callers are told what they lack."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar import Request, get

from gateway.access import PUBLIC, Principal, Role, Scope
from gateway.app import create_app
from gateway.infra.postgres import Pools
from gateway.runtime import DevOptions, Runtime
from gateway.web.tokens import mint_token
from tests.support.jwks_server import SigningKey, jwks_server
from tests.support.web import ADMIN, serving, settings_for


@get("/who", opt={"access": Scope.EMAILS_READ})
async def who(request: Request[Principal, Any, Any]) -> dict[str, Any]:
    return {"id": request.user.id, "role": request.user.role}


@get("/operate", opt={"access": Scope.ADMIN_OPERATE})
async def operate() -> dict[str, Any]:
    return {}


@get("/open", opt={"access": PUBLIC})
async def open_to_all() -> dict[str, Any]:
    return {}


@get("/forgotten")
async def forgotten() -> dict[str, Any]:
    return {}


ROUTES = (who, operate, open_to_all)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def error_of(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert body["success"] is False
    return dict(body["error"])


async def test_a_route_without_a_demand_stops_the_start(database_url: str) -> None:
    runtime = await Runtime.open(settings_for(database_url), DevOptions(routes=(forgotten,)))
    with pytest.raises(ValueError, match="GET /forgotten"):
        create_app(runtime)
    await runtime.stop()


async def test_nobody_and_nonsense_are_401_with_a_challenge(database_url: str) -> None:
    async with serving(settings_for(database_url), routes=ROUTES) as (client, _):
        nobody = await client.get("/who")
        assert nobody.status_code == 401
        assert error_of(nobody)["code"] == "missing_token"
        assert nobody.headers["www-authenticate"] == 'Bearer realm="gateway"'
        for header in ("Basic dTpw", "Bearer", "Bearer a b", "dev"):
            assert (await client.get("/who", headers={"Authorization": header})).status_code == 401
        for token in ("x.y.z", "gw_" + "a" * 43, "gw_short"):
            refused = await client.get("/who", headers=bearer(token))
            assert refused.status_code == 401
            assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert (await client.get("/open")).status_code == 200


async def test_an_expired_token_says_so(database_url: str) -> None:
    settings = settings_for(database_url)
    async with serving(settings, routes=ROUTES) as (client, _):
        token = mint_token(settings, "me", Role.ADMIN, datetime.now(UTC) - timedelta(hours=1))
        refused = await client.get("/who", headers=bearer(token))
    assert refused.status_code == 401
    assert error_of(refused)["message"] == "The token has expired"
    assert 'error_description="The token has expired"' in refused.headers["www-authenticate"]


@pytest.mark.parametrize(("role", "may"), [("user", False), ("viewer", False), ("operator", True), ("admin", True)])
async def test_roles_include_the_ones_before(role: str, may: bool, database_url: str) -> None:
    settings = settings_for(database_url)
    async with serving(settings, routes=ROUTES) as (client, _):
        headers = bearer(mint_token(settings, "me", role, datetime.now(UTC) + timedelta(hours=1)))
        assert (await client.get("/who", headers=headers)).json() == {"id": "me", "role": role}
        answer = await client.get("/operate", headers=headers)
    assert answer.status_code == (200 if may else 403)
    if not may:
        problem = error_of(answer)
        assert problem["code"] == "insufficient_scope"
        assert "admin:operate" in problem["message"] and f"role {role}" in problem["message"]


async def test_the_development_token_is_given_by_gateway_dev_alone(database_url: str) -> None:
    async with serving(settings_for(database_url, gateway_env="development"), routes=ROUTES) as (client, runtime):
        assert (await client.get("/operate", headers=ADMIN)).status_code == 200
        production = create_app(Runtime(runtime.settings, Pools(runtime.pool, runtime.pool), DevOptions(routes=ROUTES)))
        transport = httpx.ASGITransport(production)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as other:
            assert (await other.get("/operate", headers=ADMIN)).status_code == 401


async def test_without_tokens_everybody_is_an_admin(database_url: str) -> None:
    settings = settings_for(database_url, auth_mode="none", host="127.0.0.1")
    async with serving(settings, routes=ROUTES) as (client, _):
        assert (await client.get("/operate")).status_code == 200


async def test_tokens_of_an_identity_provider(database_url: str) -> None:
    key = SigningKey("ES256", "k1")
    claims = {"sub": "u1", "exp": datetime.now(UTC) + timedelta(hours=1), "role": "operator"}
    async with jwks_server() as provider:
        settings = settings_for(database_url, jwt_secret=None, jwt_jwks_url=provider.url)
        async with serving(settings, routes=ROUTES) as (client, _):
            provider.broken = True
            unknown = await client.get("/operate", headers=bearer(key.sign(claims)))
            assert unknown.status_code == 503
            assert error_of(unknown)["code"] == "keys_unavailable"
            assert unknown.headers["retry-after"] == "30"
    async with jwks_server() as provider:
        provider.keys = [key.jwk]
        settings = settings_for(database_url, jwt_secret=None, jwt_jwks_url=provider.url)
        async with serving(settings, routes=ROUTES) as (client, _):
            assert (await client.get("/operate", headers=bearer(key.sign(claims)))).status_code == 200


async def test_the_worker_role_serves_health_and_metrics_only(database_url: str) -> None:
    async with serving(settings_for(database_url, gateway_role="worker")) as (client, _):
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/api/v1/admin/queues", headers=ADMIN)).status_code == 404


async def test_browsers_of_allowed_origins_only(database_url: str) -> None:
    settings = settings_for(database_url, cors_origin="https://shop.example")
    ask = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    async with serving(settings, routes=ROUTES) as (client, _):
        ours = await client.options("/who", headers={"Origin": "https://shop.example"} | ask)
        theirs = await client.options("/who", headers={"Origin": "https://evil.example"} | ask)
    assert ours.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-origin" not in theirs.headers
