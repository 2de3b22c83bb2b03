"""What the pages read beside what the API answers: each statement bounded, texts as long as they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.services.orchestration.action_policy import Risk
from gateway.services.orchestration.action_store import Action
from gateway.services.orchestration.actions import ActionStatus
from gateway.services.orchestration.plan import StepKind, StepStatus
from gateway.services.orchestration.runs import RunStatus
from gateway.services.orchestration.schemas import JobType

SQL = load_sql("gateway.services.orchestration.pages")

LOOK_AT: Final = 10_000  # runs, for one page of a list that is filtered
SHOWN_TEXT: Final = 4_000  # characters of one text on a page; the rest has an address of its own
STEPS_SHOWN: Final = 200
ACTIONS_SHOWN: Final = 100  # of one run
REPEATS_SHOWN: Final = 20
PROJECTS_OFFERED: Final = 100
DAYS_SHOWN: Final = 500  # rows of usage, each of a day, a project and a model
COUNTED: Final = 100  # actions that wait
NEWEST: Final = UUID(int=2**128 - 1)

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class RunsWanted(msgspec.Struct, frozen=True, kw_only=True):
    """None is no condition. ``before``: the last run of the page before."""

    project_id: UUID | None = None
    status: RunStatus | None = None
    job_type: JobType | None = None
    agent_slug: str | None = None
    before: UUID | None = None


class ListedRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``took_s``: its work, or what has passed since it began. ``over``: steps that are; ``failed``: of them those
    without an answer. ``uncounted``: models whose tokens were counted as nothing; "" is one without a name."""

    id: UUID
    project_id: UUID
    project: str
    job_type: JobType
    agent_slug: str | None
    triggered_by: str
    user_id: str | None
    status: RunStatus
    error: str | None
    dry_run: bool
    demo: bool
    input_tokens: int
    output_tokens: int
    cost_micros: int
    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    took_s: float | None
    steps: int
    over: int
    failed: int
    uncounted: list[str]


class About(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What belongs to a run beside its row. ``calls``: of models, also those that failed. ``repeated_by``: runs."""

    project: str
    monthly_budget_micros: int | None
    calls: int
    steps: int
    repeated_by: list[UUID]


class ShownStep(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A step with the first ``SHOWN_TEXT`` characters of its texts. ``output`` is JSON, ``output_length`` that of the
    whole."""

    id: UUID
    position: int
    kind: StepKind
    agent_slug: str | None
    status: StepStatus
    attempts: int
    model: str | None
    provider: str | None
    prompt_sha256: str | None
    calls: int
    input_tokens: int
    output_tokens: int
    cost_micros: int
    latency_ms: int | None
    demo: bool
    started_at: datetime | None
    finished_at: datetime | None
    taken_from: UUID | None
    error_kind: str | None
    error: str | None
    refusal: str | None
    partial: str | None
    partial_length: int | None
    output: str | None
    output_length: int | None

    @property
    def name(self) -> str:
        return self.agent_slug or str(self.kind)


class ShownAction(NamedTuple):
    """``project``: its name."""

    action: Action
    project: str


class Behind(msgspec.Struct, frozen=True, kw_only=True):
    """What a job works on: a run, or what its argument says which action. ``over``: of its ``steps``."""

    run_id: UUID | None
    action_id: str | None
    steps: int
    over: int


class PageStore:
    """Raises what asyncpg raises."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def runs(self, wanted: RunsWanted, limit: int) -> list[ListedRun]:
        before = wanted.before or NEWEST
        values = (wanted.project_id, wanted.status, wanted.job_type, wanted.agent_slug, before, limit, LOOK_AT)
        return [_listed(row) for row in await self._pool.fetch(SQL["runs_page"], *values)]

    async def edge(self, wanted: RunsWanted) -> UUID | None:
        """The last run that ``runs`` looked at; None: there are no more."""
        values = (wanted.project_id, wanted.status, wanted.before or NEWEST, LOOK_AT)
        found: UUID | None = await self._pool.fetchval(SQL["runs_edge"], *values)
        return found

    async def about(self, run_id: UUID) -> About:
        (row,) = await self._pool.fetch(SQL["run_about"], run_id, REPEATS_SHOWN)
        return About(**row)

    async def steps(self, run_id: UUID) -> list[ShownStep]:
        rows = await self._pool.fetch(SQL["run_shown_steps"], run_id, SHOWN_TEXT, STEPS_SHOWN)
        return [_step(row) for row in rows]

    async def whole(self, run_id: UUID, position: int) -> tuple[str | None, str | None]:
        """The output of a step as JSON, and the words that came before it was cut."""
        row = await self._pool.fetchrow(SQL["step_whole"], run_id, position)
        return (None, None) if row is None else (row["output"], row["partial"])

    async def actions_of(self, run_id: UUID) -> list[ShownAction]:
        """In the order in which they were asked for."""
        return [_shown(row) for row in await self._pool.fetch(SQL["actions_of_run"], run_id, ACTIONS_SHOWN)]

    async def pending(self, after: UUID | None, limit: int) -> list[ShownAction]:
        """The one with the least time left first. ``after``: the last one of the page before."""
        return [_shown(row) for row in await self._pool.fetch(SQL["actions_inbox"], after, limit)]

    async def decided(self, before: UUID | None, limit: int) -> list[ShownAction]:
        """Newest first: by people, by policy, or by time."""
        return [_shown(row) for row in await self._pool.fetch(SQL["actions_decided"], before or NEWEST, limit)]

    async def count_pending(self) -> int:
        """At most ``COUNTED``."""
        found: int = await self._pool.fetchval(SQL["actions_pending"], COUNTED)
        return found

    async def projects(self, chosen: UUID | None) -> list[tuple[UUID, str]]:
        """The newest ones, and ``chosen``, by name."""
        rows = await self._pool.fetch(SQL["projects_named"], PROJECTS_OFFERED, chosen)
        return [(row["id"], row["name"]) for row in rows]

    async def usage(self, since: datetime, until: datetime, project_id: UUID | None) -> list[dict[str, Any]]:
        """Rows of the statement, at most ``DAYS_SHOWN``."""
        rows = await self._pool.fetch(SQL["usage_days"], since, until, project_id, DAYS_SHOWN)
        return [dict(row) for row in rows]

    async def names_of(self, projects: Sequence[UUID]) -> dict[UUID, str]:
        rows = await self._pool.fetch(SQL["project_names"], list(projects))
        return {row["id"]: row["name"] for row in rows}

    async def prices(self, names: Sequence[str]) -> dict[str, bool]:
        """Of models that have a price: is it nothing?"""
        return {row["model"]: row["free"] for row in await self._pool.fetch(SQL["free_models"], list(names))}

    async def names_of_jobs(self, job_ids: Sequence[UUID]) -> dict[UUID, str]:
        """On what, and for which project, those work that are runs."""
        rows = await self._pool.fetch(SQL["work_of_jobs"], list(job_ids))
        return {row["id"]: f"{row['work']} for {row['project']}" for row in rows}

    async def behind(self, job_id: UUID) -> Behind:
        (row,) = await self._pool.fetch(SQL["behind_job"], job_id)
        return Behind(**row)


def _listed(row: asyncpg.Record) -> ListedRun:
    fields: dict[str, Any] = dict(row)
    known = {"job_type": JobType(fields["job_type"]), "status": RunStatus(fields["status"])}
    return ListedRun(**{**fields, **known})


def _step(row: asyncpg.Record) -> ShownStep:
    fields: dict[str, Any] = dict(row)
    known = {"kind": StepKind(fields["kind"]), "status": StepStatus(fields["status"])}
    return ShownStep(**{**fields, **known})


def _shown(row: asyncpg.Record) -> ShownAction:
    fields: dict[str, Any] = dict(row)
    project = fields.pop("project")
    known = {"risk": Risk(fields["risk"]), "status": ActionStatus(fields["status"])}
    return ShownAction(Action(**{**fields, **known}), project)
