"""The ledger's moves: one method per named statement that changes jobs. Reading for people is in ``records.py``.

Every method is one statement in its own transaction, so a process that freezes never holds a lock in PostgreSQL
(``insert`` and ``cancel`` may join the caller's transaction). Raises what asyncpg raises;
``infra.postgres.is_unavailable`` tells an outage from a fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.infra.tracing import Origin
from gateway.jobs.broker import Fetched
from gateway.jobs.job import ClaimedJob, Inserted, JobState, NewJob
from gateway.jobs.policy import QueuePolicy

SQL = load_sql("gateway.jobs")

Row = asyncpg.Record
# As text: asyncpg's classes are generic for type checkers only.
Connection: TypeAlias = "asyncpg.Connection[Row] | asyncpg.pool.PoolConnectionProxy[Row]"

_encode = msgspec.json.encode


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, ready for the ledger. ``result`` and ``entry`` are JSON texts.

    ``delay_s`` counts for ``delayed`` and ``waiting``; ``refund``: the attempt does not count; ``begun``: its task was
    started, so it has met its deadline.
    """

    id: UUID
    fence: int
    state: JobState
    result: str | None = None
    error: str | None = None
    entry: str | None = None
    delay_s: float = 0.0
    refund: bool = False
    begun: bool = True


class Rescued(msgspec.Struct, frozen=True, kw_only=True):
    """A job whose holder vanished, and where it stands now."""

    job: Inserted
    stalls: int
    worker: str | None


def inserted(row: Row) -> Inserted:
    return Inserted(
        id=row["id"],
        queue=row["queue"],
        state=JobState(row["state"]),
        priority=row["priority"],
        seq=row["seq"],
        group=row["group_key"],
    )


Held = tuple[UUID, int]  # a job and the fence that it was claimed with

# Statements that may meet over several rows name them in one order, so they lock them in one order: no deadlock.
_by_id = attrgetter("id")


class Store:
    """``worker`` is this replica's id: it stands in the rows that it claims.

    ``vital``: the pool for what must not wait behind other work (renewing leases); by default the same one.
    """

    def __init__(
        self, pool: asyncpg.Pool[Row], worker: str, lease_ms: int, vital: asyncpg.Pool[Row] | None = None
    ) -> None:
        self._pool = pool
        self._vital = vital or pool
        self.worker = worker
        self.lease_ms = lease_ms

    async def insert(
        self, jobs: Sequence[NewJob], attempts: Sequence[int], connection: Connection | None = None
    ) -> list[Inserted]:
        """Insert in order; ``attempts`` is each job's ``max_attempts``. Answers one ``Inserted`` per job, in order."""
        on = connection or self._pool
        rows = await on.fetch(
            SQL["insert"],
            [job.id for job in jobs],
            [job.queue for job in jobs],
            [job.task for job in jobs],
            [_encode(job.args).decode() for job in jobs],
            [job.priority for job in jobs],
            attempts,
            [job.run_at for job in jobs],
            [job.dedupe_key for job in jobs],
            [job.group for job in jobs],
            [job.expires_at for job in jobs],
            [_encode(job.tags).decode() if job.tags else None for job in jobs],
            [job.origin.request_id for job in jobs],
            [job.origin.traceparent for job in jobs],
        )
        done = {row["id"]: inserted(row) for row in rows}
        refused = [job for job in jobs if job.id not in done]
        if refused:
            holders = await on.fetch(
                SQL["open_by_dedupe_key"], [job.queue for job in refused], [job.dedupe_key for job in refused]
            )
            by_key = {(row["queue"], row["dedupe_key"]): inserted(row) for row in holders}
            for job in refused:
                holder = by_key.get((job.queue, job.dedupe_key))
                if holder is None:  # it ended between the two statements: this one may go in now
                    done[job.id] = (await self.insert([job], [attempts[jobs.index(job)]], connection))[0]
                else:
                    done[job.id] = msgspec.structs.replace(holder, duplicate=True)
        return [done[job.id] for job in jobs]

    async def claim_due(self, policy: QueuePolicy, limit: int) -> Fetched:
        rows = await self._pool.fetch(
            SQL["claim_due"], policy.name, limit, self.worker, self.lease_ms, *_limiter(policy)
        )
        return _fetched(rows)

    async def claim_ids(self, policy: QueuePolicy, ids: Sequence[UUID]) -> Fetched:
        rows = await self._pool.fetch(SQL["claim_ids"], policy.name, ids, self.worker, self.lease_ms, *_limiter(policy))
        return _fetched(rows)

    async def settle(self, settlements: Sequence[Settlement]) -> dict[Held, Inserted]:
        """End attempts. One missing from the answer was not this holder's any more: nothing was changed."""
        settlements = sorted(settlements, key=_by_id)
        rows = await self._pool.fetch(
            SQL["settle"],
            [s.id for s in settlements],
            [s.fence for s in settlements],
            [s.state for s in settlements],
            [s.result for s in settlements],
            [s.error for s in settlements],
            [s.entry for s in settlements],
            [s.delay_s for s in settlements],
            [int(s.refund) for s in settlements],
            [s.begun for s in settlements],
        )
        return {(row["id"], row["fence"]): inserted(row) for row in rows}

    async def settled(self, settlements: Sequence[Settlement]) -> dict[Held, Inserted]:
        """Those that stand as they were settled: an earlier statement was committed and its answer lost."""
        if not settlements:
            return {}
        rows = await self._pool.fetch(
            SQL["settled"],
            [s.id for s in settlements],
            [s.fence for s in settlements],
            [s.state for s in settlements],
        )
        return {(row["id"], row["fence"]): inserted(row) for row in rows}

    async def renew(self, held: Sequence[Held]) -> set[Held]:
        """Renew leases of (job, fence); answers those still held."""
        held = sorted(held)
        rows = await self._vital.fetch(
            SQL["renew"], [job_id for job_id, _ in held], [fence for _, fence in held], self.lease_ms
        )
        return {(row["id"], row["fence"]) for row in rows}

    async def release_unknown(self, running: Sequence[UUID], grace_s: float) -> list[Inserted]:
        rows = await self._vital.fetch(SQL["release_unknown"], self.worker, running, grace_s)
        return [inserted(row) for row in rows]

    async def rescue(self, max_stalls: int, limit: int = 500) -> list[Rescued]:
        rows = await self._pool.fetch(SQL["rescue"], max_stalls, limit)
        return [Rescued(job=inserted(row), stalls=row["stalls"], worker=row["worker"]) for row in rows]

    async def promote(self, limit: int = 1000) -> list[Inserted]:
        return [inserted(row) for row in await self._pool.fetch(SQL["promote"], limit)]

    async def next_lease_end(self) -> float | None:
        """Seconds until the first lease runs out; negative when one has."""
        return _seconds(await self._pool.fetchval(SQL["next_lease_end"]))

    async def next_due(self) -> float | None:
        """Seconds until the next delayed job is due; negative when one is overdue."""
        return _seconds(await self._pool.fetchval(SQL["next_due"]))

    async def waiting_page(self, queue: str, priority: int, after_seq: int, limit: int) -> list[Inserted]:
        return [inserted(row) for row in await self._pool.fetch(SQL["waiting_page"], queue, priority, after_seq, limit)]

    async def waiting_head(self, queue: str, limit: int) -> list[Inserted]:
        return [inserted(row) for row in await self._pool.fetch(SQL["waiting_head"], queue, limit)]

    async def any_blocked(self, queue: str) -> bool:
        """Whether jobs of a queue wait for their group's turn."""
        return bool(await self._pool.fetch(SQL["blocked_groups"], queue, "", 1))

    async def still_waiting(self, ids: Sequence[UUID]) -> list[Inserted]:
        if not ids:
            return []
        return [inserted(row) for row in await self._pool.fetch(SQL["still_waiting"], ids)]

    async def prune_by_age(self, queue: str, state: JobState, keep_s: float, limit: int = 1000) -> int:
        return len(await self._pool.fetch(SQL["prune_by_age"], queue, state, keep_s, limit))

    async def prune_by_count(self, queue: str, keep: int, limit: int = 1000) -> int:
        return len(await self._pool.fetch(SQL["prune_by_count"], queue, keep, limit))

    async def fold_counts(self) -> None:
        await self._pool.execute(SQL["fold_counts"])

    async def cancel(self, job_id: UUID, reason: str, connection: Connection | None = None) -> bool:
        return await (connection or self._pool).fetchval(SQL["cancel"], job_id, reason) is not None

    async def request_cancel(self, job_id: UUID, reason: str) -> bool:
        return await self._pool.fetchval(SQL["request_cancel"], job_id, reason) is not None

    async def cancel_requests(self, running: Sequence[UUID]) -> dict[Held, str]:
        """Running attempts that somebody wants to end, and why."""
        rows = await self._vital.fetch(SQL["cancel_requests"], running)
        return {(row["id"], row["fence"]): row["cancel_reason"] for row in rows}

    async def retry(self, job_id: UUID) -> Inserted | None:
        row = await self._pool.fetchrow(SQL["retry"], job_id)
        return inserted(row) if row else None

    async def retry_failed(self, queue: str, before: datetime, limit: int = 500) -> list[Inserted]:
        return [inserted(row) for row in await self._pool.fetch(SQL["retry_failed"], queue, before, limit)]

    async def reschedule(self, job_id: UUID, run_at: datetime) -> Inserted | None:
        row = await self._pool.fetchrow(SQL["reschedule"], job_id, run_at)
        return inserted(row) if row else None

    async def ensure_queues(self, names: Sequence[str]) -> None:
        await self._pool.execute(SQL["ensure_queues"], names)

    async def pause(self, queue: str, until: datetime | None, reason: str | None) -> None:
        await self._pool.execute(SQL["pause"], queue, until, reason)

    async def pause_for(self, queue: str, rest_s: float, reason: str) -> bool:
        return await self._pool.fetchval(SQL["pause_for"], queue, rest_s, reason) is not None

    async def resume(self, queue: str) -> None:
        await self._pool.execute(SQL["resume"], queue)

    async def ledger_time(self) -> datetime:
        found: datetime = await self._pool.fetchval(SQL["ledger_time"])
        return found

    async def ledger_id(self) -> UUID:
        found: UUID = await self._pool.fetchval(SQL["ledger_id"])
        return found


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _limiter(policy: QueuePolicy) -> tuple[int | None, int | None]:
    return (policy.rate.max, policy.rate.duration_ms) if policy.rate else (None, None)


def _fetched(rows: Sequence[Row]) -> Fetched:
    """The claims, in the order in which they should start, and when it makes sense to ask again."""
    claimed = sorted((row for row in rows if row["id"] is not None), key=lambda row: (-row["priority"], row["seq"]))
    return Fetched(
        jobs=[
            ClaimedJob(
                id=row["id"],
                queue=row["queue"],
                task=row["task"],
                args=row["args"],
                priority=row["priority"],
                attempt=row["attempts"],
                max_attempts=row["max_attempts"],
                fence=row["fence"],
                stalls=row["stalls"],
                created_at=row["created_at"],
                ready_at=row["run_at"],
                claimed_at=row["claimed_at"],
                origin=Origin(row["request_id"], row["traceparent"]),
            )
            for row in claimed
        ],
        # With permits left over, the queue is empty, not limited: a new job may start at once.
        retry_after_s=_seconds(rows[0]["wait_s"]) if rows and len(claimed) == rows[0]["permits"] else None,
        paused=bool(rows and rows[0]["paused"]),
    )
