"""What agents suggest, which people approve or reject, and the tasks of a project."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from gateway.access import Principal
from gateway.infra.sqlfiles import load_sql
from gateway.problem import Problem
from gateway.services.orchestration.projects import Projects

SQL = load_sql("gateway.services.orchestration")
EXPIRE_S: Final = 60.0
_BATCH: Final = 500


class SuggestionStatus(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


class TaskStatus(StrEnum):
    OPEN = "open"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    DROPPED = "dropped"


class Suggestion(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``priority``: 10 is the most urgent. ``taskId``: the task that its approval made. ``contentHidden``: title and
    detail are left out, as the reader may not know what models wrote."""

    id: UUID
    project_id: UUID
    run_id: UUID
    agent_slug: str
    title: str
    detail: str
    priority: int
    status: SuggestionStatus
    created_at: datetime
    expires_at: datetime | None
    decided_at: datetime | None
    decided_by: str | None
    task_id: UUID | None = None
    content_hidden: bool = False


class ProjectTask(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Work that an agent found, or that a person approved. ``runId``: where it comes from. ``contentHidden``: as that
    of a suggestion."""

    id: UUID
    project_id: UUID
    run_id: UUID | None
    title: str
    detail: str
    priority: int
    status: TaskStatus
    created_at: datetime
    updated_at: datetime
    content_hidden: bool = False


Point = TypeVar("Point", Suggestion, ProjectTask)


class PointFilter(msgspec.Struct, frozen=True, kw_only=True):
    """None is no condition. ``before``: the last one of the page before."""

    project_id: UUID | None = None
    status: str | None = None
    before: UUID | None = None


class Suggestions:
    """Suggestions and tasks. Raises ``Problem`` where a method says so, and what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], projects: Projects) -> None:
        self._pool = pool
        self._projects = projects

    async def page(self, caller: Principal, wanted: PointFilter, limit: int) -> list[Suggestion]:
        """Newest first. Raises Problem 404 for a project that the caller may not see."""
        found = [_suggestion(row) for row in await self._rows("suggestion_list", caller, wanted, limit)]
        return await self._readable(caller, found)

    async def decide(self, caller: Principal, suggestion_id: UUID, status: SuggestionStatus) -> Suggestion:
        """``APPROVED`` makes a task. Raises Problem 404, 403 for who is no member, 409 ``already_decided``."""
        found = await self._get(suggestion_id)
        await self._changeable(caller, found.project_id)
        decided = await self._pool.fetchval(SQL["suggestion_decide"], suggestion_id, status, caller.id)
        found = await self._get(suggestion_id)
        if decided is None:
            now = "expired" if found.status is SuggestionStatus.OPEN else found.status
            raise Problem(409, "already_decided", f"The suggestion is {now} already; it can be decided once")
        return found

    async def tasks(self, caller: Principal, wanted: PointFilter, limit: int) -> list[ProjectTask]:
        """Newest first. Raises Problem 404 for a project that the caller may not see."""
        found = [_task(row) for row in await self._rows("task_list", caller, wanted, limit)]
        return await self._readable(caller, found)

    async def change_task(self, caller: Principal, task_id: UUID, status: TaskStatus) -> ProjectTask:
        """Raises Problem 404, 403 for who is no member."""
        project_id = await self._pool.fetchval(SQL["task_project"], task_id)
        if project_id is None:
            raise _missing()
        await self._changeable(caller, project_id)
        row = await self._pool.fetchrow(SQL["task_change"], task_id, status)
        if row is None:
            raise _missing()
        return _task(row)

    async def expire(self) -> None:
        """A chore: what nobody decided in time."""
        while len(await self._pool.fetch(SQL["suggestions_expire"], _BATCH)) == _BATCH:
            pass

    async def _rows(self, statement: str, caller: Principal, wanted: PointFilter, limit: int) -> list[asyncpg.Record]:
        if wanted.project_id is not None:
            await self._projects.visible(caller, wanted.project_id)
        member = None if caller.sees_all else caller.id
        values = (wanted.project_id, member, wanted.status, wanted.before, limit)
        return await self._pool.fetch(SQL[statement], *values)

    async def _readable(self, caller: Principal, found: Sequence[Point]) -> list[Point]:
        """Without what models wrote in projects where the caller only looks on."""
        projects = {point.project_id for point in found}
        readable = {one: await self._projects.may_read(caller, one) for one in projects}
        hidden: dict[str, Any] = {"title": "", "detail": "", "content_hidden": True}
        return [point if readable[point.project_id] else msgspec.structs.replace(point, **hidden) for point in found]

    async def _get(self, suggestion_id: UUID) -> Suggestion:
        row = await self._pool.fetchrow(SQL["suggestion_get"], suggestion_id)
        if row is None:
            raise _missing()
        return _suggestion(row)

    async def _changeable(self, caller: Principal, project_id: UUID) -> None:
        """For members, and for who may change everything. Raises Problem: foreign looks like unknown."""
        try:
            project = await self._projects.visible(caller, project_id)
        except Problem:
            raise _missing() from None
        if project.role is None and not caller.changes_all:
            raise Problem(403, "not_member", "Only members of the project and operators may change this")


def _missing() -> Problem:
    return Problem(404, "not_found", "There is no such suggestion or task, or it is not yours")


def _suggestion(row: asyncpg.Record) -> Suggestion:
    status = SuggestionStatus(row["status"])
    task_id = row["id"] if status is SuggestionStatus.APPROVED else None
    return Suggestion(**{**dict(row), "status": status}, task_id=task_id)


def _task(row: asyncpg.Record) -> ProjectTask:
    return ProjectTask(**{**dict(row), "status": TaskStatus(row["status"])})
