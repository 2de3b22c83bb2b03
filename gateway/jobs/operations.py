"""Work on many jobs at once: asked for by an administrator, done in chunks by the elected leader.

An operation is a row, so it survives restarts. It goes through the jobs from the newest to the oldest; one statement
moves a chunk and the operation's position, so two leaders for a moment do nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from gateway.infra.postgres import is_unavailable
from gateway.infra.uuid7 import uuid7
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.errors import EngineError
from gateway.jobs.job import Inserted, JobState
from gateway.jobs.search import JobFilter, Search
from gateway.jobs.store import SQL, Row, inserted

log = structlog.get_logger(__name__)

CHUNK: Final = 500  # jobs in one statement
IDS_MAX: Final = 10_000  # jobs that one operation may name
POLL_S: Final = 0.5
_TURN: Final = 20  # chunks until the leader looks whether it still leads
_KEEP_S: Final = 30 * 86_400.0
_PRUNE_EVERY: Final = 1000  # idle polls


class Action(StrEnum):
    RETRY = "retry"
    CANCEL = "cancel"
    DELETE = "delete"
    PROMOTE = "promote"

    @property
    def suits(self) -> tuple[JobState, ...]:
        """The states of jobs that it can be done to."""
        return _SUITS[self]


_SUITS: Final = {
    Action.RETRY: (JobState.FAILED,),
    Action.CANCEL: (JobState.WAITING, JobState.DELAYED, JobState.ACTIVE),
    Action.DELETE: (JobState.WAITING, JobState.DELAYED, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED),
    Action.PROMOTE: (JobState.DELAYED,),
}


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of a queue: those that match ``filter``, or (not None) those named by ``ids``."""

    queue: str
    filter: JobFilter = JobFilter()
    ids: tuple[UUID, ...] | None = None


class Operation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``state``: running, completed, cancelled or failed. Of ``total`` jobs that matched when it was asked for,
    ``done`` were moved and ``failed`` could not be: their state or another job with their key forbade it by then."""

    id: UUID
    action: Action
    queue: str
    filter: dict[str, Any]
    reason: str | None
    state: str
    total: int
    done: int
    failed: int
    error: str | None
    actor: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class OperationNotFound(EngineError):
    def __init__(self, operation_id: UUID) -> None:
        super().__init__(f"no operation {operation_id}")


class _Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """The next jobs of an operation that has come as far as ``after``; ``following`` None: they are the last."""

    operation: Operation
    after: UUID | None
    following: UUID | None
    ids: list[UUID]


class Operations:
    def __init__(self, pool: asyncpg.Pool[Row], search: Search, dispatcher: Dispatcher) -> None:
        self._pool = pool
        self._search = search
        self._dispatcher = dispatcher
        self._idle = 0

    async def count(self, action: Action, chosen: Selection) -> int:
        """How many jobs the action would be done to now."""
        if chosen.ids is not None:
            found: int = await self._pool.fetchval(
                SQL["bulk_count_ids"], chosen.queue, list(chosen.ids), list(action.suits)
            )
            return found
        return await self._search.count(chosen.queue, _suitable(action, chosen.filter))

    async def start(self, action: Action, chosen: Selection, actor: str, reason: str | None) -> Operation:
        """Write it down; the leader does it. ``reason`` stands on the jobs that it cancels."""
        ids = None if chosen.ids is None else sorted(set(chosen.ids), reverse=True)
        rows = await self._pool.fetch(
            SQL["operation_insert"],
            uuid7(),
            action,
            chosen.queue,
            msgspec.to_builtins(_suitable(action, chosen.filter)),
            ids,
            reason or f"{action} of many by {actor}",
            await self.count(action, chosen) if ids is None else len(ids),
            actor,
        )
        return _operation(rows[0])

    async def get(self, operation_id: UUID) -> Operation:
        """Raises ``OperationNotFound``."""
        row = await self._pool.fetchrow(SQL["operation_get"], operation_id)
        if row is None:
            raise OperationNotFound(operation_id)
        return _operation(row)

    async def newest(self, limit: int) -> list[Operation]:
        return [_operation(row) for row in await self._pool.fetch(SQL["operation_list"], limit)]

    async def cancel(self, operation_id: UUID) -> Operation | None:
        """Stop it after its present chunk. None: it has ended already. Raises ``OperationNotFound``."""
        row = await self._pool.fetchrow(SQL["operation_cancel"], operation_id)
        if row is None:
            await self.get(operation_id)
            return None
        return _operation(row)

    async def work(self) -> float | None:
        """A chore: some chunks of what is asked for, the operations taking turns. Answers the wait until more."""
        for _ in range(_TURN):
            row = await self._pool.fetchrow(SQL["operation_next"])
            if row is None:
                await self._prune_sometimes()
                return None
            await self._advance(row)
        return 0.0

    async def _advance(self, row: Row) -> None:
        operation = _operation(row)
        try:
            chunk = await self._next_chunk(operation, row["ids"], row["position"])
            await self._dispatcher.offer(await self._apply(chunk))
        except asyncpg.DeadlockDetectedError:  # with a worker that settles the same jobs: the next turn tries again
            log.info("operation_met_a_deadlock", operation=str(operation.id))
        except asyncpg.PostgresError as error:
            if is_unavailable(error):
                raise
            log.error("operation_failed", operation=str(operation.id), action=operation.action, exc_info=error)
            await self._pool.execute(SQL["operation_fail"], operation.id, f"{type(error).__name__}: {error}")

    async def _next_chunk(self, operation: Operation, named: Sequence[UUID] | None, after: UUID | None) -> _Chunk:
        if named is not None:
            left = [job_id for job_id in named if after is None or job_id < after]
            following = left[CHUNK - 1] if len(left) > CHUNK else None
            return _Chunk(operation=operation, after=after, following=following, ids=left[:CHUNK])
        wanted = msgspec.convert(operation.filter, JobFilter)
        found = await self._search.find([operation.queue], wanted, after, CHUNK)
        return _Chunk(operation=operation, after=after, following=found.following, ids=found.ids)

    async def _apply(self, chunk: _Chunk) -> list[Inserted]:
        """Do it, and answer the jobs that wait now."""
        try:
            return await self._move(chunk)
        except asyncpg.UniqueViolationError:  # another job took the key of one of them between look and leap
            if len(chunk.ids) == 1:
                return await self._move(msgspec.structs.replace(chunk, ids=[]), refused=1)
        moved, after = [], chunk.after
        for job_id in chunk.ids:
            last = job_id == chunk.ids[-1]
            following = chunk.following if last else job_id
            one = _Chunk(operation=chunk.operation, after=after, following=following, ids=[job_id])
            moved += await self._apply(one)
            after = following
        return moved

    async def _move(self, chunk: _Chunk, refused: int = 0) -> list[Inserted]:
        operation = chunk.operation
        given = (operation.id, chunk.after, chunk.following, operation.queue, chunk.ids)
        match operation.action:
            case Action.RETRY:
                rows = await self._pool.fetch(SQL["bulk_retry"], *given, refused)
            case Action.PROMOTE:
                rows = await self._pool.fetch(SQL["bulk_promote"], *given)
            case Action.CANCEL:
                rows = await self._pool.fetch(SQL["bulk_cancel"], *given, operation.reason)
            case Action.DELETE:
                await self._pool.execute(SQL["bulk_withdraw"], operation.queue, chunk.ids, operation.reason)
                rows = await self._pool.fetch(SQL["bulk_delete"], *given)
        moved = [inserted(row) for row in rows]
        self._dispatcher.moved(moved)
        return [job for job in moved if job.state is JobState.WAITING]

    async def _prune_sometimes(self) -> None:
        if self._idle % _PRUNE_EVERY == 0:
            await self._pool.execute(SQL["operation_prune"], _KEEP_S)
        self._idle += 1


def _suitable(action: Action, wanted: JobFilter) -> JobFilter:
    """The filter, held to the states that the action can be done to."""
    states = tuple(state for state in action.suits if not wanted.states or state in wanted.states)
    return msgspec.structs.replace(wanted, states=states)


def _operation(row: Row) -> Operation:
    values: dict[str, Any] = {name: row[name] for name in Operation.__struct_fields__}
    return Operation(**(values | {"action": Action(row["action"])}))
