"""The whole gateway in a process of its own: boot, memory, accepting mails, mails on the wire, scrapes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from bench.http_load import flood, percentile, request
from bench.servers import Stores, fresh_ledger
from gateway.access import Role
from gateway.dev_servers import free_port
from gateway.settings import load
from gateway.web.tokens import mint_token

SECRET = "bench-" + "0123456789abcdef" * 2  # of a gateway that lives for seconds on this machine
MAIL = json.dumps({"to": "you@example.com", "subject": "Hello", "text": "x" * 200}).encode()
Measure = dict[str, Any]


@dataclass
class Gateway:
    """``boot_s``: from the start of the process until it is ready."""

    port: int
    pid: int
    token: str
    boot_s: float
    ledger: str

    @property
    def rss_mib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@asynccontextmanager
async def gateway(on: Stores, **settings: str) -> AsyncIterator[Gateway]:
    async with fresh_ledger(on) as url:
        port, smtp_port = free_port(), free_port()
        sink = subprocess.Popen(
            [sys.executable, "-m", "bench.smtp_sink", str(smtp_port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert sink.stdin is not None
        assert sink.stdout is not None
        sink.stdout.readline()
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "DATABASE_URL": url,
            "REDIS_URL": on.redis_url,
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "JWT_SECRET": SECRET,
            "LOG_LEVEL": "warning",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(smtp_port),
            "SMTP_SECURE": "none",
            "SMTP_FROM_EMAIL": "bench@example.com",
            **settings,
        }
        with tempfile.TemporaryFile() as said:
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve"], env=environment, stdout=said, stderr=subprocess.STDOUT
            )
            try:
                await _ready(port, process, said)
                settings = load(environment).settings
                token = mint_token(settings, "bench", Role.ADMIN, datetime.now(UTC) + timedelta(hours=1))
                yield Gateway(port, process.pid, token, time.perf_counter() - started, url)
            finally:
                process.terminate()
                process.wait(30)
                sink.stdin.close()
                sink.wait(10)


async def _ready(port: int, process: subprocess.Popen[bytes], said: Any) -> None:
    while process.poll() is None:
        with suppress(OSError, asyncio.IncompleteReadError, RuntimeError):
            await flood(port, request("GET", "/health/ready", ""), 1, 1, 200)
            return
        await asyncio.sleep(0.01)
    said.seek(0)
    raise RuntimeError(said.read().decode())


async def boot(on: Stores) -> Measure:
    async with gateway(on) as made:
        await asyncio.sleep(2)
        return {"ready_s": round(made.boot_s, 2), "idle_rss_mib": made.rss_mib}


async def accept(on: Stores, *, mails: int = 5000) -> Measure:
    """POST /api/v1/emails to its 202, 50 connections; no workers, so that only accepting is measured."""
    async with gateway(on, DISABLE_BACKGROUND_WORKERS="true") as made:
        prepared = request("POST", "/api/v1/emails", made.token, MAIL)
        took, each = await flood(made.port, prepared, mails, 50, 202)
        return {
            "mails": mails,
            "per_s": round(mails / took),
            "p50_ms": percentile(each, 0.5),
            "p99_ms": percentile(each, 0.99),
        }


async def end_to_end(on: Stores, *, mails: int = 3000) -> Measure:
    """Mails per second from the first POST to the last one sent, limits raised, one process."""
    raised = {"EMAIL_QUEUE_CONCURRENCY": "50", "EMAIL_RATE_MAX": "1000000", "SMTP_POOL_SIZE": "10"}
    async with gateway(on, **raised) as made:
        prepared = request("POST", "/api/v1/emails", made.token, MAIL)
        started = time.perf_counter()
        await flood(made.port, prepared, mails, 50, 202)
        ledger = await asyncpg.connect(made.ledger)
        while await ledger.fetchval("SELECT count(*) FROM emails WHERE status = 'sent'") < mails:
            await asyncio.sleep(0.02)
        took = time.perf_counter() - started
        await ledger.close()
        return {"mails": mails, "per_s": round(mails / took), "rss_mib": made.rss_mib}


async def scrape(on: Stores, *, scrapes: int = 200, jobs: int = 100_000) -> Measure:
    """GET /metrics and the admin numbers in front of a backlog."""
    async with gateway(on, DISABLE_BACKGROUND_WORKERS="true") as made:
        ledger = await asyncpg.connect(made.ledger)
        await ledger.execute(
            "INSERT INTO jobs (id, queue, task, state, args, max_attempts) "
            "SELECT gen_random_uuid(), 'email-queue', 'email.send', 'waiting', '{}', 3 FROM generate_series(1, $1)",
            jobs,
            timeout=120,
        )
        await ledger.close()
        measured: Measure = {"jobs": jobs}
        for name, path in (("metrics", "/metrics"), ("stats", "/api/v1/admin/email/queue")):
            _, each = await flood(made.port, request("GET", path, made.token), scrapes, 1, 200)
            measured |= {f"{name}_p50_ms": percentile(each, 0.5), f"{name}_p99_ms": percentile(each, 0.99)}
        return measured
