"""Projects over HTTP: members see them, owners change them; who may read or operate everything sees or changes all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParams, SkipValidation

from gateway import audit
from gateway.access import Principal, Scope
from gateway.services.orchestration.agents import Agents
from gateway.services.orchestration.budgets import Budgets
from gateway.services.orchestration.github import AllowedRepositories
from gateway.services.orchestration.project_schemas import (
    NewProjectBody,
    ProjectPatch,
    ProjectView,
    new_project,
    project_changes,
    project_view,
    read_page,
)
from gateway.services.orchestration.projects import Project, Projects, project_id_of

PROJECTS_PATH: Final = "/api/v1/projects"
READ: Final = {"access": Scope.ORCHESTRATION_READ}
CHANGE: Final = {"access": Scope.ORCHESTRATION_RUN}

ProjectRequest = Request[Principal, Any, Any]


@dataclass(frozen=True, slots=True)
class ProjectDesk:
    """What the routes of projects need."""

    pool: asyncpg.Pool[asyncpg.Record]
    projects: Projects
    budgets: Budgets
    agents: Agents
    allowed: AllowedRepositories

    async def view(self, project: Project) -> ProjectView:
        return project_view(project, (await self.budgets.of([project.id]))[project.id])

    async def audited(self, request: ProjectRequest, action: str, project_id: UUID, asked: Any = None) -> None:
        """``asked``: a struct or an object of JSON values."""
        detail = msgspec.to_builtins(asked or {})
        change = audit.Change(actor=request.user.id, action=action, subject=str(project_id), detail=detail)
        await audit.record(self.pool, change)


Desk = NamedDependency[SkipValidation[ProjectDesk]]


class ProjectsController(Controller):
    path = PROJECTS_PATH
    tags = ("projects",)

    @post("/", opt=CHANGE, summary="Make a project; its maker is its owner")
    async def create(
        self,
        request: ProjectRequest,
        desk: Desk,
        data: JSONBody[NewProjectBody],
    ) -> Response[dict[str, Any]]:
        new = new_project(data)
        desk.allowed.check_change(request.user, new.repository)
        made = await desk.projects.create(request.user.id, new)
        await desk.audited(request, "project.create", made.id, data)
        body = {"success": True, "data": await desk.view(made)}
        return Response(body, status_code=201, headers={"Location": f"{PROJECTS_PATH}/{made.id}"})

    @get("/", opt=READ | {"query": ("archived", "cursor", "limit")}, summary="Projects, newest first")
    async def index(self, request: ProjectRequest, desk: Desk, query: QueryParams) -> dict[str, Any]:
        """The caller's own; viewers see all. Query: archived (true: those too), cursor, limit."""
        wanted, limit = read_page(query, None if request.user.sees_all else request.user.id)
        found = await desk.projects.page(request.user.id, wanted, limit + 1)
        shown = found[:limit]
        spendings = await desk.budgets.of([project.id for project in shown])
        page = {"nextCursor": shown[-1].id if len(found) > limit else None, "limit": limit}
        return {"success": True, "data": [project_view(each, spendings[each.id]) for each in shown], "page": page}

    @get("/{project_id:str}", opt=READ, summary="One project, and what it spent this month")
    async def show(self, request: ProjectRequest, desk: Desk, project_id: FromPath[str]) -> dict[str, Any]:
        project = await desk.projects.visible(request.user, project_id_of(project_id))
        return {"success": True, "data": await desk.view(project)}

    @patch("/{project_id:str}", opt=CHANGE, summary="Change parts of a project")
    async def change(
        self,
        request: ProjectRequest,
        desk: Desk,
        project_id: FromPath[str],
        data: JSONBody[ProjectPatch],
    ) -> dict[str, Any]:
        changes = project_changes(data)
        project = await desk.projects.changeable(request.user, project_id_of(project_id))
        desk.allowed.check_change(request.user, changes.get("repository"), project.repository)
        changed = await desk.projects.change(project.id, changes)
        await desk.audited(request, "project.change", project.id, data)
        return {"success": True, "data": await desk.view(msgspec.structs.replace(changed, role=project.role))}

    @delete("/{project_id:str}", opt=CHANGE, summary="Archive a project: no new runs; nothing is lost")
    async def archive(self, request: ProjectRequest, desk: Desk, project_id: FromPath[str]) -> None:
        project = await desk.projects.changeable(request.user, project_id_of(project_id))
        if project.archived_at is None:
            await desk.projects.change(project.id, {"archived": True})
            await desk.audited(request, "project.archive", project.id)
