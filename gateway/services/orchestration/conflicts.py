"""At most one open run for a key (O31): what becomes of a second one is decided under a lock on the key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from gateway.jobs.job import Inserted, JobState, NewJob
from gateway.jobs.store import SQL as JOBS_SQL
from gateway.jobs.store import inserted
from gateway.problem import Problem
from gateway.services.orchestration.plan import later_key, next_key
from gateway.services.orchestration.runs import SQL, Connection

# Nothing waits as long: the end of the run before makes it due (migration 0017). It is the net below that.
_NEXT_S: Final = 3600.0


class OnConflict(StrEnum):
    """While a run of the same kind is open, a second one is refused, waits for its end (one does), or takes its place:
    one that has not begun is cancelled, one that runs is told to end."""

    REJECT = "reject"
    ENQUEUE = "enqueue"
    REPLACE = "replace"


async def find_place(connection: Connection, job: NewJob, key: str, on_conflict: OnConflict) -> NewJob | Inserted:
    """The job with its dedupe key, to be inserted in this transaction; or the one that waits already and stands for it.
    Raises Problem 409 ``already_running``."""
    await connection.execute(JOBS_SQL["unique_lock"], job.queue, key)
    if job.run_at is not None and job.run_at > datetime.now(UTC):
        scheduled = later_key(key, job.run_at)
        return await _scheduled(connection, msgspec.structs.replace(job, dedupe_key=scheduled), on_conflict)
    rows = await connection.fetch(SQL["run_holders"], job.queue, [key, next_key(key)])
    holders = {row["dedupe_key"]: inserted(row) for row in rows}
    if not holders:
        return msgspec.structs.replace(job, dedupe_key=key)
    holder, waits = holders.get(key), holders.get(next_key(key))
    if on_conflict is OnConflict.REJECT:
        raise already_running(holder or waits)
    if on_conflict is OnConflict.REPLACE:
        return await _replace(connection, job, key, [each for each in (holder, waits) if each is not None])
    return _after(job, key) if waits is None else waits


async def _scheduled(connection: Connection, job: NewJob, on_conflict: OnConflict) -> NewJob | Inserted:
    rows = await connection.fetch(SQL["run_holders"], job.queue, [job.dedupe_key])
    if not rows:
        return job
    same = inserted(rows[0])
    if on_conflict is OnConflict.REJECT:
        raise already_running(same)
    if on_conflict is OnConflict.ENQUEUE or same.state is JobState.ACTIVE:
        return same
    await connection.execute(JOBS_SQL["cancel"], same.id, f"replaced by run {job.id}")
    return job


async def _replace(connection: Connection, job: NewJob, key: str, holders: Sequence[Inserted]) -> NewJob | Inserted:
    reason = f"replaced by run {job.id}"
    active = [holder for holder in holders if holder.state is JobState.ACTIVE]
    others = [holder for holder in holders if holder.state is not JobState.ACTIVE]
    for holder in others:
        await connection.execute(JOBS_SQL["cancel"], holder.id, reason)
    for holder in active:
        await connection.execute(JOBS_SQL["request_cancel"], holder.id, reason)
    return _after(job, key) if active else msgspec.structs.replace(job, dedupe_key=key)


def _after(job: NewJob, key: str) -> NewJob:
    due = datetime.now(UTC) + timedelta(seconds=_NEXT_S)
    return msgspec.structs.replace(job, dedupe_key=next_key(key), run_at=due)


def already_running(holder: Inserted | None) -> Problem:
    where = "" if holder is None else f": {holder.id} is {holder.state}"
    fix = "wait for its end, or say onConflict: enqueue or replace"
    detail = {"field": "onConflict", "message": fix} | ({} if holder is None else {"jobId": str(holder.id)})
    return Problem(409, "already_running", f"A run of this kind is open in the project{where}; {fix}", details=[detail])
