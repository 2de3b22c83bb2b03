"""What the pages read beside what the engine answers: all queues at once, each statement bounded (invariant J)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.jobs.job import JobState
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.records import ALIVE_S, Replica
from gateway.web.dashboard.failures import Failure

SQL = load_sql(__package__)
FAILURES_WITHIN_S: Final = 86_400.0
FAILURES_READ: Final = 1000  # of each queue
REPLICAS_WITHIN_S: Final = 3600.0

# As text: asyncpg's classes are generic for type checkers only.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class SeenReplica(Replica, frozen=True, kw_only=True):
    """``alive`` False: it has given no sign of life lately."""

    alive: bool


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    request_id: str | None


async def queues_facts(pool: Pool, policies: Sequence[QueuePolicy]) -> dict[str, dict[str, Any]]:
    """By queue: the fields of ``waiting.QueueFacts`` that the ledger knows, and ``oldest_waiting_s``."""
    rows = await pool.fetch(
        SQL["queues_facts"],
        [policy.name for policy in policies],
        [policy.rate.max if policy.rate else None for policy in policies],
        [float(policy.rate.duration_ms) if policy.rate else None for policy in policies],
    )
    return {row["name"]: {key: value for key, value in row.items() if key != "name"} for row in rows}


async def failures_lately(pool: Pool, queues: Sequence[str], within_s: float = FAILURES_WITHIN_S) -> list[Failure]:
    """The newest, at most ``FAILURES_READ`` of each queue."""
    rows = await pool.fetch(SQL["failures_lately"], list(queues), within_s, FAILURES_READ)
    return [Failure(**dict(row)) for row in rows]


async def replicas_lately(pool: Pool) -> list[SeenReplica]:
    return [SeenReplica(**dict(row)) for row in await pool.fetch(SQL["replicas_lately"], ALIVE_S, REPLICAS_WITHIN_S)]


async def jobs_held(pool: Pool, replicas: Sequence[str]) -> dict[str, int]:
    """How many jobs run, by their lease, on each of these."""
    return {row["worker"]: row["n"] for row in await pool.fetch(SQL["jobs_held"], list(replicas))}


async def count_ended(pool: Pool, queue: str, states: Sequence[JobState], older_than_s: float, most: int) -> int:
    """Jobs that ended longer ago, counted up to ``most``."""
    found: int = await pool.fetchval(SQL["count_ended"], queue, list(states), older_than_s, most)
    return found


async def audit_page(pool: Pool, before: int | None, limit: int) -> list[AuditEntry]:
    return [AuditEntry(**dict(row)) for row in await pool.fetch(SQL["audit_page"], before, limit)]
