"""What the routes of triggers need, and what they ask of a caller in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request

from gateway import audit
from gateway.access import Principal
from gateway.problem import Problem
from gateway.services.orchestration.agents import Agents
from gateway.services.orchestration.projects import Projects
from gateway.services.orchestration.triggers.schedules import wrong

TriggerRequest = Request[Principal, Any, Any]


@dataclass(frozen=True, slots=True)
class TriggerDesk:
    pool: asyncpg.Pool[asyncpg.Record]
    projects: Projects
    agents: Agents

    async def audited(self, request: TriggerRequest, action: str, subject: UUID, asked: Any = None) -> None:
        """``asked``: a struct or an object of JSON values."""
        detail = msgspec.to_builtins(asked or {})
        change = audit.Change(actor=request.user.id, action=action, subject=str(subject), detail=detail)
        await audit.record(self.pool, change)

    async def visible(self, request: TriggerRequest, project_id: UUID, nothing: Problem) -> None:
        """Raises ``nothing``, a 404: what belongs to a foreign project looks as if it were not there."""
        try:
            await self.projects.visible(request.user, project_id)
        except Problem as problem:
            raise nothing if problem.status == 404 else problem from None

    async def changeable(self, request: TriggerRequest, project_id: UUID, nothing: Problem | None = None) -> None:
        """Raises Problem 403 for members, 404 (or ``nothing``) for strangers."""
        try:
            await self.projects.changeable(request.user, project_id)
        except Problem as problem:
            raise nothing if nothing is not None and problem.status == 404 else problem from None

    async def check_agent(self, slug: str | None) -> None:
        """Raises Problem 422 ``unknown_agent``."""
        if slug is None or await self.agents.get(slug) is not None:
            return
        known = ", ".join(defined.slug for defined in await self.agents.all_defined())
        raise wrong("agentSlug", f"{slug!r} is no agent; known: {known}", code="unknown_agent")


def same_project(had: UUID, wanted: UUID) -> None:
    """Raises Problem 422: what belongs to a project stays there."""
    if had != wanted:
        raise wrong("projectId", "cannot be changed: make another one in that project", code="project_fixed")


def id_of(text: str, nothing: Problem) -> UUID:
    """Raises ``nothing``, a 404: what is no id names nothing."""
    try:
        return UUID(text)
    except ValueError:
        raise nothing from None
