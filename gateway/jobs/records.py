"""Reading the ledger for people: jobs, queues, replicas. Every query is bounded, whatever the backlog (invariant J)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from gateway.jobs.job import AttemptError, JobRecord, JobState, QueueCounts
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.store import SQL, Row

_STATES = frozenset(JobState)
ALIVE_S = 15.0  # five missed beats
_SAMPLE = 100  # jobs of which the mean time is taken


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as people ask for it. ``oldest_waiting_s``: age of the job that is ready longest; None: none waits."""

    name: str
    paused: bool
    paused_until: datetime | None
    pause_reason: str | None
    counts: QueueCounts
    oldest_waiting_s: float | None
    policy: QueuePolicy


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A live process. ``slots``: by queue ``{"slots": n, "busy": n, "limits": n}``, the last as in
    ``QueuePolicy.revision``; ``mode``: "queue" or "direct"; ``configuration``: the settings that it should share with
    the others (``settings.shared``); ``vitals``: how it is, see ``infra.vitals``. Older versions tell neither limits
    nor vitals."""

    id: str
    role: str
    version: str
    host: str
    pid: int
    mode: str
    slots: dict[str, dict[str, int]]
    draining: bool
    started_at: datetime
    seen_at: datetime
    configuration: dict[str, str] = {}
    vitals: dict[str, float] = {}


class Asked(msgspec.Struct, frozen=True):
    """What somebody asked of a replica. ``within_s``: seconds until it must be empty; None: no moment was named."""

    drain: bool
    within_s: float | None


class Records:
    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self._pool = pool

    async def get(self, job_id: UUID) -> JobRecord | None:
        row = await self._pool.fetchrow(SQL["get"], job_id)
        return record_of(row) if row else None

    async def newest(self, queue: str, states: Sequence[JobState], before: UUID | None, limit: int) -> list[JobRecord]:
        rows = await self._pool.fetch(SQL["list_newest"], queue, list(states), before, limit)
        return [record_of(row) for row in rows]

    async def failed(self, queue: str, limit: int) -> list[JobRecord]:
        return [record_of(row) for row in await self._pool.fetch(SQL["list_failed"], queue, limit)]

    async def counts(self) -> dict[str, QueueCounts]:
        """Counts of every queue that ever had a job."""
        found: dict[str, dict[str, int]] = {}
        for row in await self._pool.fetch(SQL["counts"]):
            if row["state"] in _STATES:  # a newer version in the same ledger may know more
                found.setdefault(row["queue"], {})[row["state"]] = row["n"]
        return {queue: QueueCounts(**states) for queue, states in found.items()}

    async def oldest_waiting_s(self, queue: str) -> float | None:
        age = await self._pool.fetchval(SQL["oldest_waiting"], queue)
        return None if age is None else max(0.0, float(age))

    async def job_seconds(self, queue: str) -> float | None:
        """Mean time of the newest attempts, those that run included; None: none ran."""
        mean = await self._pool.fetchval(SQL["job_seconds"], queue, _SAMPLE)
        return None if mean is None else max(0.0, float(mean))

    async def pause_state(self, queue: str) -> tuple[bool, datetime | None, str | None]:
        row = await self._pool.fetchrow(SQL["queue"], queue)
        if row is None or not row["paused"]:
            return False, None, None
        return True, row["paused_until"], row["pause_reason"]

    async def replicas(self) -> list[Replica]:
        return [Replica(**dict(row)) for row in await self._pool.fetch(SQL["replicas"], ALIVE_S)]

    async def beat(self, replica: Replica) -> Asked:
        """Show that this replica lives, and learn what somebody asked of it."""
        row = await self._pool.fetchrow(
            SQL["beat"],
            replica.id,
            replica.role,
            replica.version,
            replica.host,
            replica.pid,
            replica.mode,
            replica.slots,
            replica.draining,
            replica.configuration,
            replica.vitals,
        )
        assert row is not None  # noqa: S101  an upsert returns its row
        return Asked(row["drain_requested"], row["within_s"])

    async def forget(self, replica_id: str) -> None:
        await self._pool.execute(SQL["forget_replica"], replica_id)

    async def hold_lease(self, name: str, holder: str, ttl_s: float) -> bool:
        return await self._pool.fetchval(SQL["hold_lease"], name, holder, ttl_s) is not None

    async def release_lease(self, name: str, holder: str) -> None:
        await self._pool.execute(SQL["release_lease"], name, holder)


def record_of(row: Row) -> JobRecord:
    values: dict[str, Any] = dict(row)
    values["state"] = JobState(values["state"])
    values["group"] = values.pop("group_key")
    values["errors"] = msgspec.convert(values["errors"], list[AttemptError])
    return JobRecord(**values)
