"""A small rehearsal under a real Prometheus: what the dashboard's own queries answer after it.

Two real replicas with PostgreSQL and Valkey, and a mail server that refuses a few. Mails come all the time; there is a
burst, Redis is away for a while, a queue is paused, and a replica is killed and replaced.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import yaml

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.migrate import migrate
from monitoring.panels import ROWS, Panel
from tests.support.gateway import Cluster, gateways, running
from tests.support.gateway_process import GatewayProcess
from tests.support.prometheus import RULES, Prometheus, prometheus
from tests.support.smtp_server import ScriptedSmtp

SCRAPE_S = 1
WINDOW = "10s"  # what $__rate_interval is at this interval
STEP_S = 2.0
QUEUE = "email-queue"
Points = list[tuple[float, float]]


@dataclass
class Recording:
    """``series``: by panel's title, each legend with its points; times are seconds since the start. ``marks``: what was
    done when."""

    series: dict[str, list[tuple[str, Points]]] = field(default_factory=dict)
    marks: list[tuple[float, str]] = field(default_factory=list)
    length_s: float = 0.0


def record() -> Recording:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)  # the servers' user enters it
        postgres = EmbeddedPostgres(directory / "postgres", durable=False)
        valkey = EmbeddedValkey(directory / "valkey", arguments=["--maxmemory", "64mb"])
        postgres.start()
        valkey.start()
        try:
            return asyncio.run(_recorded(directory, postgres.dsn, valkey))
        finally:
            valkey.stop()
            postgres.stop()


async def _recorded(directory: Path, url: str, valkey: EmbeddedValkey) -> Recording:
    await migrate(url)
    smtp = ScriptedSmtp()
    smtp.script.delay_s = 0.12
    chance = random.Random(5)  # noqa: S311  which mails are refused, no secret
    smtp.script.rule = lambda phase, _subject, _seen: (
        (550, "no such user") if phase == "rcpt" and chance.random() < 0.02 else None
    )
    settings = {"redis_url": valkey.url, "EMAIL_RATE_MAX": "20", "EMAIL_QUEUE_CONCURRENCY": "5"}
    rules = yaml.safe_load(RULES.read_text("utf-8"))
    async with running(smtp), gateways(directory, url, smtp, **settings) as cluster:
        await asyncio.gather(cluster.start(), cluster.start())
        targets = [one.url.removeprefix("http://") for one in cluster.processes]
        async with prometheus(directory / "prometheus", targets, rules, f"{SCRAPE_S}s") as server:
            recording, started = Recording(), time.time()
            async with _customers(cluster):
                await _story(cluster, valkey, recording, started)
            recording.length_s = time.time() - started
            for _, panels in ROWS:
                for panel in panels:
                    recording.series[panel.title] = await _answers(server, panel, started, recording.length_s)
            return recording


async def _story(cluster: Cluster, valkey: EmbeddedValkey, recording: Recording, started: float) -> None:
    def mark(what: str) -> None:
        recording.marks.append((time.time() - started, what))

    await asyncio.sleep(30)
    mark("a burst of 500 mails")
    await _burst(cluster, 500)
    await asyncio.sleep(50)
    mark("Redis stops")
    valkey.stop()
    await asyncio.sleep(15)
    mark("Redis is back")
    valkey.start()
    await asyncio.sleep(15)
    mark("the queue is paused")
    await _queue(cluster, "pause")
    await asyncio.sleep(12)
    mark("it is resumed")
    await _queue(cluster, "resume")
    await asyncio.sleep(20)
    mark("a replica is killed")
    killed = cluster.processes[0]
    port = int(killed.url.rpartition(":")[2])
    cluster.retire(killed)
    killed.kill()
    await asyncio.sleep(8)
    mark("another is started")
    await _replaced(cluster, port)
    await asyncio.sleep(25)


async def _replaced(cluster: Cluster, port: int) -> GatewayProcess:
    process = await cluster.start(port=port, wait=False)
    await process.wait_ready()
    return process


async def _queue(cluster: Cluster, what: str) -> None:
    path = f"/api/v1/admin/queues/{QUEUE}/{what}"
    (await cluster.processes[0].admin.post(path)).raise_for_status()


async def _burst(cluster: Cluster, number: int) -> None:
    for start in range(0, number, 100):
        mails = [_mail(f"burst-{start + at}@example.com") for at in range(100)]
        (await cluster.processes[0].admin.post("/api/v1/emails/batch", json=mails)).raise_for_status()


def _mail(recipient: str) -> dict[str, str]:
    return {"from": "shop@shop.example", "to": recipient, "subject": "Your order", "text": "Thank you."}


@asynccontextmanager
async def _customers(cluster: Cluster) -> AsyncIterator[None]:
    """About eight mails a second, and people who look at theirs."""
    numbers = count(1)
    chance = random.Random(7)  # noqa: S311  when somebody calls, no secret

    async def call() -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.0, 0.25))
            number = next(numbers)
            client = cluster.processes[number % len(cluster.processes)].user
            try:
                if number % 4:
                    await client.post("/api/v1/emails", json=_mail(f"customer-{number}@example.com"))
                else:
                    await client.get("/api/v1/emails", params={"limit": "20"})
            except httpx.TransportError:
                continue  # that replica is gone: the next call asks another

    calling = asyncio.create_task(call())
    try:
        yield
    finally:
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)


async def _answers(server: Prometheus, panel: Panel, started: float, length_s: float) -> list[tuple[str, Points]]:
    found = []
    for query, legend in panel.queries:
        expression = query.replace("$__rate_interval", WINDOW).replace("$namespace", ".*").replace("$queue", ".*")
        for labels, points in await server.query_range(expression, started, started + length_s, STEP_S):
            name = re.sub(r"\{\{(\w+)\}\}", lambda label, of=labels: of.get(label[1], ""), legend)  # type: ignore[misc]
            found.append((name, [(at - started, value) for at, value in points if value == value]))  # noqa: PLR0124  NaN
    return found
