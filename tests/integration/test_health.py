"""Health: 503 for what makes this replica useless, "degraded" for what it lives without."""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.migrate import migrate
from tests.support.eventually import eventually
from tests.support.web import serving, settings_for


async def test_all_is_well_in_direct_mode(database_url: str) -> None:
    async with serving(settings_for(database_url)) as (client, _):
        assert (await client.get("/health/live")).json() == {"status": "ok"}
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        health = (await client.get("/health")).json()
        assert (health["status"], health["mode"]) == ("ok", "direct")
        assert health["checks"] == {"ledger": "ok", "redis": "unused", "traffic": "ok"}
        old = (await client.get("/api/health")).json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", old.pop("timestamp"))
    assert old == {"status": "ok", "jobQueue": {"enabled": False, "redis": "disconnected"}}


async def test_redis_lost_is_degraded_not_unavailable(
    database_url: str, own_valkey: Callable[[], EmbeddedValkey]
) -> None:
    valkey = own_valkey()
    async with serving(settings_for(database_url, redis_url=valkey.url)) as (client, runtime):

        async def connected() -> bool:
            old = (await client.get("/api/health")).json()
            del old["timestamp"]
            assert old == {"status": "ok", "jobQueue": {"enabled": True, "redis": "connected"}}
            return bool((await client.get("/health")).json()["checks"]["redis"] == "connected")

        await eventually(connected)

        valkey.stop()
        await eventually(lambda: runtime.mode == "direct")
        answer = await client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["mode"] == "direct"
        assert (await client.get("/health/ready")).status_code == 200
        old = (await client.get("/api/health")).json()
        assert (old["status"], old["jobQueue"]) == ("degraded", {"enabled": True, "redis": "disconnected"})

        valkey.start()

        async def healthy() -> bool:
            return bool((await client.get("/health")).json()["status"] == "ok")

        await eventually(healthy, 20)


async def test_missing_migrations_are_named(empty_database_url: str) -> None:
    async with serving(settings_for(empty_database_url), wait=False) as (client, _):
        missing = await client.get("/health")
        assert missing.status_code == 503
        assert missing.headers["retry-after"] == "5"
        assert missing.json()["status"] == "unavailable"
        assert "Run: gateway migrate" in missing.json()["checks"]["ledger"]
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200

        await migrate(empty_database_url)

        async def ready() -> bool:
            return (await client.get("/health/ready")).status_code == 200

        await eventually(ready)


async def test_postgres_lost_is_unavailable_and_alive(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    server = own_postgres()
    await migrate(server.dsn)
    async with serving(settings_for(server.dsn)) as (client, _):
        server.stop()
        lost = await client.get("/health")
        assert (lost.status_code, lost.json()["status"]) == (503, "unavailable")
        assert lost.json()["checks"]["ledger"].startswith("PostgreSQL does not answer")
        not_ready = await client.get("/health/ready")
        assert (not_ready.status_code, not_ready.json()["status"]) == (503, "not_ready")
        old = await client.get("/api/health")
        assert (old.status_code, old.json()["status"]) == (200, "degraded")
        assert (await client.get("/health/live")).status_code == 200
        server.start()


async def test_a_wrong_database_is_named_without_its_password(postgres_url: str) -> None:
    wrong = re.sub(r"//postgres@([^/]*)/\w+", r"//postgres:hunter2@\1/no_such_database", postgres_url)
    async with serving(settings_for(wrong), wait=False) as (client, _):
        answer = await client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["checks"]["ledger"] == "The database of DATABASE_URL does not exist"
    assert "hunter2" not in answer.text


async def test_draining_takes_no_new_traffic_and_says_why(database_url: str) -> None:
    async with serving(settings_for(database_url)) as (client, runtime):
        await runtime.drain(0)
        answer = await client.get("/health/ready")
        assert answer.status_code == 503
        assert "draining" in answer.json()["reason"]
        assert (await client.get("/health")).status_code == 200
