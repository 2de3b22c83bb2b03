"""The analysis of a project's repository, for those who may see the project."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Controller, Request, Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter

from gateway.access import Principal, Scope
from gateway.feature import OwnRouter
from gateway.problem import Problem
from gateway.services.orchestration.github.analyses import Analyses
from gateway.services.orchestration.github.service import PERIOD_MAX_HOURS
from gateway.services.orchestration.projects import Projects, project_id_of

ANALYSIS_PATH: Final = "/api/v1/orchestration/analysis"
PERIOD_HOURS: Final = 24

PeriodHours = Annotated[int, QueryParameter(name="periodHours", ge=1, le=PERIOD_MAX_HOURS)]


class AnalysisController(Controller):
    path = ANALYSIS_PATH
    tags = ("orchestration",)

    @get(
        "/{project_id:str}",
        opt={"access": Scope.ORCHESTRATION_READ, "query": ("periodHours",)},
        summary="What happened in a project's repository",
    )
    async def show_analysis(
        self,
        request: Request[Principal, Any, Any],
        analyses: NamedDependency[Analyses],
        projects: NamedDependency[Projects],
        project_id: FromPath[str],
        period_hours: PeriodHours = PERIOD_HOURS,
    ) -> dict[str, Any]:
        """``incomplete`` says what was not read, and ``note`` beside it why the analysis is not a new one."""
        project = await projects.visible(request.user, project_id_of(project_id))
        if project.repository is None:
            fix = "PATCH the project with repository: owner/name"
            raise Problem(400, "not_configured", f"The project {project.name!r} names no repository; {fix}")
        shown = await analyses.current(project.id, project.repository, period_hours)
        return {"success": True, "data": shown.analysis} | ({"note": shown.note} if shown.note else {})


def analysis_routes(projects: Projects, analyses: Analyses) -> Router:
    return OwnRouter(
        path="/",
        route_handlers=[AnalysisController],
        dependencies={
            "projects": Provide(lambda: projects, sync_to_thread=False),
            "analyses": Provide(lambda: analyses, sync_to_thread=False),
        },
    )
