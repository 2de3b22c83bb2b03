"""``gateway doctor`` on real servers: what it sees, what it advises, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis
import yaml

import gateway
from gateway.cli.doctor import examined
from gateway.cli.doctor.findings import Finding, Level, Verdict, verdict
from gateway.cli.doctor.ledger import _clock
from gateway.cli.doctor.machine import room
from gateway.cli.doctor.outside import providers
from gateway.cli.instance import DevFile, SmtpAddress
from gateway.dev_servers import EmbeddedValkey
from gateway.settings import Settings
from tests.support.eventually import eventually
from tests.support.gateway import running
from tests.support.openai_server import openai_server, unauthorized
from tests.support.prometheus import RULES
from tests.support.proxy import Proxy
from tests.support.smtp_server import ScriptedSmtp
from tests.support.web import SECRET, settings_for

Found = dict[str, Finding]
SILENT_S = 2.0


@pytest.fixture
async def smtp() -> AsyncIterator[ScriptedSmtp]:
    async with running(ScriptedSmtp()) as server:
        yield server


async def examine(settings: Settings, prometheus: str | None = None, limit_s: float = 30.0) -> Found:
    found = await examined(settings, prometheus, limit_s)
    return {finding.name: finding for finding in found}


def told(found: Found, level: Level) -> set[str]:
    return {name for name, finding in found.items() if finding.level is level}


async def replica(pool: asyncpg.Pool[Any], name: str, role: str, *queues: str, **differs: Any) -> None:
    slots = {queue: {"slots": 2, "busy": 0} for queue in queues}
    await pool.execute(
        "INSERT INTO replicas (id, role, version, host, pid, mode, slots, configuration)"
        " VALUES ($1, $2, '1', 'h', 1, 'queue', $3, $4)",
        *(name, role, slots, differs),
    )


async def test_a_sound_installation(
    database_url: str, redis_url: str, smtp: ScriptedSmtp, pool: asyncpg.Pool[Any]
) -> None:
    await replica(pool, "a", "all", "email-queue", "orchestration-queue")
    async with openai_server() as models:
        settings = settings_for(
            database_url,
            redis_url=redis_url,
            smtp_host=smtp.host,
            smtp_port=smtp.port,
            smtp_secure="none",
            openai_api_key="sk-test-0123456789",
            openai_base_url=models.url,
        )
        found = await examine(settings)
    assert told(found, Level.PROBLEM) <= {"durability"}, found
    # The test's own PostgreSQL does without fsync; its server of models lists none.
    assert {"postgresql", "clock", "migrations", "redis", "smtp", "replicas", "queues"} <= told(found, Level.OK)
    assert "answers in" in found["postgresql"].seen
    assert "noeviction, AOF off" in found["redis"].seen
    assert "a (all, 1, queue)" in found["replicas"].seen
    assert smtp.messages == []


@pytest.mark.parametrize(
    ("demo", "level", "seen"),
    [(True, Level.OK, "the demonstration of gateway dev answers"), (False, Level.SKIPPED, "gateway dev has the key")],
    ids=["demonstration", "key"],
)
async def test_the_models_of_gateway_dev_are_what_it_says_itself(
    database_url: str, demo: bool, level: Level, seen: str
) -> None:
    address = SmtpAddress("127.0.0.1", 1)
    words = {
        "url": "http://127.0.0.1:1",
        "admin_token": "a",
        "user_token": "u",
        "inbox_url": "http://127.0.0.1:1/inbox",
    }
    dev = DevFile(database_url=database_url, redis_url=None, smtp=address, pid=os.getpid(), demo_models=demo, **words)
    (found,) = await providers(settings_for(database_url), dev)
    assert (found.level, seen in found.seen) == (level, True)
    (alone,) = await providers(settings_for(database_url))
    assert (alone.level, "not_configured" in alone.seen) == (Level.SKIPPED, True)


async def test_what_is_away_is_told_at_once_and_no_secret_is_shown(database_url: str) -> None:
    away = {"smtp_port": 1, "smtp_user": "u", "smtp_password": "sesame-smtp"}
    away |= {"redis_url": "redis://:sesame-redis@127.0.0.1:1", "openai_base_url": "http://127.0.0.1:1/v1"}
    settings = settings_for("postgresql://u:sesame-db@127.0.0.1:1/x", openai_api_key="sk-sesame-openai", **away)
    found = await examine(settings, "http://u:sesame-prometheus@127.0.0.1:1")
    assert told(found, Level.PROBLEM) >= {"postgresql", "redis", "smtp", "models: openai", "alerts"}
    assert all(finding.todo for finding in found.values() if finding.level is Level.PROBLEM)
    assert "each mail fails after 3 attempts" in found["smtp"].seen  # as failures.md says of a server that is away
    assert "sesame" not in str(found)
    assert verdict(found.values()) is Verdict.PROBLEMS


async def test_a_silent_server_costs_its_time_limit_and_no_more(database_url: str) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        began = time.monotonic()
        found = await examine(settings_for(database_url, smtp_port=port), limit_s=SILENT_S)
        assert time.monotonic() - began < SILENT_S + 6
    assert (found["smtp"].level, found["smtp"].seen) == (Level.PROBLEM, f"gave no answer within {SILENT_S:g} s")
    assert found["migrations"].level is Level.OK


async def test_a_ledger_that_falls_silent_costs_its_time_limit_and_no_more(
    database_url: str, pool: asyncpg.Pool[Any]
) -> None:
    at = urlsplit(database_url)
    assert at.hostname is not None
    assert at.port is not None
    async with Proxy(at.hostname, at.port) as proxy, pool.acquire() as lock, lock.transaction():
        await lock.execute("LOCK TABLE schema_migrations")  # so that the examination stands still half way
        url = database_url.replace(f"{at.hostname}:{at.port}", f"127.0.0.1:{proxy.port}")
        examining = asyncio.create_task(examine(settings_for(url), limit_s=3.0))
        waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'schema_migrations'::regclass"
        await eventually(lambda: pool.fetchval(waits))
        proxy.stall()
        async with asyncio.timeout(20):
            found = await examining
    assert (found["postgresql"].level, found["postgresql"].seen) == (Level.PROBLEM, "gave no answer within 3 s")


async def test_a_schema_behind_and_one_ahead(database_url: str, pool: asyncpg.Pool[Any]) -> None:
    newer = "9999_added_later"
    await pool.execute("INSERT INTO schema_migrations VALUES ($1, 'x', '9.9', now(), 0)", newer)
    found = await examine(settings_for(database_url))
    assert found["migrations"].level is Level.OK
    assert newer in found["migrations"].seen
    await pool.execute("DELETE FROM schema_migrations WHERE name = $1 OR name LIKE '0018%'", newer)
    found = await examine(settings_for(database_url))
    assert found["migrations"].level is Level.PROBLEM
    assert "Run: gateway migrate" in found["migrations"].seen


async def test_what_the_ledger_tells_of_replicas_queues_and_upkeep(database_url: str, pool: asyncpg.Pool[Any]) -> None:
    nobody = await examine(settings_for(database_url))
    assert (nobody["replicas"].level, "queues" in nobody) == (Level.WARNING, False)
    await pool.execute("INSERT INTO job_counts VALUES ('orchestration-queue', 'waiting', 7)")
    assert (await examine(settings_for(database_url)))["queues"].level is Level.PROBLEM, "7 jobs wait for nobody"
    await replica(pool, "a", "all", "email-queue", EMAIL_RATE_MAX="10")
    await replica(pool, "w", "worker", "email-queue", EMAIL_RATE_MAX="20")
    await pool.execute("INSERT INTO maintenance_runs (duty, tick, replica) VALUES ('prune audit', now(), 'a')")
    begun = (await examine(settings_for(database_url)))["maintenance"]
    assert (begun.level, begun.seen) == (Level.OK, "0 duties ended well when they last ran, 1 under way")
    await pool.execute(
        "INSERT INTO maintenance_runs (duty, tick, replica, finished_at, error)"
        " VALUES ('prune runs', now(), 'a', now(), 'ValueError: no')"
    )
    found = await examine(settings_for(database_url, database_pool_size=500))
    assert told(found, Level.WARNING) >= {"double consumers", "mixed settings", "maintenance"}
    assert "EMAIL_RATE_MAX is 10 (on 1), 20 (on 1)" in found["mixed settings"].seen
    assert "7 jobs wait in orchestration-queue" in found["queues"].seen
    assert found["queues"].level is found["connections"].level is Level.PROBLEM


async def test_a_user_without_privileges_counts_the_connections_of_others(
    database_url: str, pool: asyncpg.Pool[Any]
) -> None:
    """Of their sessions PostgreSQL tells it little, and whether they leave room is what it must know."""
    user = f"plain_{os.getpid()}"
    await pool.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'plain' IN ROLE pg_read_all_data")
    try:
        others = [await asyncpg.connect(database_url) for _ in range(3)]
        plain = urlsplit(database_url)
        url = plain._replace(netloc=f"{user}:plain@{plain.hostname}:{plain.port}").geturl()
        found = await examine(settings_for(url))
        for one in others:
            await one.close()
    finally:
        await pool.execute(f"DROP ROLE {user}")
    assert int(found["connections"].seen.split(" of ")[0]) >= 5, "the pool's, these three, its own"
    assert "pg_read_all_stats" in found["transactions"].seen


async def test_a_redis_that_takes_a_second_to_answer_is_not_one_that_is_away(
    database_url: str, own_valkey: Callable[[], EmbeddedValkey]
) -> None:
    """So long may a busy machine let it wait, or be at something else itself."""
    server = own_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("CLIENT", "PAUSE", "1200", "ALL")
    found = await examine(settings_for(database_url, redis_url=server.url))
    assert (found["redis"].level, "does not answer" in found["redis"].seen) == (Level.OK, False)


async def test_a_redis_that_may_lose_jobs_or_cannot_write(
    database_url: str, own_valkey: Callable[..., EmbeddedValkey]
) -> None:
    server = own_valkey(appendonly=True)
    settings = settings_for(database_url, redis_url=server.url)
    assert "AOF on" in (await examine(settings))["redis"].seen
    with redis.Redis.from_url(server.url) as client:
        shutil.rmtree(client.config_get("dir")["dir"])  # no snapshot can be written there
        client.bgsave()
        await eventually(lambda: client.info()["rdb_last_bgsave_status"] == "err")
        client.config_set("maxmemory", client.info()["used_memory"] + 10_000)
        found = await examine(settings)
        client.config_set("maxmemory-policy", "allkeys-lru")
        unfit = await examine(settings)
    assert (found["redis files"].level, found["redis memory"].level) == (Level.PROBLEM, Level.WARNING)
    assert unfit["redis"].level is Level.PROBLEM
    assert "noeviction" in unfit["redis"].seen


async def test_a_key_that_is_refused(database_url: str) -> None:
    async with openai_server() as models:
        models.always(lambda _call: unauthorized())
        key = "sk-sesame-0123456789"
        found = await examine(settings_for(database_url, openai_api_key=key, openai_base_url=models.url))
    assert found["models: openai"].level in (Level.PROBLEM, Level.SKIPPED)
    assert key not in str(found)


@pytest.mark.parametrize(
    ("skew_s", "level"),
    [(0.2, Level.OK), (-3.0, Level.WARNING), (90.0, Level.PROBLEM)],
    ids=["even", "seconds", "minutes"],
)
def test_clocks(skew_s: float, level: Level) -> None:
    assert _clock(skew_s).level is level


@pytest.mark.parametrize(
    ("free", "total", "level"),
    [(5e9, 50e9, Level.OK), (0.9e9, 10e9, Level.WARNING), (50e9, 2e12, Level.WARNING), (0.26e9, 0.268e9, Level.OK)],
    ids=["enough", "less than a gigabyte", "few per cent", "a container's own"],
)
def test_room_on_the_disk(free: float, total: float, level: Level) -> None:
    assert room("/var/lib", int(free), int(total)).level is level


def run(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    python_path = str(Path(gateway.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "gateway", "doctor", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": python_path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_as_json_and_as_a_table(tmp_path: Path, database_url: str, smtp: ScriptedSmtp) -> None:
    good = {"DATABASE_URL": database_url, "JWT_SECRET": SECRET, "GATEWAY_ROLE": "api"}
    ended = run(tmp_path, "--json", **good)
    assert (ended.returncode, ended.stderr) in [(1, ""), (2, "")], "fsync is off in tests"
    answer = json.loads(ended.stdout)
    assert answer["status"] in ("warnings", "problems")
    assert {finding["name"] for finding in answer["findings"]} >= {"settings", "postgresql", "migrations", "disk"}
    bad = run(tmp_path, DATABASE_URL="mysql://no")
    assert bad.returncode == Verdict.PROBLEMS
    assert bad.stdout.startswith("check\tresult\tseen\tto do\nsettings\tproblem\t")


async def test_prometheus_and_its_rules(database_url: str) -> None:
    async def serve(rules: list[dict[str, Any]]) -> Finding:
        body = json.dumps({"data": {"groups": [{"rules": rules}]}}).encode()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "
            writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return (await examine(settings_for(database_url), url))["alerts"]

    shipped = [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]
    alerts = {rule["alert"]: rule["expr"] for rule in shipped if "alert" in rule}
    ours = [{"name": name, "query": alerts[name], "type": "alerting", "health": "ok"} for name in sorted(alerts)]
    firing = (await serve([alert | {"state": "firing"} for alert in ours])).seen
    assert firing == f"{len(alerts)} alerts are loaded, firing now: {', '.join(sorted(alerts))}"
    alert = ours[0] | {"name": "GatewayDown"}
    other = alert | {"query": "rabbitmq_queue_messages > 5 or up == 0"}
    assert (await serve([other])).level is Level.PROBLEM
    assert (await serve([alert | {"state": "inactive"}, other])).level is Level.OK
    assert "GatewayDown" in (await serve([alert | {"state": "firing"}])).seen
    assert "fail" in (await serve([alert | {"health": "err"}])).seen
