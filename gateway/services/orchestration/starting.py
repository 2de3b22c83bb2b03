"""Starting, cancelling and repeating runs: the one way in, for people, machines and the gateway itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from gateway.access import Principal
from gateway.feature import Platform
from gateway.idempotency import Answer, run_idempotent
from gateway.jobs.errors import JobNotFound, WrongState
from gateway.jobs.job import PRIORITY_MAX, Inserted
from gateway.problem import Problem
from gateway.services.orchestration.agents import Agents
from gateway.services.orchestration.budgets import Budgets
from gateway.services.orchestration.checking import Checks, NewRun, Prepared
from gateway.services.orchestration.conflicts import already_running, find_place
from gateway.services.orchestration.outcomes import withdraw
from gateway.services.orchestration.projects import Project, Projects, project_id_of
from gateway.services.orchestration.runs import SQL, Connection, Run, RunStatus, RunStore, no_run
from gateway.services.orchestration.schemas import JobType, OrchestrationJobData, TriggerSource

__all__ = ["Call", "NewRun", "Prepared", "Runs", "Started"]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and how the request is recognised when it comes again (``idempotency.request_hash``)."""

    caller: Principal
    key: str | None
    request: bytes


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """``job.duplicate``: a run that waits already stands for this one (``OnConflict.ENQUEUE``)."""

    job: Inserted
    mode: str

    @property
    def run_id(self) -> UUID:
        return self.job.id


class Runs:
    """Raises ``Problem`` for what the caller did wrong, ``QueueFull``, and what asyncpg raises."""

    def __init__(self, platform: Platform, projects: Projects, agents: Agents) -> None:
        self.store = RunStore(platform.pool)
        self._projects = projects
        self._checks = Checks(self.store, agents, Budgets(platform.pool))
        self._pool = platform.pool
        self._engine = platform.engine

    async def start(self, wanted: NewRun) -> Started:
        """For the gateway itself: triggers, machine routes. Raises Problem 402, 404, 409 and 422."""
        prepared = await self.prepare(wanted, await self._projects.open(project_id_of(wanted.data.project_id)))
        inserted: list[Inserted] = []
        async with self._pool.acquire() as connection, connection.transaction():
            started = await self.insert(connection, prepared, inserted)
        await self._engine.offer(inserted)
        return started

    async def prepare(self, wanted: NewRun, project: Project) -> Prepared:
        """Check a run, for whoever ``insert``s it in a transaction of his own. Raises Problem 402, 404, 409, 422."""
        return await self._checks.prepare(wanted, project)

    async def accept(self, call: Call, wanted: Sequence[NewRun], body: Callable[[list[Started]], Any]) -> Answer:
        """For a caller: all runs or none. ``body`` makes the 202's JSON of what was started, in their order."""
        prepared, problem = await self._prepare_all(call.caller, wanted)
        inserted: list[Inserted] = []

        async def work(connection: Connection) -> Answer:
            if problem is not None:  # but what the same request was answered before is answered again
                raise problem
            started: dict[int, Started] = {}
            # In the order of their keys: two such requests do not wait for each other's.
            for at in sorted(range(len(prepared)), key=lambda at: prepared[at].key):
                started[at] = await self.insert(connection, prepared[at], inserted)
            return Answer.of(202, body([started[at] for at in range(len(prepared))]))

        answer = await run_idempotent(self._pool, call.caller.id, call.key, call.request, work)
        if inserted and not answer.replayed:
            await self._engine.offer(inserted)
        return answer

    async def insert(self, connection: Connection, prepared: Prepared, inserted: list[Inserted]) -> Started:
        """In the caller's transaction; what went into ``inserted`` is to be offered after its commit. Raises
        ``QueueFull``, and Problem 409 ``already_running``."""
        self._engine.admit([prepared.job])
        place = await find_place(connection, prepared.job, prepared.key, prepared.on_conflict)
        if isinstance(place, Inserted):
            return Started(job=msgspec.structs.replace(place, duplicate=True), mode=self._engine.mode)
        await self.store.insert(connection, prepared.row)
        (job,) = await self._engine.insert(connection, [place])
        if job.duplicate:  # something that is no run of ours took the key
            raise already_running(job)
        inserted.append(job)
        return Started(job=job, mode=self._engine.mode)

    async def visible(self, principal: Principal, run_id: UUID) -> Run:
        """Raises Problem 404: unknown and foreign look the same."""
        run = await self.store.get(run_id)
        if run is None:
            raise no_run()
        try:
            await self._projects.visible(principal, run.project_id)
        except Problem as problem:
            if problem.status != 404:
                raise
            raise no_run() from None
        return run

    async def runnable(self, principal: Principal, run_id: UUID) -> Run:
        """As ``visible``, and 403 for who may see it but start nothing."""
        run = await self.visible(principal, run_id)
        project = await self._projects.visible(principal, run.project_id)
        if project.role is None and not principal.changes_all:
            raise Problem(403, "not_member", "Only members of the project and operators may change its runs")
        return run

    async def cancel(self, run: Run, reason: str, by: str) -> Run:
        """End a run: one that waits at once, one that runs within about a second; what has come so far is kept. One
        that awaits approval asks for nothing more. Cancelling twice is no mistake. Raises Problem 409
        ``already_finished``."""
        if run.status is RunStatus.AWAITING_APPROVAL:
            await self._give_up(run, reason, by)
        elif run.status is not RunStatus.CANCELLED:
            try:
                await self._engine.cancel_running(run.id, reason)
            except (WrongState, JobNotFound):
                found = await self._now(run)
                if found.status is RunStatus.AWAITING_APPROVAL:
                    return await self.cancel(found, reason, by)
                if found.status is not RunStatus.CANCELLED:
                    message = f"the run is {found.status}; only a run that has not ended can be cancelled"
                    raise Problem(409, "already_finished", message) from None
        return await self._now(run)

    async def _give_up(self, run: Run, reason: str, by: str) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL["hold_run"], run.id)
            await withdraw(connection, run.id, reason, by)
            await connection.execute(SQL["run_give_up"], run.id, reason)

    async def retry(self, call: Call, run: Run, body: Callable[[list[Started]], Any]) -> Answer:
        """A new run that does what the earlier one left undone. Raises Problem 409 ``not_finished``,
        ``nothing_to_retry``."""
        new = NewRun(
            data=OrchestrationJobData(
                project_id=str(run.project_id),
                triggered_by=TriggerSource.MANUAL,
                job_type=JobType.RETRY,
                user_id=call.caller.id if call.caller.kind == "user" else None,
                priority=PRIORITY_MAX,
            ),
            budget_micros=run.budget_micros,
            timeout_ms=run.timeout_ms,
            retry_of=run.id,
        )
        try:
            return await self.accept(call, [new], body)
        except asyncpg.ForeignKeyViolationError:  # retention took the run in between
            raise no_run() from None

    async def _now(self, run: Run) -> Run:
        found = await self.store.get(run.id)
        if found is None:
            raise no_run()
        return found

    async def _prepare_all(self, caller: Principal, wanted: Sequence[NewRun]) -> tuple[list[Prepared], Problem | None]:
        """Before the transaction, which has one connection. The problem names which of several runs has it."""
        prepared = []
        for at, new in enumerate(wanted):
            try:
                project = await self._projects.runnable(caller, project_id_of(new.data.project_id))
                prepared.append(await self.prepare(new, project))
            except Problem as problem:
                return [], problem if len(wanted) == 1 else _of_one(problem, at)
        return prepared, None


def _of_one(problem: Problem, at: int) -> Problem:
    details = [{**detail, "field": f"[{at}].{detail['field']}"} for detail in problem.details]
    details = details or [{"field": f"[{at}]", "message": problem.message}]
    message = f"[{at}]: {problem.message}; nothing was started"
    return Problem(problem.status, problem.code, message, details=details)
