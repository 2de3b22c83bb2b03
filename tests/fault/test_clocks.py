"""Hosts whose wall clocks are hours apart: the ledger's time decides, so leases, delays, limits and order hold.

The processes of one machine share its clock; a preloaded library gives each another one.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.fault.test_processes import kinds
from tests.support.eventually import eventually
from tests.support.gateway import Accepted, Cluster, HoldingSmtp, leader
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import BOTH_MODES, LONG
from tests.support.smtp_server import HANG

pytestmark = [pytest.mark.fault, pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")]

SHIFT_S = 7200
# A mail that hangs does so to the end, and a process that stands still for two seconds keeps what it holds.
PATIENT = {"SMTP_TIMEOUT_S": "100", "EMAIL_TIMEOUT_MS": "110000", "LOCK_DURATION_MS": "6000"}
SOURCE = Path(__file__).with_name("clock_shift.c")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    library = str(tmp_path_factory.mktemp("clock") / "clock_shift.so")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, str(SOURCE), "-ldl"], check=True)
    return library


class Hosts:
    """``ahead``, which leads, and ``behind``: two hours each. An API key opens both, whatever their clocks say of
    tokens."""

    def __init__(self, cluster: Cluster, shim: str) -> None:
        self.cluster = cluster
        self._shim = shim

    async def start(self) -> None:
        chosen = await self.cluster.start(GATEWAY_QUEUES="orchestration", GATEWAY_ROLE="api")
        body = {"name": "clocks", "scopes": ["emails:send", "emails:read", "admin:read", "admin:operate"]}
        answer = await chosen.admin.post("/api/v1/admin/keys", json=body)
        assert answer.status_code == 201, answer.text
        self._key = answer.json()["data"]["key"]
        self.cluster.retire(chosen)
        chosen.terminate()
        assert await chosen.exit_code() == 0
        self.ahead = await self.shifted(SHIFT_S)
        await eventually(lambda: leader(self.cluster.environment["DATABASE_URL"]), 20)
        self.behind = await self.shifted(-SHIFT_S)

    async def shifted(self, seconds: int) -> GatewayProcess:
        process = await self.cluster.start(LD_PRELOAD=self._shim, CLOCK_SHIFT_S=str(seconds), **PATIENT)
        for client in (process.admin, process.user):
            client.headers["Authorization"] = f"Bearer {self._key}"
        told = datetime.fromisoformat((await process.user.get("/api/health")).json()["timestamp"])
        assert abs((told - datetime.now(UTC)).total_seconds() - seconds) < 60, "the library has no effect"
        return process


@pytest.fixture
async def hosts(cluster: Cluster, shim: str) -> Hosts:
    made = Hosts(cluster, shim)
    await made.start()
    return made


def from_now(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def jobs(cluster: Cluster) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(cluster.environment["DATABASE_URL"])
    try:
        return await connection.fetch("SELECT * FROM jobs ORDER BY claimed_at")
    finally:
        await connection.close()


async def job_of(cluster: Cluster, mail: Accepted, asked: GatewayProcess) -> dict[str, Any]:
    shown = await cluster.show(mail, asked)
    answer = await asked.admin.get(f"/api/v1/admin/jobs/{shown['jobId']}")
    found: dict[str, Any] = answer.json()["data"]
    return found


@pytest.mark.parametrize("mode", ["direct", pytest.param("queue", marks=LONG)])
async def test_A_B_leases_last_as_long_as_the_ledger_says(hosts: Hosts, smtp: HoldingSmtp) -> None:
    """Neither clock takes a mail from a holder that lives, nor leaves it with one that died."""
    cluster = hosts.cluster
    smtp.script.rule = lambda phase, _subject, seen: HANG if phase == "rcpt" and seen == 0 else None
    held = [*await cluster.submit_many(4, hosts.ahead), *await cluster.submit_many(4, hosts.behind)]
    await eventually(lambda: all(smtp.script.seen["rcpt", mail.recipient] for mail in held), 20)
    leases = {row["id"]: row["lease_until"] for row in await jobs(cluster)}

    async def renewed_beyond_the_first() -> bool:
        now = {row["id"]: row for row in await jobs(cluster)}
        return all((row["lease_until"] - leases[job]).total_seconds() > 4 for job, row in now.items())

    await eventually(renewed_beyond_the_first, 30)
    assert {(row["state"], row["stalls"]) for row in await jobs(cluster)} == {("active", 0)}
    cluster.retire(hosts.behind)
    hosts.behind.kill()
    of_killed = {row["id"] for row in await jobs(cluster) if row["worker"] and f"-{hosts.behind.pid}-" in row["worker"]}
    assert 3 <= len(of_killed) <= 5, "each has five slots"
    smtp.script.rule = None
    await hosts.shifted(SHIFT_S)

    async def rescued() -> bool:
        rows = [row for row in await jobs(cluster) if row["id"] in of_killed]
        return all((row["state"], row["stalls"]) == ("completed", 1) for row in rows)

    await eventually(rescued, 30)
    others = [row for row in await jobs(cluster) if row["id"] not in of_killed]
    assert {(row["state"], row["stalls"]) for row in others} <= {("active", 0)}


@LONG
@BOTH_MODES
async def test_delays_and_deadlines_are_the_ledgers(hosts: Hosts, smtp: HoldingSmtp) -> None:
    cluster = hosts.cluster
    both = (hosts.ahead, hosts.behind)
    due = datetime.now(UTC) + timedelta(seconds=3)
    mails = [await cluster.submit(process, scheduledAt=due.isoformat()) for process in both]
    now = [await cluster.submit(process) for process in both]
    await eventually(lambda: all(cluster.messages_to(mail) for mail in now))
    assert not any(cluster.messages_to(mail) for mail in mails), "not before their time"
    await eventually(lambda: all(cluster.messages_to(mail) for mail in mails), 15)
    assert datetime.now(UTC) - due < timedelta(seconds=10)
    assert all(row["claimed_at"] >= row["run_at"] for row in await jobs(cluster))
    late = await cluster.submit(hosts.behind, expiresAt=from_now(-3600))
    in_time = await cluster.submit(hosts.ahead, expiresAt=from_now(SHIFT_S + 3600))
    await eventually(lambda: cluster.has_status(late, "cancelled", hosts.behind))
    await eventually(lambda: cluster.has_status(in_time, "sent", hosts.ahead))
    assert not cluster.messages_to(late)


@LONG
@BOTH_MODES
async def test_D_E_limit_and_priority_hold_over_both(cluster: Cluster, shim: str, smtp: HoldingSmtp) -> None:
    most = 5
    cluster.environment |= {"EMAIL_RATE_MAX": str(most), "EMAIL_RATE_DURATION_MS": "1000"}
    hosts = Hosts(cluster, shim)
    await hosts.start()
    async with asyncio.TaskGroup() as group:
        for process in (hosts.ahead, hosts.behind):
            group.create_task(cluster.submit_many(10, process))
    urgent = await cluster.submit(hosts.behind, priority=10)
    await eventually(lambda: not cluster.undelivered(), 30)
    claims = [row["claimed_at"] for row in await jobs(cluster)]
    assert all((last - first).total_seconds() >= 1 for first, last in zip(claims, claims[most:], strict=False))
    at = [message.recipients[0] for message in smtp.messages].index(urgent.recipient)
    assert at < 19, "before what was accepted earlier"
    assert cluster.duplicates() == []


@LONG
@BOTH_MODES
async def test_G_a_retry_comes_after_its_backoff_on_either_host(hosts: Hosts, smtp: HoldingSmtp) -> None:
    cluster = hosts.cluster
    smtp.script.rule = lambda phase, _subject, seen: (450, "later") if phase == "rcpt" and seen == 0 else None
    mails = [await cluster.submit(process) for process in (hosts.ahead, hosts.behind)]
    for mail in mails:
        await eventually(lambda mail=mail: cluster.has_status(mail, "sent", hosts.ahead), 15)
        job = await job_of(cluster, mail, hosts.behind)
        assert (job["state"], job["attempts"], kinds(job)) == ("completed", 2, ["error"])
