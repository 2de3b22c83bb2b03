"""API keys: shown once, stored hashed, limited to their scopes, revoked at once."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import asyncpg
import pytest
from litestar import Request, get

from gateway.access import Principal, Scope
from gateway.web.keys import create_key, list_keys, revoke_key
from tests.support.eventually import eventually
from tests.support.web import ADMIN, serving, settings_for

Pool = asyncpg.Pool  # generic for type checkers only


@get("/operate", opt={"access": Scope.ADMIN_OPERATE})
async def operate() -> dict[str, Any]:
    return {}


@get("/read", opt={"access": Scope.EMAILS_READ})
async def read(request: Request[Principal, Any, Any]) -> dict[str, Any]:
    return {"id": request.user.id, "kind": request.user.kind, "seesAll": request.user.sees_all}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_key_is_made_used_and_revoked(database_url: str, pool: Pool) -> None:
    async with serving(settings_for(database_url), routes=(read,)) as (client, _):
        body = {"name": "shop", "scopes": ["emails:read"]}
        made = await client.post("/api/v1/admin/keys", json=body, headers=ADMIN)
        assert made.status_code == 201
        data = made.json()["data"]
        key, key_id = data["key"], data["id"]
        assert key.startswith(data["prefix"]) and len(key) == 46

        seen = await client.get("/read", headers=bearer(key))
        assert seen.json() == {"id": key_id, "kind": "key", "seesAll": False}
        refused = await client.get("/api/v1/admin/keys", headers=bearer(key))
        assert refused.status_code == 403
        assert "admin:read, which this API key does not have" in refused.json()["error"]["message"]

        listed = (await client.get("/api/v1/admin/keys", headers=ADMIN)).json()["data"]
        assert [entry["id"] for entry in listed] == [key_id]
        assert key not in str(listed)

        assert (await client.delete(f"/api/v1/admin/keys/{key_id}", headers=ADMIN)).status_code == 204
        assert (await client.delete(f"/api/v1/admin/keys/{key_id}", headers=ADMIN)).status_code == 204
        revoked = await client.get("/read", headers=bearer(key))
        assert revoked.status_code == 401
        assert revoked.json()["error"]["message"] == "This API key was revoked"
    actions = await pool.fetch("SELECT action, actor, subject FROM admin_audit ORDER BY id")
    assert [tuple(row) for row in actions] == [
        ("key.create", "dev", key_id),
        ("key.revoke", "dev", key_id),
        ("key.revoke", "dev", key_id),
    ]


async def test_only_the_hash_is_stored(pool: Pool) -> None:
    key, info = await create_key(pool, "shop", [Scope.EMAILS_SEND, Scope.EMAILS_SEND], "me")
    assert info.scopes == ["emails:send"]
    row = await pool.fetchrow("SELECT * FROM api_keys")
    assert row["key_sha256"] == sha256(key.encode()).digest()
    assert key not in str(dict(row))


async def test_last_use_is_recorded_once_a_minute(database_url: str, pool: Pool) -> None:
    key, info = await create_key(pool, "shop", [Scope.EMAILS_READ], "me")
    last_used = "SELECT last_used_at FROM api_keys"
    async with serving(settings_for(database_url), routes=(read,)) as (client, _):
        await client.get("/read", headers=bearer(key))
        first = await eventually(lambda: pool.fetchval(last_used))
        await client.get("/read", headers=bearer(key))
    assert await pool.fetchval(last_used) == first
    await pool.execute("UPDATE api_keys SET last_used_at = now() - interval '61 seconds'")
    async with serving(settings_for(database_url), routes=(read,)) as (client, _):
        await client.get("/read", headers=bearer(key))
    # Stopping waits for what is being recorded.
    assert await pool.fetchval(last_used) > first
    assert [listed.id for listed in await list_keys(pool)] == [info.id]


async def test_bad_requests_name_their_field(database_url: str) -> None:
    async with serving(settings_for(database_url)) as (client, _):

        async def refused(body: Any) -> tuple[int, dict[str, Any]]:
            answer = await client.post("/api/v1/admin/keys", json=body, headers=ADMIN)
            return answer.status_code, answer.json()["error"]["details"][0]

        assert await refused({"name": "a", "scope": []}) == (
            400,
            {"field": "scope", "message": 'unknown field; did you mean "scopes"?'},
        )
        assert (await refused({"name": "a", "scopes": ["emails:sned"]}))[1]["field"] == "scopes[0]"
        assert (await refused({"name": "a", "scopes": []}))[1]["field"] == "scopes"
        assert (await refused({"name": "\n", "scopes": ["emails:send"]}))[1]["field"] == "name"
        assert (await refused({"scopes": ["emails:send"]}))[1] == {"field": "name", "message": "is required"}
        for unknown in ("nonsense", "00000000-0000-0000-0000-000000000000"):
            assert (await client.delete(f"/api/v1/admin/keys/{unknown}", headers=ADMIN)).status_code == 404


async def test_a_key_cannot_make_a_stronger_one(database_url: str, pool: Pool) -> None:
    key, _ = await create_key(pool, "writer", [Scope.ADMIN_WRITE], "me")
    async with serving(settings_for(database_url)) as (client, _):
        body = {"name": "stronger", "scopes": ["admin:write", "emails:send"]}
        answer = await client.post("/api/v1/admin/keys", json=body, headers=bearer(key))
    assert answer.status_code == 403
    assert "emails:send" in answer.json()["error"]["message"]


async def test_admin_write_includes_operating_and_reading(database_url: str, pool: Pool) -> None:
    writer, _ = await create_key(pool, "writer", [Scope.ADMIN_WRITE], "me")
    reader, _ = await create_key(pool, "reader", [Scope.ADMIN_READ], "me")
    async with serving(settings_for(database_url), routes=(operate,)) as (client, _):
        assert (await client.get("/operate", headers=bearer(writer))).status_code == 200
        assert (await client.get("/api/v1/admin/keys", headers=bearer(writer))).status_code == 200
        assert (await client.get("/operate", headers=bearer(reader))).status_code == 403


async def test_names_and_scopes_are_demanded(pool: Pool) -> None:
    with pytest.raises(ValueError, match="name"):
        await create_key(pool, " ", [Scope.EMAILS_SEND], "me")
    with pytest.raises(ValueError, match="scope"):
        await create_key(pool, "shop", [], "me")


async def test_revoking_keeps_the_first_time(pool: Pool) -> None:
    _, info = await create_key(pool, "shop", [Scope.EMAILS_SEND], "me")
    first = await revoke_key(pool, info.id)
    again = await revoke_key(pool, info.id)
    assert first is not None and again is not None
    assert first.revoked_at == again.revoked_at is not None
