"""Reading from a gateway that has much to do, or much to look through."""

from __future__ import annotations

import asyncpg
import msgspec

from bench.cost import Measure
from bench.gateway import MAIL, RAISED, Gateway, backlog_of, gateway, resume
from bench.http_load import Connection, flood, paced, percentile, percentiles, request
from bench.servers import Stores

_PER_S = 100

# n of 1..jobs: the oldest hundredth failed, the newest tenth waits, the rest is done. Ids are in order of time.
_ROW = "lpad(to_hex(1700000000000 + n), 12, '0') || substr(md5(n::text), 1, 20)"
_JOBS = f"""
INSERT INTO jobs (id, queue, task, state, args, max_attempts, created_at, finished_at, error)
SELECT ({_ROW})::uuid, 'email-queue', 'email.send', s.state, jsonb_build_object('n', n), 3, at,
  CASE WHEN s.state <> 'waiting' THEN at END, CASE WHEN s.state = 'failed' THEN 'connection refused' END
FROM generate_series(1, $1::int) AS n,
  LATERAL (SELECT to_timestamp(1700000000 + n) AS at,
    CASE WHEN n <= $1 / 100 THEN 'failed' WHEN n <= $1 * 0.9 THEN 'completed' ELSE 'waiting' END AS state) s
"""
_MAILS = f"""
INSERT INTO emails (id, job_id, owner, status, from_address, to_addresses, subject, text, message_id, created_at)
SELECT ({_ROW})::uuid, ({_ROW})::uuid, 'bench',
  CASE WHEN n <= $1 / 100 THEN 'failed' WHEN n <= $1 * 0.9 THEN 'sent' ELSE 'pending' END,
  'bench@example.com', ARRAY['user' || n / 3 || '@example.com'], 'Hello', 'x', '<' || n || '@bench>',
  to_timestamp(1700000000 + n)
FROM generate_series(1, $1::int) AS n
"""
_RECIPIENTS = """
INSERT INTO email_recipients (email_id, address, position, kind) SELECT id, to_addresses[1], 0, 'to' FROM emails
"""
_PAGES = {
    "metrics": "/metrics",
    "stats": "/api/v1/admin/email/queue",
    "queues": "/api/v1/admin/queues",
    "search_newest": "/api/v1/admin/queues/email/jobs?limit=50",
    "search_failed": "/api/v1/admin/queues/email/jobs?state=failed&limit=50",
    "search_error": "/api/v1/admin/jobs?error=refused&limit=50",
    "search_argument": "/api/v1/admin/jobs?q=args.n:5&limit=50",
    "search_id": "/api/v1/admin/jobs?q=id:018bcfe56c2a",
    "search_mails_failed": "/api/v1/emails?status=failed&limit=50",
    "search_mails_to": "/api/v1/emails?to=user1000@example.com",
}


async def scrape(on: Stores, *, scrapes: int, jobs: int) -> Measure:
    """GET /metrics, the admin's numbers and pages of searches, with that many jobs and mails in the ledger."""
    async with gateway(on, DISABLE_BACKGROUND_WORKERS="true") as made:
        ledger = await asyncpg.connect(made.ledger)
        for statement in (_JOBS, _MAILS):
            await ledger.execute(statement, jobs, timeout=300)
        await ledger.execute(_RECIPIENTS, timeout=300)
        for statement in ("VACUUM (ANALYZE)", "CHECKPOINT"):
            await ledger.execute(statement, timeout=300)
        await ledger.close()
        measured: Measure = {"jobs": jobs, "mails": jobs}
        for name, path in _PAGES.items():
            prepared = request("GET", path, made.token)
            await flood(made.port, prepared, 3, 1, 200)
            _, each = await flood(made.port, prepared, scrapes, 1, 200)
            measured |= percentiles(each, f"{name}_")
        return measured


async def http_under_load(on: Stores, *, mails: int, requests: int) -> Measure:
    """GET of one mail, 100 a second: with idle workers, and while 50 slots send a backlog without limit."""
    async with gateway(on, **RAISED) as made:
        prepared = request("GET", f"/api/v1/emails/{await _sent_mail(made)}", made.token)
        await paced(made.port, prepared, 50, _PER_S, 200)
        idle = await paced(made.port, prepared, requests, _PER_S, 200)
        await backlog_of(made, mails)
        await resume(made)
        busy = await paced(made.port, prepared, requests, _PER_S, 200)
        left = await _waiting(made)
        ratio = percentile(busy, 0.99) / percentile(idle, 0.99)
        return {
            "requests": requests,
            **percentiles(idle, "idle_"),
            **percentiles(busy, "busy_"),
            "ratio": round(ratio, 2),
            "saturated_to_the_end": left > 0,
        }


async def _sent_mail(made: Gateway) -> str:
    connection = await Connection.open(made.port)
    body = await connection.ask(request("POST", "/api/v1/emails", made.token, MAIL), 202)
    connection.close()
    answer: Measure = msgspec.json.decode(body)["data"]
    return str(answer["id"])


async def _waiting(made: Gateway) -> int:
    ledger = await asyncpg.connect(made.ledger)
    waiting: int = await ledger.fetchval("SELECT count(*) FROM jobs WHERE state = 'waiting'")
    await ledger.close()
    return waiting
