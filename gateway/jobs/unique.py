"""Unique jobs: at most one with a key, while it is open or for a time after it was accepted."""

from __future__ import annotations

from enum import StrEnum

import asyncpg
import msgspec

from gateway.jobs.errors import DuplicateJob
from gateway.jobs.job import Inserted, JobState, NewJob
from gateway.jobs.store import SQL, Connection, Row, Store, inserted


class OnConflict(StrEnum):
    """What becomes of a second job with the key: the first is the answer, an error, or replaced if it has not begun."""

    KEEP_FIRST = "keep_first"
    REJECT = "reject"
    REPLACE = "replace"


class Unique(msgspec.Struct, frozen=True, kw_only=True):
    """``window_s``: the key is also taken for so many seconds after a job with it was accepted, whatever became of it
    (unless it was cancelled). None: only while that job is open."""

    on_conflict: OnConflict = OnConflict.KEEP_FIRST
    window_s: float | None = None


class UniqueJobs:
    def __init__(self, pool: asyncpg.Pool[Row], store: Store) -> None:
        self._pool = pool
        self._store = store

    async def insert(self, job: NewJob, attempts: int, unique: Unique) -> Inserted:
        """One transaction under a lock on the key, so that of two at the same moment one is the second.

        Raises ``DuplicateJob`` when the policy says so, or when a job that already runs would have to be replaced;
        ValueError for a job without ``dedupe_key``.
        """
        if job.dedupe_key is None:
            raise ValueError("a unique job needs a dedupe_key")
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL["unique_lock"], job.queue, job.dedupe_key)
            row = await connection.fetchrow(SQL["unique_holder"], job.queue, job.dedupe_key, unique.window_s)
            if row is not None and (kept := await self._yield_to(connection, job, inserted(row), unique)) is not None:
                return kept
            return (await self._store.insert([job], [attempts], connection))[0]

    async def _yield_to(self, connection: Connection, job: NewJob, holder: Inserted, unique: Unique) -> Inserted | None:
        """The holder, if it stays; None when the new job may go in."""
        if unique.on_conflict is OnConflict.KEEP_FIRST:
            return msgspec.structs.replace(holder, duplicate=True)
        if unique.on_conflict is OnConflict.REJECT or holder.state is JobState.ACTIVE:
            raise DuplicateJob(holder.id, holder.state, job.dedupe_key or "")
        # Replacing a job that has ended is simply a new one; one that has just begun refuses to be replaced.
        if holder.state in (JobState.WAITING, JobState.DELAYED) and not await self._store.cancel(
            holder.id, f"replaced by {job.id}", connection
        ):
            raise DuplicateJob(holder.id, JobState.ACTIVE, job.dedupe_key or "")
        return None
