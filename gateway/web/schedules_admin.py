"""Schedules for administrators. Who may read sees them, operators pause, resume and run, administrators write them.

Every change leaves a row in ``admin_audit``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody

from gateway import audit
from gateway.access import Principal, Scope
from gateway.feature import Platform, ThePlatform
from gateway.jobs.errors import UnknownTask
from gateway.jobs.schedule import (
    InvalidSchedule,
    Schedule,
    ScheduleBusy,
    ScheduleChanging,
    ScheduleDeclared,
    ScheduleExists,
    ScheduleNotFound,
)
from gateway.masking import masked
from gateway.problem import Problem
from gateway.web.queues_schemas import LIMIT_DEFAULT, LIMIT_MAX, CancelRequest, invalid
from gateway.web.schedules_schemas import (
    NewScheduleBody,
    ScheduleBody,
    ScheduleDetail,
    SchedulePatch,
    ScheduleView,
    refusal,
    schedule_view,
)

ADMIN_PATH: Final = "/api/v1/admin"
SCHEDULES_PATH: Final = f"{ADMIN_PATH}/schedules"
READ: Final = {"access": Scope.ADMIN_READ}
OPERATE: Final = {"access": Scope.ADMIN_OPERATE}
WRITE: Final = {"access": Scope.ADMIN_WRITE}

AdminRequest = Request[Principal, Any, Any]
Shown = TypeVar("Shown", bound=ScheduleView)


class SchedulesAdmin(Controller):
    path = SCHEDULES_PATH
    tags = ("admin",)

    @get("/", opt=READ | {"query": ("prefix", "cursor", "limit")}, summary="Schedules, by name")
    async def list_schedules(self, request: AdminRequest, platform: ThePlatform) -> dict[str, Any]:
        """``prefix``: of their names; ``cursor``: ``page.nextCursor`` of the page before."""
        query = dict(request.query_params.items())
        limit = _limit(query.get("limit"))
        found = await platform.schedules.page(query.get("prefix", ""), query.get("cursor"), limit + 1)
        page = {"nextCursor": found[limit - 1].name if len(found) > limit else None, "limit": limit}
        views = [_readable(view_of(platform, one), request.user) for one in found[:limit]]
        return {"success": True, "data": views, "page": page}

    @post("/", opt=WRITE, summary="Make a schedule")
    async def create(
        self, request: AdminRequest, platform: ThePlatform, data: JSONBody[NewScheduleBody]
    ) -> Response[dict[str, Any]]:
        with explained():
            made = await platform.schedules.create(data.named(data.name))
        await _audited(request, platform, "schedule.create", data.name, data)
        headers = {"Location": f"{SCHEDULES_PATH}/{made.name}"}
        return Response(_detail(platform, made), status_code=201, headers=headers)

    @get("/{name:str}", opt=READ, summary="One schedule and its next ticks")
    async def show(self, request: AdminRequest, platform: ThePlatform, name: FromPath[str]) -> dict[str, Any]:
        with explained():
            found = _detail(platform, await platform.schedules.get(name))
        return found | {"data": _readable(found["data"], request.user)}

    @put("/{name:str}", opt=WRITE, summary="Make a schedule, or replace what it is")
    async def replace(
        self, request: AdminRequest, platform: ThePlatform, name: FromPath[str], data: JSONBody[ScheduleBody]
    ) -> Response[dict[str, Any]]:
        """201 when it is new. Whether it is paused, and its next tick unless its times change, stay as they are."""
        with explained():
            made, new = await platform.schedules.put(data.named(name))
        await _audited(request, platform, "schedule.create" if new else "schedule.replace", name, data)
        return Response(_detail(platform, made), status_code=201 if new else 200)

    @patch("/{name:str}", opt=WRITE, summary="Change parts of a schedule")
    async def change(
        self, request: AdminRequest, platform: ThePlatform, name: FromPath[str], data: JSONBody[SchedulePatch]
    ) -> dict[str, Any]:
        if not msgspec.to_builtins(data):
            known = ", ".join(SchedulePatch.__struct_encode_fields__)
            raise invalid("body", f"names nothing to change; there are {known}")
        with explained():
            changed = await platform.schedules.change(name, data.applied)
        await _audited(request, platform, "schedule.change", name, data)
        return _detail(platform, changed)

    @delete("/{name:str}", opt=WRITE, summary="Delete a schedule; its jobs stay")
    async def remove(self, request: AdminRequest, platform: ThePlatform, name: FromPath[str]) -> None:
        with explained():
            await platform.schedules.delete(name)
        await _audited(request, platform, "schedule.delete", name)

    @post("/{name:str}/pause", opt=OPERATE, status_code=200, summary="No ticks until it is resumed")
    async def pause(
        self,
        request: AdminRequest,
        platform: ThePlatform,
        name: FromPath[str],
        data: JSONBody[CancelRequest | None] = None,
    ) -> dict[str, Any]:
        asked = data or CancelRequest()
        with explained():
            paused = await platform.schedules.pause(name, asked.reason or f"paused by {request.user.id}")
        await _audited(request, platform, "schedule.pause", name, asked)
        return _detail(platform, paused)

    @post("/{name:str}/resume", opt=OPERATE, status_code=200, summary="Go on with the next tick from now")
    async def resume(self, request: AdminRequest, platform: ThePlatform, name: FromPath[str]) -> dict[str, Any]:
        with explained():
            resumed = await platform.schedules.resume(name)
        await _audited(request, platform, "schedule.resume", name)
        return _detail(platform, resumed)

    @post("/{name:str}/run", opt=OPERATE, status_code=202, summary="A job of the schedule now, beside its ticks")
    async def run(self, request: AdminRequest, platform: ThePlatform, name: FromPath[str]) -> Response[dict[str, Any]]:
        with explained():
            job = await platform.schedules.run(name)
        await _audited(request, platform, "schedule.run", name, {"jobId": str(job.id)})
        answer = {"success": True, "data": {"jobId": job.id, "queue": job.queue}}
        return Response(answer, status_code=202, headers={"Location": f"{ADMIN_PATH}/jobs/{job.id}"})


@contextmanager
def explained() -> Iterator[None]:
    """What the engine refuses, as answers."""
    try:
        yield
    except InvalidSchedule as error:
        raise refusal(error) from None
    except ScheduleNotFound as error:
        raise Problem(404, "schedule_not_found", str(error)) from None
    except ScheduleExists as error:
        raise Problem(409, "schedule_exists", f"{error}; PUT replaces it") from None
    except ScheduleDeclared as error:
        raise Problem(409, "schedule_declared", str(error)) from None
    except ScheduleBusy as error:
        raise Problem(409, "schedule_busy", str(error)) from None
    except ScheduleChanging as error:
        raise Problem(409, "schedule_changing", str(error)) from None
    except UnknownTask as error:
        raise Problem(409, "unknown_task", f"{error} in this version") from None


def view_of(platform: Platform, schedule: Schedule) -> ScheduleView:
    declared = platform.schedules.is_declared(schedule.name)
    return schedule_view(schedule, declared=declared, problem=_problem(platform, schedule))


def _readable(view: Shown, reader: Principal) -> Shown:
    """Its argument is that of its jobs: what of it others than those who read content may see."""
    if reader.reads_content:
        return view
    return msgspec.structs.replace(view, args=masked(view.args, content=False))


def _problem(platform: Platform, schedule: Schedule) -> str | None:
    registry = platform.engine.registry
    if schedule.enabled and schedule.next_at is None:
        return "it has ended"
    if schedule.task not in registry.task_names:
        return f"this version has no task {schedule.task}: it waits for a replica that has"
    if schedule.queue not in registry.queue_names:
        return f"this version has no queue {schedule.queue}: it waits for a replica that has"
    return None


def _detail(platform: Platform, schedule: Schedule) -> dict[str, Any]:
    view = view_of(platform, schedule)
    ticks = platform.schedules.preview(schedule)
    return {"success": True, "data": ScheduleDetail(**msgspec.structs.asdict(view), next_ticks=ticks)}


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT_DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= LIMIT_MAX):
        raise invalid("limit", f"must be a whole number from 1 to {LIMIT_MAX}")
    return int(text)


async def _audited(request: AdminRequest, platform: Platform, action: str, subject: str, asked: Any = None) -> None:
    """``asked``: a struct or an object of JSON values."""
    detail = {name: value for name, value in msgspec.to_builtins(asked or {}).items() if value is not None}
    change = audit.Change(actor=request.user.id, action=action, subject=subject, detail=detail)
    await audit.record(platform.pool, change)
