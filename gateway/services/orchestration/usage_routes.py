"""What agents cost, over HTTP: of the caller's projects; viewers see all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from litestar import Controller, Request, Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParams

from gateway.access import Principal, Scope
from gateway.feature import OwnRouter
from gateway.services.orchestration.projects import Projects, project_id_of
from gateway.services.orchestration.usage import Usage, UsageFilter, read_query

USAGE_PATH: Final = "/api/v1/orchestration/usage"
PARAMETERS: Final = ("projectId", "from", "until", "groupBy")


class UsageController(Controller):
    path = USAGE_PATH
    tags = ("orchestration",)

    @get("/", opt={"access": Scope.ORCHESTRATION_READ, "query": PARAMETERS}, summary="Tokens and cost of agents")
    async def show(
        self,
        request: Request[Principal, Any, Any],
        usage: NamedDependency[Usage],
        projects: NamedDependency[Projects],
        query: QueryParams,
    ) -> dict[str, Any]:
        """Query: projectId; from and until, days or times, at most 400 days, by default the last 30; groupBy, any of
        agent, model, day, project, run, comma-separated, by default agent."""
        since, until, by = read_query(query, datetime.now(UTC))
        project = None
        if "projectId" in query:
            project = await projects.visible(request.user, project_id_of(query["projectId"]))
        wanted = UsageFilter(
            since=since,
            until=until,
            by=by,
            project_id=None if project is None else project.id,
            member=None if request.user.sees_all else request.user.id,
        )
        total, rows = await usage.of(wanted)
        return {"success": True, "data": {"from": since, "until": until, "rows": rows, "total": total}}


def usage_routes(usage: Usage, projects: Projects) -> Router:
    return OwnRouter(
        path="/",
        route_handlers=[UsageController],
        dependencies={
            "usage": Provide(lambda: usage, sync_to_thread=False),
            "projects": Provide(lambda: projects, sync_to_thread=False),
        },
    )
