"""``/admin/queues/queue/{name}/{jobId}``: all that is known of one job, and what may be done to it."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from gateway.feature import Platform, ThePlatform
from gateway.infra.log import MASK
from gateway.jobs.errors import UnknownTask
from gateway.jobs.inspector import InvalidArgs, NotReplayable
from gateway.jobs.job import OPEN, JobState
from gateway.masking import MaskLeft, masked, pretty, unmasked
from gateway.pages import Related
from gateway.problem import Problem
from gateway.web.dashboard.forms import FORM_MAX_BYTES, read_form, reason_of
from gateway.web.dashboard.frame import Dashboard, Page, PageRequest, TheDashboard, go_to, respond
from gateway.web.dashboard.look import segment
from gateway.web.dashboard.overview import READ_S
from gateway.web.dashboard.queue import OPERATE, READ, WRITE, audited, queue_name
from gateway.web.dashboard.timeline import kept_until, steps_of, verdict
from gateway.web.invalid_body import explain
from gateway.web.queue_controls import waiting_job_detail
from gateway.web.queues_schemas import JobDetail, invalid

_JOB: Final = "/queue/{name:str}/{job_id:str}"
EDITED_MAX: Final = 200_000  # characters of an argument that can be edited on the page


@get(_JOB, opt=READ | {"query": ("done", "status", "page")}, include_in_schema=False)
async def job_page(
    request: PageRequest, platform: ThePlatform, dashboard: TheDashboard, name: FromPath[str], job_id: FromPath[str]
) -> Response[Any]:
    wanted = job_id_of(job_id)
    async with asyncio.timeout(READ_S):
        record = await platform.engine.get(wanted)
        if record.queue != name:
            return go_to(request, f"/queue/{segment(record.queue)}/{wanted}")
        job = await waiting_job_detail(platform, record)
        links = await platform.inspector.links(wanted)
        related = await _related(dashboard, record.queue, wanted)
    may_read = request.user.reads_content
    args, result = masked(job.data, content=may_read), masked(job.result, content=may_read)
    shown = pretty(args)
    known = record.queue in platform.engine.registry.queue_names
    data = {
        "job": msgspec.structs.replace(job, data=args, result=result),
        "links": links,
        "related": related,
        "steps": steps_of(job),
        "verdict": verdict(job),
        "kept_until": kept_until(job, platform.engine.registry.queue(record.queue).retention) if known else None,
    }
    page = Page(
        template="job.html",
        title=f"Job {job_id[:8]}",
        place="jobs",
        data=data,
        topics=[f"queue:{job.queue}"],
        extra={
            "path": f"/queue/{segment(job.queue)}/{wanted}",
            "args": shown,
            **_replay(platform, job, args),
            "result": None if result is None else pretty(result),
            "is_open": job.state in OPEN,
        },
    )
    return respond(request, dashboard, page)


def _replay(platform: Platform, job: JobDetail, args: Any) -> dict[str, str | None]:
    """The argument for who wants to edit it, or why the job cannot be repeated with another one."""
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        return {"editable": None, "no_replay": None}
    try:
        refusal = platform.engine.registry.task(job.task).no_replay
    except UnknownTask:
        refusal = f"this version has no task {job.task}"
    return {"editable": None if refusal else pretty_whole(args), "no_replay": refusal}


async def _related(dashboard: Dashboard, queue: str, job_id: UUID) -> list[Related]:
    """What features have to show of one of their jobs."""
    found: list[Related] = []
    for feature in dashboard.features:
        about = feature.pages.about_job if feature.pages is not None else None
        if about is not None and any(policy.name == queue for policy in feature.queues):
            found += await about(job_id)
    return found


def job_id_of(text: str) -> UUID:
    """Raises Problem 404: ids of other queues' systems are no jobs of ours."""
    try:
        return UUID(text)
    except ValueError:
        raise Problem(404, "job_not_found", f"no job {text[:100]!r}; ids of jobs are UUIDs") from None


def pretty_whole(args: Any) -> str | None:
    """None for an argument that is too large to be edited on a page."""
    text = pretty(args, None)
    return text if len(text) <= EDITED_MAX else None


@post(f"{_JOB}/retry", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def retry(request: PageRequest, platform: ThePlatform, job_id: FromPath[str]) -> Response[Any]:
    wanted = job_id_of(job_id)
    record = await platform.engine.retry(wanted)
    await audited(request, platform, "job.retry", str(wanted), {})
    return go_to(request, f"/queue/{segment(record.queue)}/{wanted}", done="retry")


@post(f"{_JOB}/cancel", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def cancel(request: PageRequest, platform: ThePlatform, job_id: FromPath[str]) -> Response[Any]:
    wanted, reason = job_id_of(job_id), reason_of(await read_form(request))
    record = await platform.engine.cancel_running(wanted, reason or f"cancelled by {request.user.id}")
    await audited(request, platform, "job.cancel", str(wanted), {"reason": reason} if reason else {})
    return go_to(request, f"/queue/{segment(record.queue)}/{wanted}", done="cancel")


@post(f"{_JOB}/promote", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def promote(request: PageRequest, platform: ThePlatform, job_id: FromPath[str]) -> Response[Any]:
    wanted = job_id_of(job_id)
    record = await platform.inspector.promote(wanted)
    await audited(request, platform, "job.promote", str(wanted), {})
    return go_to(request, f"/queue/{segment(record.queue)}/{wanted}", done="promote")


@post(f"{_JOB}/delete", opt=WRITE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def delete(
    request: PageRequest, platform: ThePlatform, name: FromPath[str], job_id: FromPath[str]
) -> Response[Any]:
    wanted, queue = job_id_of(job_id), queue_name(platform, name)
    old = await platform.engine.get(wanted)
    await platform.inspector.delete(wanted, f"deleted by {request.user.id}")
    await audited(request, platform, "job.delete", str(wanted), {"state": old.state})
    return go_to(request, f"/queue/{segment(queue)}", done="delete")


@post(f"{_JOB}/replay", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def replay(request: PageRequest, platform: ThePlatform, job_id: FromPath[str]) -> Response[Any]:
    """The argument as it was edited; what was masked and left alone is what it was."""
    wanted, form = job_id_of(job_id), await read_form(request)
    try:
        edited = msgspec.json.decode(form.get("args", "").encode(), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid("args", f"is not an object in JSON: {error}") from None
    old = await platform.engine.get(wanted)
    try:
        record = await platform.inspector.replay(wanted, unmasked(edited, old.args))
    except MaskLeft as error:
        message = f"has {MASK} where nothing is hidden: write the whole value, or leave it as it was shown"
        raise invalid(f"args.{error.path}", message) from None
    except InvalidArgs as error:
        detail = explain(error.cause, error.wanted)
        field = "args" if detail["field"] == "body" else f"args.{detail['field']}"
        raise invalid(field, detail["message"]) from None
    except NotReplayable as error:
        raise Problem(409, "not_replayable", str(error)) from None
    await audited(request, platform, "job.replay", str(wanted), {"newId": str(record.id)})
    return go_to(request, f"/queue/{segment(record.queue)}/{record.id}", done="replay")


HANDLERS: Final = (job_page, retry, cancel, promote, delete, replay)
