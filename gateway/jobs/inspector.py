"""The second facade: what administrators may ask of the ledger beside running jobs: find them, change them one by one
or many at once, clean up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.uuid7 import uuid7
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.engine import Engine
from gateway.jobs.errors import EngineError, UnknownTask, WrongState
from gateway.jobs.history import History
from gateway.jobs.job import JobRecord, JobState
from gateway.jobs.operations import Operations
from gateway.jobs.records import Records
from gateway.jobs.reporter import JobReport, Reports
from gateway.jobs.search import Found, JobFilter, Search
from gateway.jobs.store import SQL, Row, Store, inserted

_REPLAYS_SHOWN: Final = 20
_CLEAN_PART: Final = 1000  # jobs in one statement


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs, newest first, and what ``found`` says of the search."""

    jobs: list[JobRecord]
    found: Found


class Links(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``replay_of``: the job that this one repeats; ``replays``: the newest that repeat it."""

    replay_of: UUID | None
    replays: list[UUID]


class NotReplayable(EngineError):
    """Jobs of this task cannot be repeated with another argument."""


class InvalidArgs(EngineError):
    """The argument is not one of the task. ``cause`` names the field, ``wanted`` is the argument's type."""

    def __init__(self, task: str, cause: msgspec.ValidationError, wanted: Any) -> None:
        super().__init__(f"not an argument of {task}: {cause}")
        self.cause = cause
        self.wanted = wanted


class Inspector:
    """Raises what ``Engine`` raises."""

    def __init__(self, pool: asyncpg.Pool[Row], engine: Engine, store: Store, dispatcher: Dispatcher) -> None:
        self.search = Search(pool, Records(pool))
        self.operations = Operations(pool, self.search, dispatcher)
        self.history = History(pool)
        self._reports = Reports(pool)
        self._pool = pool
        self._engine = engine
        self._store = store

    async def find(self, queue: str | None, wanted: JobFilter, *, after: UUID | None, limit: int) -> Page:
        """``queue`` None: all that are declared."""
        found = await self.search.find(self._queues(queue), wanted, after, limit)
        return Page(jobs=await self.search.records(found.ids), found=found)

    async def interpret(self, text: str, queue: str | None) -> JobFilter:
        """What people mean by ``text``. Raises ValueError when it can mean nothing."""
        return await self.search.interpret(text, self._queues(queue))

    async def links(self, job_id: UUID) -> Links:
        row = await self._pool.fetchrow(SQL["replay_links"], job_id, _REPLAYS_SHOWN)
        return Links(replay_of=row["replay_of"], replays=row["replays"]) if row else Links(replay_of=None, replays=[])

    async def report(self, job_id: UUID) -> JobReport:
        """What the job's attempts said of themselves, as far as it is kept."""
        return await self._reports.read(job_id)

    async def promote(self, job_id: UUID) -> JobRecord:
        """A delayed job waits now. Raises ``JobNotFound`` and ``WrongState``."""
        row = await self._pool.fetchrow(SQL["promote_one"], job_id)
        if row is None:
            found = await self._engine.get(job_id)
            raise WrongState(job_id, found.state, "only a delayed job can be promoted")
        await self._engine.offer([inserted(row)])
        return await self._engine.get(job_id)

    async def delete(self, job_id: UUID, reason: str) -> None:
        """Delete a job that does not run. One that has not ended is cancelled first, so that who follows it learns of
        it. Raises ``JobNotFound`` and ``WrongState``."""
        await self._store.cancel(job_id, reason)
        if await self._pool.fetchval(SQL["delete_one"], job_id) is None:
            found = await self._engine.get(job_id)
            raise WrongState(job_id, found.state, "a job that runs cannot be deleted; cancel it first")

    async def replay(self, job_id: UUID, args: dict[str, Any]) -> JobRecord:
        """Run the work of a job that failed or was cancelled again, as a new job with the argument ``args``; the old
        one stays with the errors of its attempts.

        Raises ``JobNotFound``, ``WrongState``, ``InvalidArgs`` and ``NotReplayable``.
        """
        old = await self._engine.get(job_id)
        registry = self._engine.registry
        try:
            task = registry.task(old.task)
        except UnknownTask as error:
            raise NotReplayable(f"this version has no task {old.task}") from error
        if task.no_replay is not None:
            raise NotReplayable(task.no_replay)
        try:
            msgspec.convert(args, task.args)
        except msgspec.ValidationError as error:
            raise InvalidArgs(old.task, error, task.args) from error
        try:
            row = await self._pool.fetchrow(SQL["replay"], uuid7(), job_id, args, registry.queue(old.queue).attempts)
        except asyncpg.UniqueViolationError:
            raise WrongState(job_id, old.state, "another open job has its dedupe key") from None
        if row is None:
            raise WrongState(job_id, old.state, "only a failed or cancelled job can be replayed")
        new = inserted(row)
        await self._engine.offer([new])
        return await self._engine.get(new.id)

    async def clean(
        self, queue: str, older_than_s: float, states: Sequence[JobState], limit: int
    ) -> dict[JobState, int]:
        """Delete at most ``limit`` jobs that ended longer ago, oldest first; answers how many of each state."""
        self._engine.registry.queue(queue)
        cleaned = dict.fromkeys(states, 0)
        for state in states:
            while (left := limit - sum(cleaned.values())) > 0:
                part = await self._store.prune_by_age(queue, state, older_than_s, min(_CLEAN_PART, left))
                cleaned[state] += part
                if part < min(_CLEAN_PART, left):
                    break
        return cleaned

    def _queues(self, queue: str | None) -> tuple[str, ...]:
        registry = self._engine.registry
        return registry.queue_names if queue is None else (registry.queue(queue).name,)
