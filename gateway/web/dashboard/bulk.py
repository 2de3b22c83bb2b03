"""Work on many jobs: the number first, then an operation with its own page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath

from gateway.access import Scope
from gateway.feature import Platform, ThePlatform
from gateway.infra.log import mask_text
from gateway.jobs.operations import Action, OperationNotFound, Selection
from gateway.jobs.policy import NUMBER_MAX
from gateway.problem import Problem
from gateway.web.auth import demand_scope
from gateway.web.dashboard.forms import FORM_MAX_BYTES, TICKED_MAX, number_of, read_fields, read_form, reason_of
from gateway.web.dashboard.frame import Page, PageRequest, TheDashboard, go_to, respond
from gateway.web.dashboard.listing import FILTERS, wanted_of
from gateway.web.dashboard.look import segment
from gateway.web.dashboard.overview import READ_S
from gateway.web.dashboard.queue import OPERATE, READ, audited, queue_name
from gateway.web.jobs_search import read_filter, readable
from gateway.web.queues_schemas import invalid

OPERATIONS_SHOWN: Final = 50
QUERY_MAX: Final = 3_950  # characters, about 100 ids: some proxies refuse an address above 4,000
_ASKED: Final = ("action", "ids", *FILTERS)
TYPED_ABOVE: Final = 100  # jobs: from here on their number has to be typed
COUNT_S: Final = 10.0  # counting by text reads every job of its states


@get("/queue/{name:str}/bulk", opt=READ | {"query": _ASKED}, include_in_schema=False)
async def bulk_page(
    request: PageRequest, platform: ThePlatform, dashboard: TheDashboard, name: FromPath[str]
) -> Response[Any]:
    """How many there are, and the button that does it."""
    given = dict(request.query_params.items())
    return respond(request, dashboard, await _question(request, platform, queue_name(platform, name), given))


@post(
    "/queue/{name:str}/ticked",
    opt=OPERATE,
    status_code=200,
    include_in_schema=False,
    request_max_body_size=FORM_MAX_BYTES,
)
async def ticked_page(
    request: PageRequest, platform: ThePlatform, dashboard: TheDashboard, name: FromPath[str]
) -> Response[Any]:
    """The same of the rows that were ticked: by POST, because their ids can be too long for an address. Where they are
    not, a page that the browser can come back to."""
    fields, queue = await read_fields(request), queue_name(platform, name)
    ids = [value for field, value in fields if field == "id"]
    given = {field: value for field, value in fields if field != "id"} | {"ids": ",".join(ids)}
    asked: dict[str, str] = {name: given[name] for name in _ASKED if name in given}
    if ids and len(urlencode(asked)) <= QUERY_MAX:
        return go_to(request, f"/queue/{segment(queue)}/bulk", **asked)
    return respond(request, dashboard, await _question(request, platform, queue, given))


async def _question(request: PageRequest, platform: Platform, queue: str, given: Mapping[str, str]) -> Page:
    action, chosen = _action(request, given), await _chosen(request, platform, queue, given)
    async with asyncio.timeout(COUNT_S):
        count = await platform.inspector.operations.count(action, chosen)
    asked = {name: given[name] for name in FILTERS if given.get(name)}
    data = {
        "queue": queue,
        "action": action,
        "count": count,
        "asked": asked,
        "ticked": None if chosen.ids is None else len(chosen.ids),
        "typed": count > TYPED_ABOVE,
    }
    return Page(
        template="bulk.html",
        title=f"{action.capitalize()} jobs of {queue}",
        place="overview",
        data=data,
        extra={
            "path": f"/queue/{segment(queue)}",
            "ids": ",".join(map(str, chosen.ids or ())),
            "back": f"?{urlencode(asked)}" if asked else "",
        },
    )


@post("/queue/{name:str}/bulk", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def start_bulk(request: PageRequest, platform: ThePlatform, name: FromPath[str]) -> Response[Any]:
    queue, form = queue_name(platform, name), await read_form(request)
    action, reason = _action(request, form), reason_of(form)
    chosen, operations = await _chosen(request, platform, queue, form), platform.inspector.operations
    async with asyncio.timeout(COUNT_S):
        count = await operations.count(action, chosen)
    if count > TYPED_ABOVE:
        _confirmed(form, count)
    operation = await operations.start(action, chosen, request.user.id, reason)
    asked = {field: mask_text(form[field]) for field in FILTERS if form.get(field)}
    named = {"filter": asked} if chosen.ids is None else {"ids": len(chosen.ids)}
    detail = {"action": action, "operationId": str(operation.id), "total": operation.total, **named}
    await audited(request, platform, "queue.bulk", queue, detail)
    return go_to(request, f"/operations/{operation.id}")


def _confirmed(form: Mapping[str, str], count: int) -> None:
    """``count``: how many there are now. Raises Problem 400 for another number than the page showed, 409 when
    meanwhile there are more."""
    shown = number_of(form, "count", 0, NUMBER_MAX)
    if shown is None or form.get("typed") != str(shown):
        raise invalid("typed", f"must be the number of jobs, {count if shown is None else shown}: nothing was done")
    if count > shown:
        message = f"Meanwhile there are {count} jobs, not {shown}: nothing was done. Open the page that counts again"
        raise Problem(409, "more_jobs", message)


def _action(request: PageRequest, given: Mapping[str, str]) -> Action:
    """Raises Problem 400 for none, 403 for one that the caller may not do."""
    try:
        action = Action(given.get("action", ""))
    except ValueError:
        raise invalid("action", f"must be one of {', '.join(Action)}") from None
    demand_scope(request.user, Scope.ADMIN_WRITE if action is Action.DELETE else Scope.ADMIN_OPERATE)
    return action


async def _chosen(request: PageRequest, platform: Platform, queue: str, given: Mapping[str, str]) -> Selection:
    """Raises Problem 422 ``empty_filter`` when it would mean every job, 400 naming a wrong field."""
    if "ids" in given:
        return Selection(queue=queue, ids=_ids(given["ids"]))
    asked = wanted_of(given, request.user)
    if asked.pop("queue", queue) != queue:
        raise invalid("q", "names another queue")
    if not asked:
        raise Problem(422, "empty_filter", "Choose a state, or search for something: this would be every job")
    wanted = await read_filter(platform, queue, asked)
    action = Action(given["action"])
    if wanted.states and not set(wanted.states) & set(action.suits):
        raise invalid("status", f"{action} is for jobs that are {', '.join(action.suits)}")
    return Selection(queue=queue, filter=wanted)


def _ids(text: str) -> tuple[UUID, ...]:
    """Raises Problem 400."""
    if not text:
        raise invalid("id", "is missing: tick the jobs first, or choose all that match")
    try:
        ids = {UUID(part) for part in text.split(",")}
    except ValueError:
        raise invalid("id", "is not the id of a job (a UUID)") from None
    if len(ids) > TICKED_MAX:
        raise invalid("id", f"names {len(ids)} jobs; tick {TICKED_MAX} at most, or choose all that match")
    return tuple(sorted(ids))


@get("/operations", opt=READ, include_in_schema=False)
async def operations_page(request: PageRequest, platform: ThePlatform, dashboard: TheDashboard) -> Response[Any]:
    async with asyncio.timeout(READ_S):
        operations = await platform.inspector.operations.newest(OPERATIONS_SHOWN)
    data = {"operations": [readable(operation, request.user) for operation in operations]}
    known = platform.engine.registry.queue_names
    running = {one.queue for one in operations if one.state == "running"}
    topics = [f"queue:{name}" for name in known if name in running]
    page = Page(template="operations.html", title="Operations", place="operations", data=data, topics=topics)
    return respond(request, dashboard, page)


@get("/operations/{operation_id:str}", opt=READ | {"query": ("done",)}, include_in_schema=False)
async def operation_page(
    request: PageRequest, platform: ThePlatform, dashboard: TheDashboard, operation_id: FromPath[str]
) -> Response[Any]:
    wanted = _id(operation_id)
    try:
        async with asyncio.timeout(READ_S):
            operation = await platform.inspector.operations.get(wanted)
    except OperationNotFound as error:
        raise Problem(404, "operation_not_found", str(error)) from None
    page = Page(
        template="operation.html",
        title=f"{operation.action.capitalize()} many",
        place="operations",
        data={"operation": readable(operation, request.user)},
        topics=[f"queue:{operation.queue}"] if operation.queue in platform.engine.registry.queue_names else [],
        again_s=3 if operation.state == "running" else None,
    )
    return respond(request, dashboard, page)


@post("/operations/{operation_id:str}/stop", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def stop_operation(request: PageRequest, platform: ThePlatform, operation_id: FromPath[str]) -> Response[Any]:
    wanted = _id(operation_id)
    try:
        operation = await platform.inspector.operations.cancel(wanted)
    except OperationNotFound as error:
        raise Problem(404, "operation_not_found", str(error)) from None
    if operation is None:
        raise Problem(409, "wrong_state", f"operation {wanted} has ended")
    detail = {"done": operation.done, "total": operation.total}
    await audited(request, platform, "operation.cancel", str(wanted), detail)
    return go_to(request, f"/operations/{wanted}", done="stop")


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem(404, "operation_not_found", "There is no such operation") from None


HANDLERS: Final = (bulk_page, ticked_page, start_bulk, operations_page, operation_page, stop_operation)
