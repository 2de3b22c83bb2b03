"""Pages beside the queues: the search over all jobs, schedules, and who did what."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from gateway.access import Scope
from gateway.feature import ThePlatform
from gateway.masking import masked, pretty
from gateway.problem import Problem
from gateway.web.dashboard.forms import FORM_MAX_BYTES, read_form, reason_of
from gateway.web.dashboard.frame import Page, PageRequest, TheDashboard, go_to, respond
from gateway.web.dashboard.listing import QUERY, listing, named
from gateway.web.dashboard.overview import READ_S
from gateway.web.dashboard.queue import OPERATE, READ, audited
from gateway.web.dashboard.store import audit_page
from gateway.web.queues_schemas import invalid
from gateway.web.schedules_admin import explained, view_of

SHOWN: Final = 50


@get("/jobs", opt=READ | {"query": QUERY}, include_in_schema=False)
async def jobs_page(request: PageRequest, platform: ThePlatform, dashboard: TheDashboard) -> Response[Any]:
    async with asyncio.timeout(READ_S):
        found = await listing(platform, None, dict(request.query_params.items()), request.user)
        names = await named(dashboard.features, found.jobs)
    data = {"listing": found, "names": names}
    page = Page(template="jobs.html", title="Jobs", place="jobs", data=data, extra={"path": "/jobs"})
    return respond(request, dashboard, page)


@get("/schedules", opt=READ | {"query": ("cursor", "done")}, include_in_schema=False)
async def schedules_page(request: PageRequest, platform: ThePlatform, dashboard: TheDashboard) -> Response[Any]:
    cursor = request.query_params.get("cursor")
    if cursor is not None and not cursor.isprintable():
        raise invalid("cursor", "is not the name of a schedule")
    async with asyncio.timeout(READ_S):
        found = await platform.schedules.page("", cursor, SHOWN + 1)
    views = [view_of(platform, one) for one in found[:SHOWN]]
    following = urlencode({"cursor": found[SHOWN - 1].name}) if len(found) > SHOWN else None
    page = Page(
        template="schedules.html",
        title="Schedules",
        place="schedules",
        data={
            # Their arguments are those of jobs; here nobody needs them.
            "schedules": [_without_args(view) for view in views],
            "following": following,
        },
    )
    return respond(request, dashboard, page)


def _without_args(view: Any) -> dict[str, Any]:
    return {name: getattr(view, name) for name in view.__struct_fields__ if name != "args"}


@post("/schedules/{name:str}/pause", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def pause_schedule(request: PageRequest, platform: ThePlatform, name: FromPath[str]) -> Response[Any]:
    reason = reason_of(await read_form(request))
    with explained():
        await platform.schedules.pause(_name(name), reason or f"paused by {request.user.id}")
    await audited(request, platform, "schedule.pause", name, {"reason": reason} if reason else {})
    return go_to(request, "/schedules", done="schedule-pause")


@post("/schedules/{name:str}/resume", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def resume_schedule(request: PageRequest, platform: ThePlatform, name: FromPath[str]) -> Response[Any]:
    with explained():
        await platform.schedules.resume(_name(name))
    await audited(request, platform, "schedule.resume", name, {})
    return go_to(request, "/schedules", done="schedule-resume")


@post("/schedules/{name:str}/run", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def run_schedule(request: PageRequest, platform: ThePlatform, name: FromPath[str]) -> Response[Any]:
    with explained():
        job = await platform.schedules.run(_name(name))
    await audited(request, platform, "schedule.run", name, {"jobId": str(job.id)})
    return go_to(request, "/schedules", done="schedule-run")


def _name(text: str) -> str:
    if not text.isprintable():
        raise Problem(404, "schedule_not_found", "There is no such schedule")
    return text


@get(
    "/audit",
    opt={"access": Scope.ADMIN_WRITE, "session": True, "query": ("cursor",)},
    include_in_schema=False,
)
async def trail_page(request: PageRequest, platform: ThePlatform, dashboard: TheDashboard) -> Response[Any]:
    text = request.query_params.get("cursor")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise invalid("cursor", "is not the number of an entry")
    async with asyncio.timeout(READ_S):
        found = await audit_page(platform.pool, int(text) if text else None, SHOWN + 1)
    following = found[SHOWN - 1].id if len(found) > SHOWN else None
    entries = [msgspec.structs.replace(one, detail=masked(one.detail, content=True)) for one in found[:SHOWN]]
    page = Page(
        template="audit.html",
        title="Audit",
        place="audit",
        data={"entries": entries, "following": following},
        extra={"details": {entry.id: pretty(entry.detail) for entry in entries}},
    )
    return respond(request, dashboard, page)


@get("/{rest:path}", opt=READ, include_in_schema=False)
async def nowhere(rest: FromPath[Path]) -> None:
    raise Problem(404, "not_found", f"There is no page at {rest.as_posix()[:200]}; the menu has all there are")


HANDLERS: Final = (
    nowhere,
    jobs_page,
    schedules_page,
    pause_schedule,
    resume_schedule,
    run_schedule,
    trail_page,
)
