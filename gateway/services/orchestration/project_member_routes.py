"""Who belongs to a project, and which agents it uses."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Controller, Router, delete, get, put
from litestar.di import Provide
from litestar.params import FromPath, JSONBody

from gateway.feature import OwnRouter
from gateway.services.orchestration.agents import Agents
from gateway.services.orchestration.project_routes import (
    CHANGE,
    PROJECTS_PATH,
    READ,
    Desk,
    ProjectDesk,
    ProjectRequest,
    ProjectsController,
)
from gateway.services.orchestration.project_schemas import ChoiceBody, MemberBody, read_principal
from gateway.services.orchestration.projects import project_id_of


class MembersController(Controller):
    path = PROJECTS_PATH
    tags = ("projects",)

    @get("/{project_id:str}/members", opt=READ, summary="Members of a project")
    async def members(self, request: ProjectRequest, desk: Desk, project_id: FromPath[str]) -> dict[str, Any]:
        project = await desk.projects.visible(request.user, project_id_of(project_id))
        return {"success": True, "data": await desk.projects.members(project.id)}

    @put("/{project_id:str}/members/{principal:str}", opt=CHANGE, summary="Add a member, or change the role")
    async def put_member(
        self,
        request: ProjectRequest,
        desk: Desk,
        project_id: FromPath[str],
        principal: FromPath[str],
        data: JSONBody[MemberBody | None] = None,
    ) -> dict[str, Any]:
        project = await desk.projects.changeable(request.user, project_id_of(project_id))
        role = (data or MemberBody()).role
        member = await desk.projects.put_member(project.id, read_principal(principal), role)
        detail = {"principal": principal, "role": role}
        await desk.audited(request, "project.member.put", project.id, detail)
        return {"success": True, "data": member}

    @delete("/{project_id:str}/members/{principal:str}", opt=CHANGE, summary="Take a member out, or leave")
    async def remove_member(
        self,
        request: ProjectRequest,
        desk: Desk,
        project_id: FromPath[str],
        principal: FromPath[str],
    ) -> None:
        project = await desk.projects.visible(request.user, project_id_of(project_id))
        if principal != request.user.id:
            await desk.projects.changeable(request.user, project.id)
        await desk.projects.remove_member(project.id, principal)
        await desk.audited(request, "project.member.remove", project.id, {"principal": principal})

    @get("/{project_id:str}/agents", opt=READ, summary="Which agents a project uses")
    async def choice(self, request: ProjectRequest, desk: Desk, project_id: FromPath[str]) -> dict[str, Any]:
        """``enabled`` is the choice, null without one; ``running`` are those that a batch runs now."""
        project = await desk.projects.visible(request.user, project_id_of(project_id))
        return {"success": True, "data": await _choice(desk.agents, project.id)}

    @put("/{project_id:str}/agents", opt=CHANGE, summary="Choose the agents of a project")
    async def choose(
        self,
        request: ProjectRequest,
        desk: Desk,
        project_id: FromPath[str],
        data: JSONBody[ChoiceBody],
    ) -> dict[str, Any]:
        project = await desk.projects.changeable(request.user, project_id_of(project_id))
        await desk.agents.choose(project.id, None if data.enabled is None else frozenset(data.enabled))
        await desk.audited(request, "project.agents", project.id, data)
        return {"success": True, "data": await _choice(desk.agents, project.id)}


def project_routes(desk: ProjectDesk) -> Router:
    return OwnRouter(
        path="/",
        route_handlers=[ProjectsController, MembersController],
        dependencies={"desk": Provide(lambda: desk, sync_to_thread=False)},
    )


async def _choice(agents: Agents, project_id: UUID) -> dict[str, Any]:
    chosen = await agents.chosen_by(project_id)
    running = [agent.slug for agent in await agents.enabled_for(project_id)]
    return {"enabled": None if chosen is None else sorted(chosen), "running": running}
