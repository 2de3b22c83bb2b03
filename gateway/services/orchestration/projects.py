"""Projects: whose runs are whose, what agents are told of them, and what they may spend in a month."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from gateway.access import Principal
from gateway.infra.sqlfiles import load_sql
from gateway.infra.uuid7 import uuid7
from gateway.problem import Problem

SQL = load_sql("gateway.services.orchestration")

MEMBERS_MAX: Final = 500  # of one project


class MemberRole(StrEnum):
    """Owners change the project and its members; members see it and start runs."""

    OWNER = "owner"
    MEMBER = "member"


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """``repository`` is owner/name on GitHub, ``facts`` what every agent is told. ``monthly_budget_micros``: millionths
    of a US dollar for a calendar month in UTC; None: no bound. ``role``: the caller's, None if he is no member."""

    id: UUID
    name: str
    repository: str | None
    facts: dict[str, Any]
    monthly_budget_micros: int | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None
    role: MemberRole | None = None


class NewProject(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    repository: str | None = None
    facts: dict[str, Any] = {}
    monthly_budget_micros: int | None = None


class ProjectFilter(msgspec.Struct, frozen=True, kw_only=True):
    """``member`` None: everybody's. ``before``: the last project of the page before."""

    member: str | None
    archived: bool = False
    before: UUID | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    principal: str
    role: MemberRole
    added_at: datetime


class Projects:
    """Raises what asyncpg raises, and ``Problem`` where a method says so."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def create(self, creator: str, new: NewProject) -> Project:
        """The creator is its owner."""
        values = (new.name, new.repository, new.facts, new.monthly_budget_micros)
        (row,) = await self._pool.fetch(SQL["project_insert"], uuid7(), *values, creator)
        return _project(row)

    async def page(self, caller: str, wanted: ProjectFilter, limit: int) -> list[Project]:
        """Newest first."""
        rows = await self._pool.fetch(SQL["project_list"], caller, wanted.member, wanted.archived, wanted.before, limit)
        return [_project(row) for row in rows]

    async def get(self, project_id: UUID) -> Project | None:
        """For work that nobody asks for in person. ``role`` is None."""
        return await self._find(project_id, None)

    async def visible(self, principal: Principal, project_id: UUID) -> Project:
        """For members, and for who may see everything. Raises Problem 404: unknown and foreign look the same."""
        project = await self._find(project_id, principal.id)
        if project is None or not (project.role or principal.sees_all):
            raise no_project()
        return project

    async def may_read(self, principal: Principal, project_id: UUID) -> bool:
        """May somebody who sees the project read what its agents were told and what they wrote? Members may, and who
        reads everybody's content."""
        if principal.reads_content or not principal.sees_all:
            return True
        project = await self._find(project_id, principal.id)
        return project is not None and project.role is not None

    async def changeable(self, principal: Principal, project_id: UUID) -> Project:
        """For owners, and for who may change everything. Raises Problem 404, or 403 for members and onlookers."""
        project = await self.visible(principal, project_id)
        if project.role is MemberRole.OWNER or principal.changes_all:
            return project
        raise Problem(403, "not_owner", "Only owners of the project and operators may change it")

    async def runnable(self, principal: Principal, project_id: UUID) -> Project:
        """For members, and for who may change everything. Raises Problem 404, 403 for onlookers, 409 if archived."""
        project = await self.visible(principal, project_id)
        if project.role is None and not principal.changes_all:
            raise Problem(403, "not_member", "Only members of the project and operators may start runs in it")
        return _not_archived(project)

    async def open(self, project_id: UUID) -> Project:
        """For triggers, which nobody stands behind. Raises Problem 404, 409 if archived."""
        project = await self.get(project_id)
        if project is None:
            raise no_project()
        return _not_archived(project)

    async def change(self, project_id: UUID, changes: Mapping[str, Any]) -> Project:
        """What is named is changed: fields of ``NewProject``, and ``archived``. Archiving again keeps the first time.
        ``role`` is None. Raises Problem 404."""
        row = await self._pool.fetchrow(SQL["project_update"], project_id, changes)
        if row is None:
            raise no_project()
        return _project(row)

    async def members(self, project_id: UUID) -> list[Member]:
        """Owners first, then by name. At most ``MEMBERS_MAX``."""
        rows = await self._pool.fetch(SQL["project_members"], project_id)
        return [
            Member(principal=row["principal"], role=MemberRole(row["role"]), added_at=row["added_at"]) for row in rows
        ]

    async def put_member(self, project_id: UUID, principal: str, role: MemberRole) -> Member:
        """Add, or change the role. Raises Problem 409 ``last_owner`` or ``too_many_members``."""
        (row,) = await self._pool.fetch(SQL["project_member_put"], project_id, principal, role, MEMBERS_MAX)
        if row["principal"] is not None:
            return Member(principal=row["principal"], role=MemberRole(row["role"]), added_at=row["added_at"])
        if row["full"]:
            raise Problem(409, "too_many_members", f"A project has at most {MEMBERS_MAX} members")
        raise _last_owner(principal)

    async def remove_member(self, project_id: UUID, principal: str) -> None:
        """Raises Problem 404 for who is no member, 409 for the last owner."""
        (row,) = await self._pool.fetch(SQL["project_member_delete"], project_id, principal)
        if row["removed"]:
            return
        if row["was_member"]:
            raise _last_owner(principal)
        raise Problem(404, "not_found", f"{principal[:100]!r} is no member of the project")

    async def _find(self, project_id: UUID, caller: str | None) -> Project | None:
        row = await self._pool.fetchrow(SQL["project_get"], project_id, caller)
        return None if row is None else _project(row)


def no_project() -> Problem:
    return Problem(404, "not_found", "There is no such project, or it is not yours")


def project_id_of(text: str) -> UUID:
    """Raises Problem 404: what is no id names no project."""
    try:
        return UUID(text)
    except ValueError:
        raise no_project() from None


def _project(row: asyncpg.Record) -> Project:
    fields = dict(row)
    role = fields.pop("role", None)
    return Project(**fields, role=None if role is None else MemberRole(role))


def _not_archived(project: Project) -> Project:
    if project.archived_at is not None:
        message = (
            f"The project {project.name!r} is archived and takes no new runs; PATCH archived: false opens it again"
        )
        raise Problem(409, "project_archived", message)
    return project


def _last_owner(principal: str) -> Problem:
    return Problem(409, "last_owner", f"{principal[:100]!r} is the last owner of the project: make another one first")
