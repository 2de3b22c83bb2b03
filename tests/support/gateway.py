"""Real gateway processes over one ledger: started, called, killed, frozen and stopped by a test.

    async with gateways(tmp_path, database_url, smtp, redis_url=redis_url) as cluster:
        first, second = await cluster.start(), await cluster.start()
        mail = await cluster.submit(1)

When the block fails, the end of each process's log is printed, so that pytest shows it beside the failure.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx

import gateway
from gateway.infra.migrate import migrate
from tests.support.eventually import eventually
from tests.support.gateway_process import SECRET, GatewayProcess
from tests.support.smtp_server import Received, ScriptedSmtp

LEASE_MS = 3000  # the shortest that is allowed, so that a killed process's jobs are rescued in seconds
QUEUE = "email-queue"
Server = TypeVar("Server", bound=ScriptedSmtp)
_LOG_TAIL = 6000  # characters shown of each process


@dataclass(frozen=True)
class Accepted:
    """A mail that was answered with 202; ``recipient`` tells its message from all others."""

    id: str
    recipient: str
    mode: str
    job_id: str | None


@dataclass
class Cluster:
    """Processes that share a ledger, a Redis (or none) and an SMTP server."""

    directory: Path
    environment: dict[str, str]
    smtp: ScriptedSmtp
    processes: list[GatewayProcess] = field(default_factory=list)
    retired: list[GatewayProcess] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    refused: int = 0  # answers that accepted nothing, and calls that nobody answered, before a retry
    _numbers: count[int] = field(default_factory=lambda: count(1))

    async def start(self, *, port: int = 0, wait: bool = True, **settings: str) -> GatewayProcess:
        """``settings`` by environment name. ``wait`` False does not wait for readiness, and needs a ``port``."""
        number = len(self.processes) + len(self.retired) + 1
        process = GatewayProcess(self.directory, number, {**self.environment, **settings}, port)
        self.processes.append(process)
        if wait:
            await process.wait_ready()
        return process

    def retire(self, process: GatewayProcess) -> None:
        """Send it no further calls; it is about to go."""
        self.processes.remove(process)
        self.retired.append(process)

    async def submit(self, process: GatewayProcess | None = None, **fields: Any) -> Accepted:
        """Have one mail accepted by ``process`` (else by each in turn). As a careful client does, an answer of 503 or
        none at all is repeated with the same Idempotency-Key until it is known what became of the mail."""
        number = next(self._numbers)
        recipient = f"customer-{number}@example.com"
        body = {"from": "shop@shop.example", "to": recipient, "subject": f"Mail {number}", "text": "Hello", **fields}
        headers = {"Idempotency-Key": f"mail-{number}"}
        turns = count(number)

        async def accepted() -> dict[str, Any] | None:
            chosen = process or self.processes[next(turns) % len(self.processes)]
            try:
                answer = await chosen.user.post("/api/v1/emails", json=body, headers=headers)
            except httpx.TransportError:
                self.refused += 1
                return None
            if answer.status_code == 503 or answer.json().get("error", {}).get("code") in _RUNNING:
                assert "retry-after" in answer.headers
                self.refused += 1
                return None
            if answer.status_code != 202:
                raise RuntimeError(f"{answer.status_code}: {answer.text}")
            data: dict[str, Any] = answer.json()["data"]
            return data

        data = await eventually(accepted, 40, f"mail {number} is not accepted")
        assert data is not None
        mail = Accepted(data["id"], recipient, data["mode"], data["jobId"])
        self.accepted.append(mail)
        return mail

    async def submit_many(self, number: int, process: GatewayProcess | None = None, **fields: Any) -> list[Accepted]:
        return [await self.submit(process, **fields) for _ in range(number)]

    def messages_to(self, mail: Accepted) -> list[Received]:
        return [message for message in self.smtp.messages if mail.recipient in message.recipients]

    def undelivered(self) -> list[Accepted]:
        arrived = {recipient for message in self.smtp.messages for recipient in message.recipients}
        return [mail for mail in self.accepted if mail.recipient not in arrived]

    def duplicates(self) -> list[Accepted]:
        times = Counter(recipient for message in self.smtp.messages for recipient in message.recipients)
        return [mail for mail in self.accepted if times[mail.recipient] > 1]

    async def all_delivered(self, timeout: float = 20.0) -> None:
        """Every accepted mail is at the SMTP server, and every job has ended."""
        await eventually(lambda: not self.undelivered(), timeout, "mails are missing at the SMTP server")
        await eventually(self.is_settled, timeout, "jobs have not ended")

    async def is_settled(self) -> bool:
        stats = await self.stats()
        return not (stats["waiting"] or stats["active"] or stats["delayed"])

    async def stats(self, process: GatewayProcess | None = None) -> dict[str, int]:
        """The numbers of the admin's e-mail queue, as ``process`` (else any that answers) tells them."""
        for each in [process] if process else self.processes:
            try:
                answer = await each.admin.get("/api/v1/admin/email/queue")
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                found: dict[str, int] = answer.json()["data"]["stats"]
                return found
        raise AssertionError("no process answers with the queue's numbers")

    async def show(self, mail: Accepted, process: GatewayProcess | None = None) -> dict[str, Any]:
        """The mail with its events and attempts."""
        return await self._get(f"/api/v1/emails/{mail.id}?include=body,events,attempts", process)

    async def job(self, mail: Accepted) -> dict[str, Any]:
        """The mail's job with the errors of its attempts."""
        return await self._get(f"/api/v1/admin/jobs/{(await self.show(mail))['jobId']}", None)

    async def has_status(self, mail: Accepted, status: str, process: GatewayProcess | None = None) -> dict[str, Any]:
        """For ``eventually``: the mail, once it has this status."""
        found = await self.show(mail, process)
        assert found["status"] == status, found
        return found

    async def _get(self, path: str, process: GatewayProcess | None) -> dict[str, Any]:
        for each in [process] if process else self.processes:
            try:
                answer = await each.admin.get(path)
            except httpx.TransportError:
                continue
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()["data"]
            return found
        raise AssertionError(f"no process answers GET {path}")


_RUNNING = frozenset({"concurrent_idempotent_requests"})


def environment_of(
    database_url: str, *, smtp: tuple[str, int], redis_url: str | None = None, **settings: str
) -> dict[str, str]:
    """Of a process that runs the code under test. Leases and back-off are short, the rate limit is out of the way;
    ``settings``, by environment name, change that."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(Path(gateway.__file__).parents[1]),
        "DATABASE_URL": database_url,
        "JWT_SECRET": SECRET,
        "SMTP_HOST": smtp[0],
        "SMTP_PORT": str(smtp[1]),
        "SMTP_SECURE": "none",
        "EMAIL_RATE_MAX": "100000",
        "EMAIL_BACKOFF_MS": "100",
        "LOCK_DURATION_MS": str(LEASE_MS),
        "STALLED_INTERVAL_MS": "1000",
        "SHUTDOWN_GRACE_S": "10",
        "LOG_FORMAT": "json",
        **({"REDIS_URL": redis_url} if redis_url else {}),
        **settings,
    }


@asynccontextmanager
async def gateways(
    directory: Path, database_url: str, smtp: ScriptedSmtp, *, redis_url: str | None = None, **settings: str
) -> AsyncIterator[Cluster]:
    """No process yet. Their settings are those of ``environment_of``."""
    environment = environment_of(database_url, smtp=(smtp.host, smtp.port), redis_url=redis_url, **settings)
    cluster = Cluster(directory, environment, smtp)
    failed = True
    try:
        yield cluster
        failed = False
    finally:
        for process in [*cluster.processes, *cluster.retired]:
            await process.close()
            if failed:
                print(f"--- {process.log_path.name} ---\n{process.log[-_LOG_TAIL:]}")  # noqa: T201


class HoldingSmtp(ScriptedSmtp):
    """Takes messages and says nothing until ``answers`` is set: the sender cannot know that its mail was accepted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.answers = asyncio.Event()

    async def keep(self, message: Received) -> None:
        await super().keep(message)
        await self.answers.wait()


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def migrated(database_url: str) -> str:
    """Bring the database to this version's schema; answers its URL."""
    await migrate(database_url)
    return database_url


async def leader(database_url: str) -> str | None:
    """The replica that does the chores."""
    connection = await asyncpg.connect(database_url)
    try:
        found: str | None = await connection.fetchval("SELECT holder FROM leases WHERE name = 'maintenance'")
        return found
    finally:
        await connection.close()
