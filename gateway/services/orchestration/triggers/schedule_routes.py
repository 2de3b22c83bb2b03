"""Schedules of runs over HTTP: members of the project see them, owners and operators change them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from litestar import Controller, Response, Router, delete, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParams, SkipValidation

from gateway.access import Scope
from gateway.feature import OwnRouter
from gateway.services.orchestration.projects import no_project
from gateway.services.orchestration.triggers.desk import TriggerDesk, TriggerRequest, id_of, same_project
from gateway.services.orchestration.triggers.schedules import RunSchedule, RunSchedules, check, no_schedule
from gateway.services.orchestration.triggers.schemas import (
    PAGE_PARAMETERS,
    PREVIEW,
    RunScheduleBody,
    new_schedule,
    page_of,
    read_page,
    schedule_view,
)

SCHEDULES_PATH: Final = "/api/v1/orchestration/schedules"
READ: Final = {"access": Scope.ORCHESTRATION_READ}
CHANGE: Final = {"access": Scope.ORCHESTRATION_RUN}
_TICKS_SHOWN: Final = 20

Desk = NamedDependency[SkipValidation[TriggerDesk]]
Kept = NamedDependency[RunSchedules]


class RunSchedulesController(Controller):
    path = SCHEDULES_PATH
    tags = ("orchestration",)

    @get("/", opt=READ | {"query": PAGE_PARAMETERS}, summary="Schedules of runs, newest first")
    async def index(self, request: TriggerRequest, desk: Desk, kept: Kept, query: QueryParams) -> dict[str, Any]:
        """Of the caller's projects; viewers see all. Query: projectId, cursor, limit. ``nextRuns`` holds one."""
        page = read_page(query)
        if page.project_id is not None:
            await desk.visible(request, page.project_id, no_project())
        member = None if request.user.sees_all else request.user.id
        found = await kept.page(page.project_id, member, page.before, page.limit + 1)
        shown = [schedule_view(each, 1) for each in found[: page.limit]]
        return {"success": True, "data": shown, "page": page_of(found, page.limit)}

    @post("/", opt=CHANGE, summary="Let runs of a project start by the clock")
    async def create(
        self, request: TriggerRequest, desk: Desk, kept: Kept, data: JSONBody[RunScheduleBody]
    ) -> Response[dict[str, Any]]:
        """One for batches, and one for each agent. The answer shows the next runs."""
        await desk.changeable(request, data.project_id)
        new = new_schedule(data)
        check(new, datetime.now(UTC))
        await desk.check_agent(new.agent_slug)
        made = await kept.create(new, request.user.id)
        await desk.audited(request, "run_schedule.create", made.id, data)
        headers = {"Location": f"{SCHEDULES_PATH}/{made.id}"}
        return Response(_shown(made), status_code=201, headers=headers)

    @get("/{schedule_id:str}", opt=READ, summary="One schedule of runs, its next runs and last ticks")
    async def show(self, request: TriggerRequest, desk: Desk, kept: Kept, schedule_id: FromPath[str]) -> dict[str, Any]:
        """``ticks``: the last ones, with the run of each or why there is none."""
        schedule = await kept.get(id_of(schedule_id, no_schedule()))
        await desk.visible(request, schedule.project_id, no_schedule())
        ticks = [
            {
                "tickAt": tick["tick_at"],
                "runId": tick["run_id"],
                "skipped": tick["skip_code"],
                "reason": tick["skip_reason"],
                "at": tick["at"],
            }
            for tick in await kept.last_ticks(schedule.id, _TICKS_SHOWN)
        ]
        return _shown(schedule) | {"ticks": ticks}

    @put("/{schedule_id:str}", opt=CHANGE, summary="Replace what a schedule of runs is")
    async def replace(
        self,
        request: TriggerRequest,
        desk: Desk,
        kept: Kept,
        schedule_id: FromPath[str],
        data: JSONBody[RunScheduleBody],
    ) -> dict[str, Any]:
        """What it did stays, and counts: runs of today, the last run, the cooldown."""
        schedule = await self._changeable(request, desk, kept, schedule_id)
        same_project(schedule.project_id, data.project_id)
        new = new_schedule(data)
        check(new, datetime.now(UTC))
        await desk.check_agent(new.agent_slug)
        changed = await kept.replace(schedule.id, new)
        await desk.audited(request, "run_schedule.replace", schedule.id, data)
        return _shown(changed)

    @delete("/{schedule_id:str}", opt=CHANGE, summary="Delete a schedule of runs; its runs stay")
    async def remove(self, request: TriggerRequest, desk: Desk, kept: Kept, schedule_id: FromPath[str]) -> None:
        schedule = await self._changeable(request, desk, kept, schedule_id)
        await kept.delete(schedule)
        await desk.audited(request, "run_schedule.delete", schedule.id)

    @post("/{schedule_id:str}/fire", opt=CHANGE, status_code=202, summary="A tick now, judged like any other")
    async def fire(self, request: TriggerRequest, desk: Desk, kept: Kept, schedule_id: FromPath[str]) -> dict[str, Any]:
        """``jobId`` is of the job that judges it; the schedule's ``ticks`` tell what came of it."""
        schedule = await self._changeable(request, desk, kept, schedule_id)
        job_id = await kept.fire(schedule)
        await desk.audited(request, "run_schedule.fire", schedule.id, {"jobId": str(job_id)})
        return {"success": True, "data": {"jobId": job_id}}

    async def _changeable(
        self, request: TriggerRequest, desk: TriggerDesk, kept: RunSchedules, schedule_id: str
    ) -> RunSchedule:
        schedule = await kept.get(id_of(schedule_id, no_schedule()))
        await desk.changeable(request, schedule.project_id, no_schedule())
        return schedule


def _shown(schedule: RunSchedule) -> dict[str, Any]:
    return {"success": True, "data": schedule_view(schedule, PREVIEW)}


def schedule_routes(desk: TriggerDesk, kept: RunSchedules) -> Router:
    return OwnRouter(
        path="/",
        route_handlers=[RunSchedulesController],
        dependencies={
            "desk": Provide(lambda: desk, sync_to_thread=False),
            "kept": Provide(lambda: kept, sync_to_thread=False),
        },
    )
