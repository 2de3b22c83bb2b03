"""Agents over HTTP: everybody who may read runs sees what there is, operators see prompts, administrators write."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec
from litestar import Controller, Request, Router, delete, get, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, UnsetType

from gateway import audit
from gateway.access import Principal, Scope
from gateway.feature import OwnRouter, ThePlatform
from gateway.problem import Problem
from gateway.services.orchestration.agent_files import AgentBody, slug_problem
from gateway.services.orchestration.agent_schema import Tool
from gateway.services.orchestration.agents import Agents, Defined, Source

AGENTS_PATH: Final = "/api/v1/orchestration/agents"
READ: Final = {"access": Scope.ORCHESTRATION_READ}
WRITE: Final = {"access": Scope.ADMIN_WRITE}

AgentRequest = Request[Principal, Any, Any]
TheAgents = NamedDependency[Agents]


class AgentView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``model`` is the one that is asked, also where the definition names none (``ownModel`` null). ``source``: what
    comes with the gateway (built-in), a file of AGENTS_DIR, or a row; ``restorable``: DELETE brings the file's back.
    ``outputSchema``: of the fields of its own. ``prompt`` only for operators and administrators."""

    slug: str
    name: str
    description: str
    tools: list[Tool]
    model: str
    own_model: str | None
    output_schema: dict[str, Any] | None
    max_output_tokens: int
    timeout_s: int
    enabled: bool
    source: Source
    restorable: bool
    updated_by: str | None
    updated_at: datetime | None
    prompt: str | UnsetType = UNSET


class AgentsController(Controller):
    path = AGENTS_PATH
    tags = ("orchestration",)

    @get("/", opt=READ, summary="Agents, by slug")
    async def index(self, agents: TheAgents) -> dict[str, Any]:
        """Without their prompts."""
        return {"success": True, "data": [_view(agents, found) for found in await agents.all_defined()]}

    @get("/{slug:str}", opt=READ, summary="One agent; operators see its prompt")
    async def show(self, request: AgentRequest, agents: TheAgents, slug: FromPath[str]) -> dict[str, Any]:
        return {"success": True, "data": _view(agents, await _known(agents, slug), prompt=request.user.changes_all)}

    @put("/{slug:str}", opt=WRITE, summary="Add an agent, or change one, for all projects")
    async def write(
        self,
        request: AgentRequest,
        platform: ThePlatform,
        agents: TheAgents,
        slug: FromPath[str],
        data: JSONBody[AgentBody],
    ) -> dict[str, Any]:
        """It is whole: what is not named has its default. No restart is needed."""
        if said := slug_problem(slug):
            raise _wrong("slug", said)
        if problem := data.problem():
            raise _wrong(*problem)
        new = await agents.put(slug, data, request.user.id)
        await _audited(request, platform.pool, "agent.create" if new else "agent.change", slug, data)
        return {"success": True, "data": _view(agents, await _known(agents, slug), prompt=True)}

    @delete("/{slug:str}", opt=WRITE, summary="Take a row away; what a file defines is in force again")
    async def restore(
        self, request: AgentRequest, platform: ThePlatform, agents: TheAgents, slug: FromPath[str]
    ) -> None:
        """What comes with the gateway cannot be deleted: PUT it with enabled false."""
        found = await _known(agents, slug)
        if found.source != "row":
            message = f"Agent {slug} is as its file ({found.source}) has it; PUT it with enabled: false to stop it"
            raise Problem(409, "agent_not_changed", message)
        if await agents.delete(slug):
            await _audited(request, platform.pool, "agent.restore" if found.restorable else "agent.delete", slug)


def agent_routes(agents: Agents) -> Router:
    return OwnRouter(
        path="/",
        route_handlers=[AgentsController],
        dependencies={"agents": Provide(lambda: agents, sync_to_thread=False)},
    )


def _view(agents: Agents, found: Defined, *, prompt: bool = False) -> AgentView:
    body = found.body
    return AgentView(
        slug=found.slug,
        name=body.name,
        description=body.description,
        tools=body.tools,
        model=agents.model_of(body),
        own_model=body.model,
        output_schema=body.output_schema,
        max_output_tokens=body.max_output_tokens,
        timeout_s=body.timeout_s,
        enabled=body.enabled,
        source=found.source,
        restorable=found.restorable,
        updated_by=found.updated_by,
        updated_at=found.updated_at,
        prompt=body.prompt if prompt else UNSET,
    )


async def _known(agents: Agents, slug: str) -> Defined:
    found = None if slug_problem(slug) else await agents.defined(slug)
    if found is None:
        known = ", ".join(each.slug for each in await agents.all_defined())
        raise Problem(404, "agent_not_found", f"There is no agent {slug[:60]!r}; known: {known}")
    return found


def _wrong(field: str, message: str) -> Problem:
    return Problem(400, "validation_error", f"{field}: {message}", details=[{"field": field, "message": message}])


async def _audited(
    request: AgentRequest, pool: asyncpg.Pool[asyncpg.Record], action: str, slug: str, asked: AgentBody | None = None
) -> None:
    detail = {} if asked is None else msgspec.to_builtins(asked)
    await audit.record(pool, audit.Change(actor=request.user.id, action=action, subject=slug, detail=detail))
