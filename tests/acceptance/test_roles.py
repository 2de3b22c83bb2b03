"""Roles of real processes on one ledger: what each does and does not, and what is odd about them together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway import __version__
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, gateways
from tests.support.gateway_process import GatewayProcess, token
from tests.support.smtp_server import ScriptedSmtp

EMAIL, RUNS = "email-queue", "orchestration-queue"
ODDITIES = "/api/v1/admin/workers/oddities"


@pytest.fixture
async def cluster(tmp_path: Path, database_url: str, smtp: ScriptedSmtp) -> AsyncIterator[Cluster]:
    async with gateways(tmp_path, database_url, smtp) as made:
        yield made


async def replicas(process: GatewayProcess) -> dict[int, dict[str, Any]]:
    """By process id."""
    found = (await process.admin.get("/api/v1/admin/workers")).json()["data"]
    return {replica["pid"]: replica for replica in found}


async def queues_of(process: GatewayProcess) -> set[str]:
    return {dict(labels)["queue"] for name, labels in await process.metrics() if name == "gateway_worker_slots"}


async def odd(process: GatewayProcess) -> dict[str, str]:
    found = (await process.admin.get(ODDITIES)).json()["data"]
    return {oddity["kind"]: oddity["message"] for oddity in found}


def command(process: GatewayProcess, cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": cluster.environment["PYTHONPATH"]}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments, "--url", process.url],
        cwd=cluster.directory,
        env=environment | {"GATEWAY_TOKEN": token("operator")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def ends_before_it_is_asked(pool: asyncpg.Pool[Any]) -> None:
    """A replica of this machine that is listed, and is gone when its drain is asked for."""
    await pool.execute(
        "INSERT INTO replicas (id, role, version, host, pid, mode, slots, started_at, seen_at)"
        " VALUES ('gone', 'api', $1, $2, 1, 'direct', '{}', '2020-01-01', now() + interval '1 hour')",
        *(__version__, socket.gethostname()),
    )
    await pool.execute(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        "CREATE TRIGGER gone BEFORE UPDATE ON replicas FOR EACH ROW WHEN (old.id = 'gone') EXECUTE FUNCTION nothing()"
    )


async def test_roles_divide_the_work_and_what_was_not_meant_is_seen(cluster: Cluster, pool: asyncpg.Pool[Any]) -> None:
    api = await cluster.start(DISABLE_BACKGROUND_WORKERS="true", SMTP_HOST="")
    mails = await cluster.start(GATEWAY_ROLE="worker", GATEWAY_QUEUES="email", JWT_SECRET="")
    runs = await cluster.start(GATEWAY_ROLE="worker", GATEWAY_QUEUES="orchestration-queue", SMTP_HOST="")

    assert [await queues_of(each) for each in (api, mails, runs)] == [set(), {EMAIL}, {RUNS}]
    shown = await replicas(api)
    assert {pid: (one["role"], set(one["slots"])) for pid, one in shown.items()} == {
        api.pid: ("all", set()),
        mails.pid: ("worker", {EMAIL}),
        runs.pid: ("worker", {RUNS}),
    }

    async def all_ready() -> bool:  # a ledger that is silent for a second is said to be
        return [await each.status("/health/ready") for each in (api, mails, runs)] == [200, 200, 200]

    await eventually(all_ready)
    assert [await each.status("/api/v1/emails") for each in (mails, runs)] == [404, 404], "no API there"
    mail = await cluster.submit(api)
    await eventually(lambda: cluster.messages_to(mail))
    assert [attempt["worker"] for attempt in (await cluster.show(mail, api))["attempts"]] == [shown[mails.pid]["id"]]
    assert await odd(api) == {}

    both = await cluster.start(EMAIL_ATTEMPTS="7")
    found = await odd(api)
    assert found.keys() == {"double_consumers", "mixed_settings"}
    assert "DISABLE_BACKGROUND_WORKERS=true" in found["double_consumers"]
    assert "EMAIL_ATTEMPTS is 3 (on 3), 7 (on 1)" in found["mixed_settings"]
    hashes = {pid: one["configurationHash"] for pid, one in (await replicas(api)).items()}
    assert hashes[both.pid] not in {hashes[mails.pid], hashes[api.pid]}
    processes = (api, mails, runs, both)
    lines = await eventually(lambda: [line for each in processes for line in lines_of(each, "double_consumers")], 30)
    assert len(lines) == 1, "the leader says it, once"

    async def measured() -> bool:
        kinds = ("double_consumers", "mixed_settings", "mixed_versions")
        return [await api.metric("gateway_replicas_odd", kind=kind) for kind in kinds] == [1, 1, 0]

    await eventually(measured, 30)
    listed = command(api, cluster, "replicas", "ls")
    assert (listed.returncode, listed.stderr.count("warning: ")) == (0, 2)
    upkeep = command(api, cluster, "maintenance", "ls").stdout
    assert "\tdaily at 01:00 UTC\t" in upkeep
    assert "\thourly at :20\t" in upkeep
    ran = command(api, cluster, "maintenance", "runs", "--duty", "prune jobs")
    assert ran.stdout.splitlines()[1].startswith("prune jobs\t")
    assert command(api, cluster, "maintenance", "runs", "--duty", "no").returncode == 2
    await ends_before_it_is_asked(pool)
    drained = command(api, cluster, "replicas", "drain", "--here", "--within", "60", "--json")
    assert [answer["withinS"] for answer in json.loads(drained.stdout)] == [60] * 4

    async def nothing_odd() -> bool:
        return await odd(api) == {}

    await eventually(nothing_odd, 20, "who drains is on the way out")
    assert command(api, cluster, "replicas", "drain").returncode == 2


def lines_of(process: GatewayProcess, event: str) -> list[str]:
    return [line for line in process.log.splitlines() if f'"event": "{event}"' in line or f'"event":"{event}"' in line]
