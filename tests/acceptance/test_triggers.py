"""Real processes: ticks that two of them race for, one that is killed, a webhook signed as documented."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.eventually import eventually
from tests.support.gateway import Cluster, gateways
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import WITH_REDIS, WITHOUT_REDIS, WITHOUT_REDIS_ALWAYS
from tests.support.openai_server import openai_server
from tests.support.people import data
from tests.support.smtp_server import ScriptedSmtp

PATH = "/api/v1/orchestration"
PAGE = Path(__file__).parents[2] / "docs" / "triggers.md"
CRON_SECRET = "kq8WmZ2v7Yt4Rb1Nc6Hs9Jd3Lf5Gx0Pa"


@pytest.fixture
async def cluster(
    tmp_path: Path, database_url: str, smtp: ScriptedSmtp, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    async with openai_server() as provider:
        settings = {
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": provider.url,
            "ORCHESTRATION_RATE_MAX": "100000",
            "CRON_SECRET": CRON_SECRET,
        }
        async with gateways(tmp_path, database_url, smtp, redis_url=mode_redis_url, **settings) as made:
            yield made


async def project_of(gateway: GatewayProcess, name: str = "Shop") -> str:
    made = data(await gateway.user.post("/api/v1/projects", json={"name": name}), 201)
    return str(made["id"])


async def scheduled(gateway: GatewayProcess, project: str, agent: str) -> str:
    body = {"projectId": project, "agentSlug": agent, "preset": "monthly"}
    return str(data(await gateway.user.post(f"{PATH}/schedules", json=body), 201)["id"])


async def judged(gateway: GatewayProcess, schedule: str) -> list[dict[str, Any]]:
    answer = await gateway.user.get(f"{PATH}/schedules/{schedule}")
    found: list[dict[str, Any]] = answer.json()["ticks"]
    return found


@WITHOUT_REDIS_ALWAYS
async def test_two_processes_make_one_run_of_each_tick(cluster: Cluster, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    first, second = await cluster.start(), await cluster.start()
    schedules = [await scheduled(first, await project_of(second), "general") for _ in range(6)]
    await pool.execute("UPDATE schedules SET next_at = date_trunc('second', now())")
    for schedule in schedules:
        (tick,) = await eventually(lambda schedule=schedule: judged(first, schedule), 40)
        assert (tick["skipped"], tick["reason"]) == (None, None)
    assert await pool.fetchval("SELECT count(*) FROM runs") == len(schedules)

    async def all_ended() -> bool:
        return bool(await pool.fetchval("SELECT every(status = 'completed') FROM runs"))

    await eventually(all_ended, 40)


@WITHOUT_REDIS
async def test_what_a_killed_process_was_judging_is_judged_once(
    cluster: Cluster, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    """It dies with the tick counted and the run not yet committed: a lock of the test holds it there."""
    first = await cluster.start()
    schedule = await scheduled(first, await project_of(first), "general")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE run_schedule_ticks IN EXCLUSIVE MODE")
        await pool.execute("UPDATE schedules SET next_at = date_trunc('second', now())")

        async def waits() -> bool:
            held = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'run_schedule_ticks'::regclass"
            return bool(await pool.fetchval(held))

        await eventually(waits, 30)
        cluster.retire(first)
        first.kill()
    second = await cluster.start()
    (tick,) = await eventually(lambda: judged(second, schedule), 30)
    assert (tick["skipped"], await pool.fetchval("SELECT count(*) FROM runs")) == (None, 1)
    row = await pool.fetchrow("SELECT runs_that_day, last_run_id FROM run_schedules")
    assert (row["runs_that_day"], str(row["last_run_id"])) == (1, tick["runId"])


def example() -> str:
    """The signing of the documentation."""
    found = re.search(r"<!-- run by .*? -->\n```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


async def shell(script: str, **variables: str) -> str:
    environment = {"PATH": os.environ["PATH"], **variables}
    running = await asyncio.create_subprocess_exec("sh", "-ec", script, env=environment, stdout=asyncio.subprocess.PIPE)
    said, _ = await running.communicate()
    assert running.returncode == 0
    return said.decode()


@WITH_REDIS
async def test_a_webhook_signed_as_documented_starts_a_run(cluster: Cluster) -> None:
    gateway = await cluster.start()
    body = {"projectId": await project_of(gateway), "name": "builds", "agentSlug": "general", "events": ["build"]}
    hook = data(await gateway.user.post(f"{PATH}/triggers", json=body), 201)
    payload = '{"event": "build", "branch": "main", "note": "it\'s 100 % done"}'
    url = gateway.url + hook["path"]
    said = await shell(example(), URL=url, SECRET=hook["secret"], BODY=payload)
    assert '"success":true' in said
    again = await shell(example(), URL=url, SECRET=hook["secret"], BODY=payload)
    assert '"duplicate":true' in again
    assert "invalid_signature" in await shell(example(), URL=url, SECRET="whsec_wrong", BODY=payload)
    shown = (await gateway.user.get(f"{PATH}/triggers/{hook['id']}")).json()
    (delivery,) = shown["deliveries"]
    assert (delivery["deliveryId"], delivery["event"]) == ("build-1042", "build")

    async def ended() -> dict[str, Any]:
        run: dict[str, Any] = data(await gateway.user.get(f"{PATH}/jobs/{delivery['runId']}"))
        assert run["status"] == "completed", run
        return run

    run = await eventually(ended, 40)
    assert (run["triggeredBy"], run["context"]["webhook"]["branch"]) == ("webhook", "main")
    assert hook["secret"] not in gateway.log


@WITHOUT_REDIS
async def test_a_cron_job_of_the_installation_starts_batches(cluster: Cluster) -> None:
    gateway = await cluster.start()
    projects = [await project_of(gateway, name) for name in ("Shop", "Blog")]
    headers = {"Authorization": f"Bearer {CRON_SECRET}"}
    answer = await gateway.user.post("/api/v1/workers/orchestration/batch", headers=headers)
    started = data(answer, 202)["started"]
    assert sorted(one["projectId"] for one in started) == sorted(projects)
    assert data(await gateway.user.get("/api/v1/workers/health", headers=headers))["status"] == "ok"
    assert (await gateway.admin.post("/api/v1/workers/orchestration/batch")).status_code == 401
    assert CRON_SECRET not in gateway.log
