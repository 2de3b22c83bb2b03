"""The whole gateway in a process of its own: boot, memory, accepting mails, mails on the wire."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from bench.cost import Measure, cost
from bench.http_load import flood, paced, percentiles, request
from bench.servers import Stores, fresh_ledger
from gateway.access import Role
from gateway.dev_servers import free_port
from gateway.settings import load
from gateway.web.tokens import mint_token

SECRET = "bench-" + "0123456789abcdef" * 2  # of a gateway that lives for seconds on this machine
MAIL = json.dumps({"to": "you@example.com", "subject": "Hello", "text": "x" * 200}).encode()
RAISED = {"EMAIL_QUEUE_CONCURRENCY": "50", "EMAIL_RATE_MAX": "1000000", "SMTP_POOL_SIZE": "10"}


@dataclass
class Gateway:
    """``boot_s``: from the start of the process until it is ready."""

    port: int
    pid: int
    token: str
    boot_s: float
    ledger: str

    @property
    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    @property
    def rss_mib(self) -> int:
        return self.rss_kib // 1024


@cache
def sink_command() -> tuple[str, ...]:
    """The SMTP server that mails go to: in C, else (no compiler here) in Python, which takes more of the CPU."""
    compiler, source = shutil.which("cc"), Path(__file__).with_name("smtp_sink.c")
    if compiler is None:
        return (sys.executable, "-m", "bench.smtp_sink")
    directory = Path(tempfile.mkdtemp(prefix="gateway-bench-sink-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    program = str(directory / "smtp_sink")
    subprocess.run([compiler, "-O2", "-D_GNU_SOURCE", "-o", program, str(source)], check=True)
    return (program,)


@asynccontextmanager
async def gateway(on: Stores, **settings: str) -> AsyncIterator[Gateway]:
    """One process over a fresh ledger."""
    async with fresh_ledger(on) as url, replica(on, url, **settings) as made:
        yield made


@asynccontextmanager
async def replica(on: Stores, ledger: str, **settings: str) -> AsyncIterator[Gateway]:
    """One process over this ledger, with an SMTP server of its own."""
    port, smtp_port = free_port(), free_port()
    sink = subprocess.Popen([*sink_command(), str(smtp_port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert sink.stdin is not None
    assert sink.stdout is not None
    sink.stdout.readline()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "DATABASE_URL": ledger,
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
            loaded = load(environment).settings
            token = mint_token(loaded, "bench", Role.ADMIN, datetime.now(UTC) + timedelta(hours=1))
            yield Gateway(port, process.pid, token, time.perf_counter() - started, ledger)
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


async def boot(on: Stores, *, idle_s: float) -> Measure:
    """``ready_s``: from the start of the process to its first good /health/ready."""
    async with gateway(on) as made:
        await asyncio.sleep(idle_s)
        return {"ready_s": round(made.boot_s, 2), "idle_rss_mib": made.rss_mib}


async def accept(on: Stores, *, mails: int) -> Measure:
    """POST /api/v1/emails to its 202: as fast as 50 connections can, then 500 a second. No workers, so that only
    accepting is measured."""
    async with gateway(on, DISABLE_BACKGROUND_WORKERS="true") as made:
        prepared = request("POST", "/api/v1/emails", made.token, MAIL)
        await flood(made.port, prepared, 200, 50, 202)
        with cost(on, mails, of=made.pid) as measured:
            _, each = await flood(made.port, prepared, mails, 50, 202)
        steady = await paced(made.port, prepared, mails // 2, 500, 202)
        return {**measured, **percentiles(each), **percentiles(steady, "at_500_")}


async def end_to_end(on: Stores, *, mails: int) -> Measure:
    """Mails per second, limits raised, one process: ``accepted_and_sent_per_s`` from the first POST to the last one
    sent; ``wire_per_s``, and the CPU of one mail, with all of them accepted before the first is sent."""
    async with gateway(on, **RAISED) as made:
        ledger = await asyncpg.connect(made.ledger)
        prepared = request("POST", "/api/v1/emails", made.token, MAIL)
        started = time.perf_counter()
        await flood(made.port, prepared, mails, 50, 202)
        await none_left(ledger)
        both = time.perf_counter() - started
        await backlog_of(made, mails)
        with cost(on, mails, of=made.pid) as measured:
            await resume(made)
            await none_left(ledger)
        await ledger.close()
        sink = "python" if sink_command()[0] == sys.executable else "c"
        measured["wire_per_s"] = measured.pop("per_s")
        return {**measured, "accepted_and_sent_per_s": round(mails / both), "sink": sink, "rss_mib": made.rss_mib}


async def none_left(ledger: asyncpg.Connection[asyncpg.Record]) -> None:
    """Asks for the counts that the ledger keeps: counting rows would be part of what is measured."""
    left = "SELECT sum(n) FROM job_counts WHERE state IN ('waiting', 'delayed', 'active')"
    while await ledger.fetchval(left):
        await asyncio.sleep(0.05)
    if unsent := await ledger.fetchval("SELECT count(*) FROM emails WHERE status <> 'sent'"):
        raise RuntimeError(f"{unsent} mails were not sent")


async def backlog_of(made: Gateway, mails: int) -> None:
    """Pause the e-mail queue and have that many accepted."""
    await flood(made.port, request("POST", "/api/v1/admin/queues/email/pause", made.token), 1, 1, 200)
    await flood(made.port, request("POST", "/api/v1/emails", made.token, MAIL), mails, 50, 202)


async def resume(made: Gateway) -> None:
    await flood(made.port, request("POST", "/api/v1/admin/queues/email/resume", made.token), 1, 1, 200)
