"""Collecting the evidence of one run, past the gateways (SQL, the mail server's memory) and through them (HTTP)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from gateway.infra.postgres import connect
from tests.fault.audit import Evidence, Job, Mail, Move, Told
from tests.fault.chaos_world import World
from tests.support.eventually import eventually

_OPEN = """
SELECT (SELECT count(*) FROM jobs WHERE state IN ('waiting', 'delayed', 'active'))
     + (SELECT count(*) FROM emails WHERE status IN ('scheduled', 'pending', 'processing'))
"""
_PAUSED = (
    "SELECT EXISTS (SELECT FROM queues WHERE paused_at IS NOT NULL AND coalesce(paused_until, 'infinity') > now())"
)
_MAILS = """
SELECT e.id, e.status, e.message_id, e.uncertain, j.state, j.attempts, j.max_attempts, j.stalls,
  (SELECT jsonb_object_agg(r.address, r.status) FROM email_recipients r WHERE r.email_id = e.id) AS recipients,
  ARRAY(SELECT a.outcome FROM email_attempts a WHERE a.email_id = e.id ORDER BY a.fence) AS outcomes
FROM emails e LEFT JOIN jobs j ON j.id = e.job_id
"""
_MISCOUNTED = """
SELECT queue, state, coalesce(counted.n, 0) AS counted, coalesce(there.n, 0) AS there
FROM (SELECT queue, state, sum(n) AS n FROM job_counts GROUP BY 1, 2) counted
FULL JOIN (SELECT queue, state, count(*) AS n FROM jobs GROUP BY 1, 2) there USING (queue, state)
WHERE coalesce(counted.n, 0) <> coalesce(there.n, 0)
"""
_SAMPLE = 15
_HTTP_S = 20.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def open_rows(connection: Connection) -> int:
    """How many jobs and mails have not ended."""
    found: int = await connection.fetchval(_OPEN)
    return found


async def paused(connection: Connection) -> bool:
    found: bool = await connection.fetchval(_PAUSED)
    return found


async def collect(world: World, told: Told, burst: Sequence[str]) -> Evidence:
    connection = await connect(world.postgres.dsn)
    try:
        rows = await connection.fetch(_MAILS)
        moves = await connection.fetch("SELECT * FROM chaos.moves WHERE queue = 'email-queue' ORDER BY n")
        jobs = await connection.fetch("SELECT job_id FROM emails WHERE id = ANY ($1)", [UUID(each) for each in burst])
        for row in await connection.fetch(_MISCOUNTED):
            world.broken.append(f"{row['queue']}: {row['counted']} {row['state']} counted, {row['there']} there")
    finally:
        await connection.close()
    return Evidence(
        mails={str(row["id"]): _mail(row) for row in rows},
        moves=[_move(row) for row in moves],
        arrived=world.smtp.arrived,
        refused=world.smtp.refused,
        told=told,
        max_stalls=world.plan.max_stalls,
        rate=(world.plan.rate_max, world.plan.rate_ms / 1000),
        burst={str(row["job_id"]) for row in jobs},
    )


def _mail(row: Any) -> Mail:
    there = row["state"] is not None
    job = Job(row["state"], row["attempts"], row["max_attempts"], row["stalls"]) if there else None
    return Mail(row["status"], row["message_id"], row["uncertain"], row["recipients"], row["outcomes"], job)


def _move(row: Any) -> Move:
    return Move(
        job=str(row["job"]),
        old=row["old_state"],
        new=row["new_state"],
        priority=row["priority"],
        fences=row["fences"],
        attempts=tuple(row["attempts"]),
        stalls=tuple(row["stalls"]),
        claimed_at=row["claimed_at"].timestamp() if row["claimed_at"] else None,
    )


async def ask_everybody(world: World, evidence: Evidence) -> None:
    """Each gateway is ready, and tells what the rows say: its queue's numbers and some mails. Else it is noted."""
    states = Counter(mail.job.state for mail in evidence.mails.values() if mail.job is not None)
    rng = random.Random(world.plan.seed)
    sample = rng.sample(sorted(evidence.mails), min(_SAMPLE, len(evidence.mails)))

    async def agrees(process: Any) -> bool:
        assert await process.status("/health/ready") == 200
        stats = (await process.admin.get("/api/v1/admin/email/queue")).json()["data"]["stats"]
        for state in ("waiting", "active", "completed", "failed", "delayed"):
            assert stats[state] == states[state], (state, stats, states)
        for mail_id in sample:
            shown = (await process.admin.get(f"/api/v1/emails/{mail_id}")).json()["data"]
            assert shown["status"] == evidence.mails[mail_id].status, shown
        return True

    for slot in world.slots:
        try:
            await eventually(lambda process=slot.ready: agrees(process), _HTTP_S, "it does not tell what the rows say")
        except AssertionError as error:
            world.broken.append(f"gateway {slot.number}: {error} ({error.__cause__})")
