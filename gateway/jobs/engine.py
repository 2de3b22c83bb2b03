"""The facade: what features, routes and the command line may ask of the engine."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from gateway.jobs.backlog import Backlog
from gateway.jobs.batcher import Batcher
from gateway.jobs.broker import BrokerDown
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.errors import JobNotFound, WrongState
from gateway.jobs.job import Inserted, JobRecord, JobState, NewJob, QueueCounts
from gateway.jobs.rebuild import rebuild
from gateway.jobs.records import QueueStatus, Records, Replica
from gateway.jobs.registry import Registry
from gateway.jobs.store import Connection, Store
from gateway.jobs.unique import Unique, UniqueJobs

_MOST_AT_ONCE = 500  # jobs in one commit


class Engine:
    """Every method raises ``UnknownQueue`` for a queue that is not declared, and what asyncpg raises when the ledger is
    away (``infra.postgres.is_unavailable``)."""

    def __init__(
        self, registry: Registry, store: Store, records: Records, dispatcher: Dispatcher, unique: UniqueJobs
    ) -> None:
        self.registry = registry
        self._unique = unique
        self._store = store
        self._records = records
        self._dispatcher = dispatcher
        self._submits: Batcher[NewJob, Inserted] = Batcher("submit", self._commit, _MOST_AT_ONCE, at_once=2)
        self.backlog = Backlog(registry, records.counts)

    @property
    def mode(self) -> str:
        """ "queue" while Redis dispatches, else "direct"."""
        return self._dispatcher.mode

    async def submit(self, job: NewJob) -> Inserted:
        """Commit one job and say that it is ready. It is safe when this returns. Submits of the same moment share one
        commit. Raises ``QueueFull``."""
        self.admit([job])  # an unknown or a full queue is this caller's trouble alone
        return await self._submits.add(job)

    async def submit_many(self, jobs: Sequence[NewJob]) -> builtins.list[Inserted]:
        """Commit jobs together, all or none. Raises ``QueueFull``."""
        self.admit(jobs)
        return await self._commit(jobs)

    async def _commit(self, jobs: Sequence[NewJob]) -> builtins.list[Inserted]:
        done = await self._store.insert(jobs, self._attempts(jobs))
        await self.offer(done)
        return done

    async def submit_unique(self, job: NewJob, unique: Unique) -> Inserted:
        """Commit one job unless its ``dedupe_key`` is taken; what happens then is ``unique.on_conflict``. Raises
        ``DuplicateJob`` and ``QueueFull``."""
        self.admit([job])
        attempts = self._attempts([job])[0]
        done = await self._unique.insert(job, attempts, unique)
        await self.offer([done])
        return done

    def admit(self, jobs: Sequence[NewJob]) -> None:
        """Is there room in the jobs' queues? Raises ``QueueFull``. Costs no query."""
        for queue, number in Counter(job.queue for job in jobs).items():
            self.backlog.admit(queue, number)

    async def insert(self, connection: Connection, jobs: Sequence[NewJob]) -> builtins.list[Inserted]:
        """Insert within the caller's transaction, so that its own rows and the jobs are committed together (outbox).

        Call ``offer`` with the answer after the commit. New work asks ``admit`` before; what was accepted earlier and
        lost its job is put back however full the queue is.
        """
        return await self._store.insert(jobs, self._attempts(jobs), connection)

    async def offer(self, inserted: Sequence[Inserted]) -> str:
        """Say that committed jobs may be ready; answers the mode word. Never raises: the ledger has them anyway."""
        ready = [job for job in inserted if job.state is JobState.WAITING and not job.duplicate]
        return await self._dispatcher.offer(ready)

    async def get(self, job_id: UUID) -> JobRecord:
        """Raises ``JobNotFound``."""
        found = await self._records.get(job_id)
        if found is None:
            raise JobNotFound(job_id)
        return found

    async def list(
        self, queue: str, *, states: Sequence[JobState] = (), limit: int = 50, after: UUID | None = None
    ) -> tuple[builtins.list[JobRecord], UUID | None]:
        """A page, newest first, and the ``after`` of the next page (None: this was the last)."""
        self.registry.queue(queue)
        page = await self._records.newest(queue, states, after, limit + 1)
        return page[:limit], page[limit - 1].id if len(page) > limit else None

    async def failed(self, queue: str, limit: int) -> builtins.list[JobRecord]:
        """The jobs that failed last."""
        self.registry.queue(queue)
        return await self._records.failed(queue, limit)

    async def counts(self, queue: str) -> QueueCounts:
        self.registry.queue(queue)
        return (await self.all_counts())[queue]

    async def all_counts(self) -> dict[str, QueueCounts]:
        """Counts of each declared queue."""
        found = await self._records.counts()
        return {name: found.get(name, QueueCounts()) for name in self.registry.queue_names}

    async def cancel(self, job_id: UUID, reason: str) -> JobRecord:
        """Cancel a job that has not started. Raises ``JobNotFound`` and ``WrongState``."""
        if not await self._store.cancel(job_id, reason):
            found = await self.get(job_id)
            raise WrongState(job_id, found.state, "only a waiting or delayed job can be cancelled")
        return await self._left(job_id)

    async def cancel_running(self, job_id: UUID, reason: str) -> JobRecord:
        """Cancel a job that has not ended, also one that runs: its holder cancels the task within about a second, and
        what the task does not heed is not tried again. Raises ``JobNotFound`` and ``WrongState``."""
        if not await self._store.cancel(job_id, reason) and not await self._store.request_cancel(job_id, reason):
            found = await self.get(job_id)
            raise WrongState(job_id, found.state, "it has ended")
        return await self._left(job_id)

    async def _left(self, job_id: UUID) -> JobRecord:
        found = await self.get(job_id)
        self._dispatcher.moved([found])  # another of its group may have the turn that it had
        return found

    async def retry(self, job_id: UUID) -> JobRecord:
        """Run a failed job again, with all its attempts. Raises ``JobNotFound`` and ``WrongState``."""
        try:
            waiting = await self._store.retry(job_id)
        except asyncpg.UniqueViolationError:
            raise WrongState(job_id, JobState.FAILED, "another open job has its dedupe key") from None
        if waiting is None:
            found = await self.get(job_id)
            raise WrongState(job_id, found.state, "only a failed job can be retried")
        await self.offer([waiting])
        return await self.get(job_id)

    async def retry_all_failed(self, queue: str) -> int:
        """Run all jobs that have failed up to now again; answers how many."""
        self.registry.queue(queue)
        before, retried = await self._store.ledger_time(), 0
        while part := await self._store.retry_failed(queue, before):
            retried += len(part)
            await self.offer(part)
        return retried

    async def reschedule(self, job_id: UUID, run_at: datetime) -> JobRecord:
        """Move the start of a job that was not tried yet. Raises ``JobNotFound`` and ``WrongState``."""
        moved = await self._store.reschedule(job_id, run_at)
        if moved is None:
            found = await self.get(job_id)
            raise WrongState(job_id, found.state, "only a job that was not tried yet can be rescheduled")
        self._dispatcher.moved([moved])
        await self.offer([moved])
        return await self.get(job_id)

    async def ledger_time(self) -> datetime:
        return await self._store.ledger_time()

    async def pause(self, queue: str, *, until: datetime | None = None, reason: str | None = None) -> QueueStatus:
        """Start no more jobs of a queue on any replica; what runs goes on."""
        self.registry.queue(queue)
        await self._store.pause(queue, until, reason)
        return await self.queue_status(queue)

    async def resume(self, queue: str) -> QueueStatus:
        self.registry.queue(queue)
        await self._store.resume(queue)
        await self._dispatcher.wake(queue)
        return await self.queue_status(queue)

    async def rebuild(self, queue: str) -> int | None:
        """Tell Redis every waiting job of a queue again. Answers how many; None in direct mode: nobody is told."""
        self.registry.queue(queue)
        redis = self._dispatcher.redis
        if redis is None or not self._dispatcher.up:
            return None
        try:
            return await rebuild(self._store, redis, queue)
        except BrokerDown:
            return None

    async def queue_status(self, queue: str) -> QueueStatus:
        policy = self.registry.queue(queue)
        paused, until, reason = await self._records.pause_state(queue)
        return QueueStatus(
            name=queue,
            paused=paused,
            paused_until=until,
            pause_reason=reason,
            counts=await self.counts(queue),
            oldest_waiting_s=await self._records.oldest_waiting_s(queue),
            policy=policy,
        )

    async def job_seconds(self, queue: str) -> float | None:
        """How long a job of the queue takes, in the mean of the newest; None: none ran yet."""
        return await self._records.job_seconds(queue)

    async def replicas(self) -> builtins.list[Replica]:
        """Replicas that are alive: seen within ``records.ALIVE_S``."""
        return await self._records.replicas()

    def _attempts(self, jobs: Sequence[NewJob]) -> builtins.list[int]:
        return [
            self.registry.queue(job.queue).attempts if job.max_attempts is None else job.max_attempts for job in jobs
        ]
