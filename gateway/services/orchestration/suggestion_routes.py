"""Suggestions and tasks over HTTP: members see, decide and change them."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, Router, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParams

from gateway.feature import OwnRouter
from gateway.problem import Problem
from gateway.services.orchestration.action_routes import CHANGE, READ, AgentRequest
from gateway.services.orchestration.queries import paged, read_page
from gateway.services.orchestration.suggestions import PointFilter, Suggestions, SuggestionStatus, TaskStatus

SUGGESTIONS_PATH: Final = "/api/v1/orchestration/suggestions"
TASKS_PATH: Final = "/api/v1/orchestration/tasks"
QUERY: Final = {"query": ("projectId", "status", "cursor", "limit")}

TheSuggestions = NamedDependency[Suggestions]


class TaskPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: TaskStatus


class SuggestionsController(Controller):
    path = SUGGESTIONS_PATH
    tags = ("orchestration",)

    @get("/", opt=READ | QUERY, summary="What agents suggest")
    async def list_suggestions(
        self, request: AgentRequest, suggestions: TheSuggestions, query: QueryParams
    ) -> dict[str, Any]:
        """Newest first, of the caller's projects; viewers see all, their words only with ``admin:content``. Query:
        projectId; status; cursor, which is ``page.nextCursor`` of the page before; limit, 1 to 100, default 50."""
        page = read_page(query, SuggestionStatus)
        wanted = PointFilter(project_id=page.project_id, status=page.status, before=page.before)
        return paged(await suggestions.page(request.user, wanted, page.limit + 1), page.limit)

    @post("/{suggestion_id:str}/approve", opt=CHANGE, status_code=200, summary="Make a task of a suggestion")
    async def approve_suggestion(
        self, request: AgentRequest, suggestions: TheSuggestions, suggestion_id: FromPath[str]
    ) -> dict[str, Any]:
        """``taskId`` is the task."""
        decided = await suggestions.decide(request.user, _id_of(suggestion_id), SuggestionStatus.APPROVED)
        return {"success": True, "data": decided}

    @post("/{suggestion_id:str}/reject", opt=CHANGE, status_code=200, summary="Turn a suggestion down")
    async def reject_suggestion(
        self, request: AgentRequest, suggestions: TheSuggestions, suggestion_id: FromPath[str]
    ) -> dict[str, Any]:
        decided = await suggestions.decide(request.user, _id_of(suggestion_id), SuggestionStatus.REJECTED)
        return {"success": True, "data": decided}


class TasksController(Controller):
    path = TASKS_PATH
    tags = ("orchestration",)

    @get("/", opt=READ | QUERY, summary="Tasks that agents found or people approved")
    async def list_tasks(
        self, request: AgentRequest, suggestions: TheSuggestions, query: QueryParams
    ) -> dict[str, Any]:
        """Newest first, of the caller's projects; viewers see all, their words only with ``admin:content``. Query:
        projectId; status; cursor, which is ``page.nextCursor`` of the page before; limit, 1 to 100, default 50."""
        page = read_page(query, TaskStatus)
        wanted = PointFilter(project_id=page.project_id, status=page.status, before=page.before)
        return paged(await suggestions.tasks(request.user, wanted, page.limit + 1), page.limit)

    @patch("/{task_id:str}", opt=CHANGE, summary="Say how far a task is")
    async def change_task(
        self, request: AgentRequest, suggestions: TheSuggestions, task_id: FromPath[str], data: JSONBody[TaskPatch]
    ) -> dict[str, Any]:
        return {"success": True, "data": await suggestions.change_task(request.user, _id_of(task_id), data.status)}


def suggestion_routes(suggestions: Suggestions) -> Router:
    return OwnRouter(
        path="/",
        route_handlers=[SuggestionsController, TasksController],
        dependencies={"suggestions": Provide(lambda: suggestions, sync_to_thread=False)},
    )


def _id_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem(404, "not_found", "There is no such suggestion or task, or it is not yours") from None
