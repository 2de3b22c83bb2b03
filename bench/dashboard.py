"""The dashboard's pages over a ledger of many jobs: how long the server takes, how much it sends."""

from __future__ import annotations

import gzip
import re
from urllib.parse import quote

import asyncpg

from bench.cost import Measure
from bench.gateway import gateway
from bench.http_load import Connection, flood, percentile, request
from bench.servers import Stores

_BASE = "/admin/queues"
_PAGES = {
    "first": "",
    "queue": "/queue/email-queue",
    "failed": "/queue/email-queue?status=failed",
    "error": f"/queue/email-queue?q={quote('error:refused')}",
    "argument": f"/jobs?q={quote('args.n:5000')}",
    "nothing": f"/jobs?q={quote('error:nowhere')}",
    "all": "/jobs",
    "failures": "/failures",
    "metrics": "/metrics",
    "replicas": "/replicas",
    "maintenance": "/maintenance",
}
# n of 1..jobs, in order of time over the last 12 hours: each hundredth failed, the newest tenth
# waits, the rest is done. Ids are in order of time.
_JOBS = """
INSERT INTO jobs (id, queue, task, state, args, max_attempts, attempts, created_at, claimed_at, finished_at, error)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || substr(md5(n::text), 1, 20))::uuid,
  'email-queue', 'email.send', s.state, jsonb_build_object('n', n), 3, 1, at,
  CASE WHEN s.state <> 'waiting' THEN at END, CASE WHEN s.state <> 'waiting' THEN at + interval '90 ms' END,
  CASE WHEN s.state = 'failed' THEN 'SMTP 55' || n % 7 || ' connection refused by mx' || n END
FROM generate_series(1, $1::int) AS n,
  LATERAL (SELECT now() - ($1 - n) * interval '12 hours' / $1 AS at,
    CASE WHEN n > $1 * 0.9 THEN 'waiting' WHEN n % 100 = 0 THEN 'failed' ELSE 'completed' END AS state) s
"""
# Retention must not take them meanwhile.
_KEPT = {"COMPLETED_RETENTION_COUNT": "2000000", "COMPLETED_RETENTION_S": "8640000"}
_ASSET = re.compile(rf'(?:href|src)="({_BASE}/static/[^"]+)"')


async def dashboard(on: Stores, *, looks: int, jobs: int) -> Measure:
    """Each page by itself, ``looks`` times, one after the other. Bytes are those of the answer packed by gzip; of the
    first page with all that it loads too."""
    async with gateway(on, DISABLE_BACKGROUND_WORKERS="true", **_KEPT) as made:
        ledger = await asyncpg.connect(made.ledger)
        for statement, given in ((_JOBS, [jobs]), ("VACUUM (ANALYZE)", []), ("CHECKPOINT", [])):
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
