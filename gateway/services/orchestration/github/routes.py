"""The analysis of a project's repository, for those who may see the project."""

from __future__ import annotations

from typing import Any, Final, Protocol
from uuid import UUID

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.access import Principal, Scope
from gateway.problem import Problem
from gateway.services.orchestration.github.analyses import Analyses
from gateway.services.orchestration.github.service import PERIOD_MAX_HOURS

ANALYSIS_PATH: Final = "/api/v1/orchestration/analysis"
PERIOD_HOURS: Final = 24


class OfRepository(Protocol):
    """A project, as far as this route reads it."""

    @property
    def repository(self) -> str | None: ...


class VisibleProjects(Protocol):
    async def visible(self, principal: Principal, project_id: UUID, /) -> OfRepository:
        """Raises Problem 404 for what is unknown, and for what the principal may not see."""
        ...


class AnalysisController(Controller):
    path = ANALYSIS_PATH
    tags = ("orchestration",)

    @get(
        "/{project_id:str}",
        opt={"access": Scope.ORCHESTRATION_READ, "query": ("periodHours",)},
        summary="What happened in a project's repository",
    )
    async def show(
        self,
        request: Request[Principal, Any, Any],
        analyses: NamedDependency[Analyses],
        visible_projects: NamedDependency[VisibleProjects],
        project_id: FromPath[str],
    ) -> dict[str, Any]:
        """Query: periodHours, 1 to 2160, default 24. ``incomplete`` says what was not read; ``note`` why it is old."""
        hours = _hours(request.query_params.get("periodHours"))
        project = await visible_projects.visible(request.user, _id_of(project_id))
        if project.repository is None:
            raise Problem(
                400, "not_configured", "The project names no repository; set one by PATCH: repository: owner/name"
            )
        shown = await analyses.current(_id_of(project_id), project.repository, hours)
        return {"success": True, "data": shown.analysis} | ({"note": shown.note} if shown.note else {})


def _hours(text: str | None) -> int:
    if text is None:
        return PERIOD_HOURS
    if text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= PERIOD_MAX_HOURS:
        return int(text)
    message = f"is not a whole number of hours from 1 to {PERIOD_MAX_HOURS} (90 days)"
    raise Problem(
        400,
        "validation_error",
        f"periodHours: {message}",
        details=[{"field": "periodHours", "message": message}],
    )


def _id_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem(404, "not_found", "There is no such project, or it is not yours") from None
