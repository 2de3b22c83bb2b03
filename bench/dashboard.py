"""The dashboard's pages over a ledger of many jobs: how long the server takes, how much it sends."""

from __future__ import annotations

import gzip
import re
from urllib.parse import quote

import asyncpg

from bench.cost import Measure
from bench.gateway import gateway
from bench.http_load import Connection, flood, percentile, request
from bench.reads import JOBS
from bench.servers import Stores

_BASE = "/admin/queues"
_PAGES = {
    "first": "",
    "queue": "/queue/email-queue",
    "failed": "/queue/email-queue?status=failed",
    "error": f"/queue/email-queue?q={quote('error:refused')}",
    "argument": f"/jobs?q={quote('args.n:5')}",
    "nothing": f"/jobs?q={quote('error:nowhere')}",
    "all": "/jobs",
    "metrics": "/metrics",
    "replicas": "/replicas",
    "maintenance": "/maintenance",
}
_ASSET = re.compile(rf'(?:href|src)="({_BASE}/static/[^"]+)"')


async def dashboard(on: Stores, *, looks: int, jobs: int) -> Measure:
    """Each page by itself, ``looks`` times, one after the other. Bytes are those of the answer packed by gzip; of the
    first page with all that it loads too."""
    async with gateway(on, DISABLE_BACKGROUND_WORKERS="true") as made:
        ledger = await asyncpg.connect(made.ledger)
        for statement, given in ((JOBS, [jobs]), ("VACUUM (ANALYZE)", []), ("CHECKPOINT", [])):
            await ledger.execute(statement, *given, timeout=300)
        newest = await ledger.fetchval("SELECT id FROM jobs ORDER BY id DESC LIMIT 1")
        await ledger.close()
        measured: Measure = {"jobs": jobs}
        for name, path in {**_PAGES, "job": f"/queue/email-queue/{newest}"}.items():
            prepared = request("GET", _BASE + path, made.token)
            await flood(made.port, prepared, 3, 1, 200)
            _, each = await flood(made.port, prepared, looks, 1, 200)
            measured |= {f"{name}_p{p}_ms": percentile(each, p / 100) for p in (50, 95)}
            measured[f"{name}_bytes"] = len(gzip.compress(await _got(made.port, prepared)))
        measured["slowest_p95_ms"] = max(float(ms) for name, ms in measured.items() if name.endswith("_p95_ms"))
        measured["first_whole_bytes"] = await _whole(made.port, made.token)
        return measured


async def _whole(port: int, token: str) -> int:
    page = await _got(port, request("GET", _BASE, token))
    assets = sorted(set(_ASSET.findall(page.decode())))
    parts = [page, *[await _got(port, request("GET", path, token)) for path in assets]]
    return sum(len(gzip.compress(part)) for part in parts)


async def _got(port: int, prepared: bytes) -> bytes:
    connection = await Connection.open(port)
    try:
        return await connection.ask(prepared, 200)
    finally:
        connection.close()
