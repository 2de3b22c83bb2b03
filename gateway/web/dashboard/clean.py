"""``/admin/queues/queue/{name}/clean``: jobs that ended some time ago are deleted, after their number was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath

from gateway.feature import ThePlatform
from gateway.jobs.job import JobState
from gateway.web.dashboard.bulk import COUNT_S, TYPED_ABOVE
from gateway.web.dashboard.forms import FORM_MAX_BYTES, number_of, read_form
from gateway.web.dashboard.frame import Page, PageRequest, TheDashboard, go_to, respond
from gateway.web.dashboard.look import segment
from gateway.web.dashboard.queue import WRITE, audited, queue_name
from gateway.web.dashboard.store import count_ended
from gateway.web.jobs_admin import CLEAN_MAX
from gateway.web.queues_schemas import invalid

HOURS_MAX: Final = 10 * 366 * 24
_STATES: Final = {
    "": (JobState.COMPLETED, JobState.FAILED),
    "completed": (JobState.COMPLETED,),
    "failed": (JobState.FAILED,),
}


@get("/queue/{name:str}/clean", opt=WRITE | {"query": ("state", "hours")}, include_in_schema=False)
async def clean_page(
    request: PageRequest, platform: ThePlatform, dashboard: TheDashboard, name: FromPath[str]
) -> Response[Any]:
    """How many there are, and the button that does it."""
    queue, query = queue_name(platform, name), dict(request.query_params.items())
    states, hours = _asked(query)
    async with asyncio.timeout(COUNT_S):
        count = await count_ended(platform.pool, queue, states, hours * 3600.0, CLEAN_MAX)
    data = {
        "queue": queue,
        "state": query.get("state", ""),
        "hours": hours,
        "count": count,
        "typed": count > TYPED_ABOVE,
        "most": CLEAN_MAX,
    }
    extra = {"path": f"/queue/{segment(queue)}"}
    page = Page(template="clean.html", title=f"Clean {queue}", place="overview", data=data, extra=extra)
    return respond(request, dashboard, page)


@post("/queue/{name:str}/clean", opt=WRITE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def clean(request: PageRequest, platform: ThePlatform, name: FromPath[str]) -> Response[Any]:
    """Never more than were shown."""
    queue, form = queue_name(platform, name), await read_form(request)
    states, hours = _asked(form)
    count = number_of(form, "count", 1, CLEAN_MAX)
    if count is None:
        raise invalid("count", "is missing: begin with the page that counts")
    if count > TYPED_ABOVE and form.get("typed") != str(count):
        raise invalid("typed", f"must be the number of jobs, {count}: nothing was done")
    cleaned = await platform.inspector.clean(queue, hours * 3600.0, states, count)
    detail = {"olderThanMs": hours * 3_600_000, "state": form.get("state", ""), "cleaned": cleaned}
    await audited(request, platform, "queue.clean", queue, detail)
    return go_to(request, f"/queue/{segment(queue)}", done="clean")


def _asked(given: Mapping[str, str]) -> tuple[tuple[JobState, ...], int]:
    """Which, and older than how many hours. Raises Problem 400."""
    states = _STATES.get(given.get("state", ""))
    if states is None:
        raise invalid("state", "must be completed or failed, or empty for both")
    hours = number_of(given, "hours", 1, HOURS_MAX)
    if hours is None:
        raise invalid("hours", "is missing: older than how many hours?")
    return states, hours


HANDLERS: Final = (clean_page, clean)
