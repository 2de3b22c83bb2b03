"""Runs and their steps as rows: one method per named statement, or one transaction where several belong together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.postgres import storable_text
from gateway.infra.sqlfiles import load_sql
from gateway.infra.uuid7 import uuid7
from gateway.jobs.policy import QueuePolicy
from gateway.llm.model import Spent
from gateway.problem import Problem
from gateway.services.orchestration.plan import Brought, Planned, Step, StepKind, StepStatus
from gateway.services.orchestration.schemas import JobType

SQL = load_sql("gateway.services.orchestration")

Row: TypeAlias = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[Row] | asyncpg.pool.PoolConnectionProxy[Row]"


class RunStatus(StrEnum):
    """A run's status follows its job (migration 0017). ``awaiting_approval``: its job is done, its actions are not."""

    QUEUED = "queued"
    RUNNING = "running"
    AWAITING_APPROVAL = "awaiting_approval"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """``work``: the job type; of a retry, that of the run it repeats. ``budget_micros``: millionths of a US dollar, for
    this run alone. ``age_s``: seconds since it was started first. ``state``, ``attempts``, ``max_attempts`` are its
    job's; None when that was pruned, and in lists."""

    id: UUID
    project_id: UUID
    job_type: JobType
    work: JobType
    agent_slug: str | None
    triggered_by: str
    user_id: str | None
    context: dict[str, Any]
    dry_run: bool
    budget_micros: int | None
    timeout_ms: int | None
    retry_of: UUID | None
    status: RunStatus
    result: Any
    error: str | None
    input_tokens: int
    output_tokens: int
    cost_micros: int
    demo: bool
    priority: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    scheduled_at: datetime | None
    dedupe_key: str | None
    age_s: float | None
    state: str | None
    attempts: int | None
    max_attempts: int | None


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """None is no condition. ``member``: of his projects, where none is named; ``before``: the last one of the page
    before."""

    project_id: UUID | None = None
    member: str | None = None
    status: RunStatus | None = None
    before: UUID | None = None


class StepEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How the work on a step ended. ``waiting``: it is to be tried again, and this try does not count."""

    status: StepStatus
    output: Any = None
    partial: str | None = None
    refusal: str | None = None
    error: str | None = None
    error_kind: str | None = None
    provider: str | None = None
    demo: bool = False


class RunStore:
    """Raises what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self.pool = pool

    async def insert(self, connection: Connection, run: dict[str, Any]) -> None:
        """``run`` by the statement's names of its parameters. In the transaction that inserts the job."""
        names = [parameter.name for parameter in SQL.describe("run_insert").params]
        await connection.execute(SQL["run_insert"], *(run[name] for name in names))

    async def get(self, run_id: UUID) -> Run | None:
        row = await self.pool.fetchrow(SQL["run_get"], run_id)
        return None if row is None else _run(row)

    async def page(self, wanted: RunFilter, limit: int) -> list[Run]:
        """Newest first, without their contexts."""
        page = (wanted.status, wanted.before, limit)
        if wanted.project_id is None and wanted.member is not None:
            rows = await self.pool.fetch(SQL["run_list_of_member"], wanted.member, *page)
        else:
            rows = await self.pool.fetch(SQL["run_list"], wanted.project_id, *page)
        return [_run(row) for row in rows]

    async def last_failed(self, project_id: UUID, agent_slug: str | None) -> UUID | None:
        found: UUID | None = await self.pool.fetchval(SQL["run_last_failed"], project_id, agent_slug)
        return found

    async def steps(self, run_id: UUID) -> list[Step]:
        return [_step(row) for row in await self.pool.fetch(SQL["run_steps"], run_id)]

    async def brought(self, run_id: UUID) -> Brought:
        (row,) = await self.pool.fetch(SQL["run_counts"], run_id)
        return Brought(**row)

    async def plan(self, run_id: UUID, steps: Sequence[Planned]) -> list[Step]:
        """Write a run's steps unless they are there; answers those that it has."""
        rows = [_new_step(position, *step) for position, step in enumerate(steps)]
        await self.pool.execute(SQL["run_insert_steps"], run_id, rows)
        return await self.steps(run_id)

    async def take_over(self, run_id: UUID, steps: Sequence[Step]) -> list[Step]:
        """Write the steps of a retry unless they are there: those of the earlier run, what was completed with its
        output. Answers those that it has."""
        rows = [_taken(step) for step in steps]
        await self.pool.execute(SQL["run_insert_steps"], run_id, rows)
        return await self.steps(run_id)

    async def done_elsewhere(self, run_id: UUID) -> list[Step]:
        """What other runs of the same work have done: the one that it repeats, and all that repeat one of them."""
        return [_step(row) for row in await self.pool.fetch(SQL["run_done_elsewhere"], run_id)]

    async def take_done(self, run_id: UUID) -> list[Step]:
        """Take over what was done elsewhere meanwhile; answers all steps of the run."""
        if done := await self.done_elsewhere(run_id):
            async with self.pool.acquire() as connection, connection.transaction():
                await connection.execute(SQL["hold_run"], run_id)
                for step in done:
                    place = (step.position, step.kind, step.agent_slug)
                    await connection.execute(SQL["step_take"], run_id, *place, step.id)
        return await self.steps(run_id)

    async def begin(self, step_id: UUID, fence: int, model: str | None, prompt_sha256: str | None) -> bool:
        """False: it is done, or a later attempt has it."""
        return await self.pool.fetchval(SQL["step_begin"], step_id, fence, model, prompt_sha256) is not None

    async def end(self, connection: Connection, step: Step, fence: int, end: StepEnd, spent: Spent) -> bool:
        """In the caller's transaction. What was spent is added whoever holds the step; False: somebody else does, and
        the ending does not count."""
        await connection.execute(SQL["hold_run"], step.run_id)
        said = (storable(end.output), *map(_text, (end.partial, end.refusal, end.error)))
        ended = await connection.fetchval(
            SQL["step_end"], step.id, fence, end.status, *said, end.error_kind, end.provider, end.demo
        )
        cost = (spent.input_tokens, spent.output_tokens, spent.cost_micros, spent.latency_ms, end.demo, spent.calls)
        await connection.execute(SQL["step_spend"], step.id, *cost)
        return ended is not None

    async def take_key(self, run: Run) -> bool:
        """Have the run's key now; False: another open run has it."""
        if run.dedupe_key is None:
            return True
        try:
            return await self.pool.fetchval(SQL["run_take_key"], run.id, run.dedupe_key) is not None
        except asyncpg.UniqueViolationError:
            return False

    async def who_waits(self, run_id: UUID, policy: QueuePolicy, priority: int) -> list[UUID]:
        """Short jobs of at least this priority that wait for a slot, and could start if there were one."""
        rate = (policy.rate.max, policy.rate.duration_ms) if policy.rate else (None, None)
        values = (policy.name, run_id, priority, *rate, policy.concurrency)
        return [row["id"] for row in await self.pool.fetch(SQL["run_makes_way"], *values)]

    async def recent_suggestions(self, project_id: UUID, limit: int) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.pool.fetch(SQL["run_recent_suggestions"], project_id, limit)]

    async def untold(self, limit: int) -> list[tuple[UUID, UUID, RunStatus]]:
        """Run, project and final status of runs that ended and that nobody was told of."""
        rows = await self.pool.fetch(SQL["run_untold"], limit)
        return [(row["id"], row["project_id"], RunStatus(row["status"])) for row in rows]

    async def told(self, ends: Sequence[tuple[UUID, UUID, RunStatus]]) -> None:
        """These, as ``untold`` answered them, count as told from now on."""
        await self.pool.execute(SQL["run_told"], [run for run, _, _ in ends], [status for _, _, status in ends])


def no_run() -> Problem:
    return Problem(404, "not_found", "There is no such run, or it is not yours")


def run_id_of(text: str) -> UUID:
    """Raises Problem 404: what is no id names no run."""
    try:
        return UUID(text)
    except ValueError:
        raise no_run() from None


def storable(value: Any) -> Any:
    """A model's JSON without what PostgreSQL cannot keep (NUL)."""
    encoded = msgspec.json.encode(value)
    return msgspec.json.decode(encoded.replace(b"\\u0000", b"\\ufffd")) if b"\\u0000" in encoded else value


def _text(text: str | None) -> str | None:
    return None if text is None else storable_text(text)


def _new_step(position: int, kind: StepKind, agent_slug: str | None) -> dict[str, Any]:
    return {
        "id": str(uuid7()),
        "position": position,
        "kind": kind,
        "agent_slug": agent_slug,
        "status": StepStatus.WAITING,
        "demo": False,
    }


def _taken(step: Step) -> dict[str, Any]:
    row = _new_step(step.position, step.kind, step.agent_slug)
    if step.status is not StepStatus.COMPLETED:
        return row
    return row | {
        "status": step.status,
        "output": step.output,
        "model": step.model,
        "provider": step.provider,
        "prompt_sha256": step.prompt_sha256,
        "demo": step.demo,
        "taken_from": str(step.taken_from or step.id),
    }


def _run(row: Row) -> Run:
    return msgspec.convert(dict(row), Run)


def _step(row: Row) -> Step:
    return msgspec.convert(dict(row), Step)
