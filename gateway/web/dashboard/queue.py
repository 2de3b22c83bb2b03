"""``/admin/queues/queue/{name}``: one queue's numbers, jobs and controls. Addresses are those of Bull Board."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from gateway import audit
from gateway.access import Scope
from gateway.feature import Platform, ThePlatform
from gateway.jobs.policy import ATTEMPTS_MAX, CONCURRENCY_MAX, NUMBER_MAX, QueuePolicy
from gateway.jobs.records import Replica
from gateway.web.dashboard.forms import FORM_MAX_BYTES, number_of, read_form, reason_of
from gateway.web.dashboard.frame import Page, PageRequest, TheDashboard, go_to, respond
from gateway.web.dashboard.listing import FILTERS, QUERY, Listing, listing, named, tabs_of
from gateway.web.dashboard.look import segment
from gateway.web.dashboard.overview import READ_S, QueueRow, banners_of, queue_rows
from gateway.web.deadline import within
from gateway.web.queue_controls import QueueDetail, TheControls, queue_detail
from gateway.web.queues_admin import PAUSE_MAX
from gateway.web.queues_schemas import full_name, invalid

READ: Final = {"access": Scope.ADMIN_READ, "session": True}
OPERATE: Final = {"access": Scope.ADMIN_OPERATE, "session": True, "form": True}
WRITE: Final = {"access": Scope.ADMIN_WRITE, "session": True, "form": True}


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """``changed``: limits are not those of the settings. ``missing``: ids of the replicas that take the queue's jobs
    and do not go by them yet, or are of a version that does not tell."""

    changed: bool
    replicas: int
    missing: list[str]


def queue_name(platform: Platform, name: str) -> str:
    """Raises Problem 404."""
    return full_name(name, platform.engine.registry.queue_names)


async def audited(request: PageRequest, platform: Platform, action: str, subject: str, detail: dict[str, Any]) -> None:
    change = audit.Change(actor=request.user.id, action=action, subject=subject, detail=detail)
    await audit.record(platform.pool, change)


@get("/queue/{name:str}", opt=READ | {"query": QUERY}, include_in_schema=False)
async def queue_page(
    request: PageRequest, platform: ThePlatform, dashboard: TheDashboard, name: FromPath[str]
) -> Response[Any]:
    queue = queue_name(platform, name)
    query = dict(request.query_params.items())

    async def read() -> tuple[list[Replica], list[QueueRow], QueueDetail, Listing]:
        replicas = await platform.engine.replicas()
        rows = await queue_rows(platform, replicas)
        detail = await queue_detail(platform, queue)
        return replicas, rows, detail, await listing(platform, queue, query, request.user)

    replicas, rows, detail, found = await within(READ_S, read())
    names = await within(READ_S, named(dashboard.features, found.jobs))
    row = next(row for row in rows if row.name == queue)
    takers = [replica for replica in replicas if queue in replica.slots]
    data = {
        "queue": detail,
        "row": row,
        "replicas": {
            "live": len(takers),
            "draining": sum(replica.draining for replica in takers),
            "busy": [replica.id for replica in takers if replica.slots[queue]["busy"]],
        },
        "applied": applied_by(platform.engine.registry.queue(queue), takers),
        "tabs": tabs_of(row.counts, found.status),
        "listing": found,
        "names": names,
    }
    page = Page(
        template="queue.html",
        title=queue,
        place="overview",
        data=data,
        banners=banners_of(row),
        topics=[f"queue:{queue}"],
        extra={
            "path": f"/queue/{segment(queue)}",
            "filters": {name: query[name] for name in FILTERS if query.get(name)},
        },
    )
    return respond(request, dashboard, page)


def applied_by(policy: QueuePolicy, takers: Sequence[Replica]) -> Applied:
    revisions = {replica.id: replica.slots[policy.name].get("limits") for replica in takers}
    missing = [name for name, revision in revisions.items() if revision != policy.revision]
    return Applied(changed=policy.revision != 0, replicas=len(takers), missing=missing)


@post("/queue/{name:str}/pause", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def pause(request: PageRequest, platform: ThePlatform, name: FromPath[str]) -> Response[Any]:
    """``until`` a time (UTC), or until somebody resumes it."""
    queue, form = queue_name(platform, name), await read_form(request)
    until, reason = _until(form), reason_of(form)
    await platform.engine.pause(queue, until=until, reason=reason)
    detail = {"until": until.isoformat() if until else None, "reason": reason}
    given = {field: value for field, value in detail.items() if value is not None}
    await audited(request, platform, "queue.pause", queue, given)
    return go_to(request, f"/queue/{segment(queue)}", done="pause")


def _until(form: dict[str, str]) -> datetime | None:
    """The browser's field has no zone: it is asked for in UTC."""
    text = form.get("until")
    if text is None:
        return None
    now = datetime.now(UTC)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise invalid("until", "must be a time, as in 2026-05-01T15:00") from None
    until = given.replace(tzinfo=UTC) if given.tzinfo is None else given
    if not now < until <= now + PAUSE_MAX:
        raise invalid("until", "is not within the year to come; leave it out to pause until somebody resumes")
    return until


@post("/queue/{name:str}/resume", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def resume(request: PageRequest, platform: ThePlatform, name: FromPath[str]) -> Response[Any]:
    queue = queue_name(platform, name)
    await platform.engine.resume(queue)
    await audited(request, platform, "queue.resume", queue, {})
    return go_to(request, f"/queue/{segment(queue)}", done="resume")


@post("/queue/{name:str}/limits", opt=WRITE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def change_limits(
    request: PageRequest, platform: ThePlatform, controls: TheControls, name: FromPath[str]
) -> Response[Any]:
    """A field that is empty is as in the settings again. Both numbers of the rate belong together."""
    queue, form = queue_name(platform, name), await read_form(request)
    changes = {
        "concurrency": number_of(form, "concurrency", 1, CONCURRENCY_MAX),
        "rate_max": number_of(form, "rateMax", 1, NUMBER_MAX),
        "rate_duration_ms": number_of(form, "rateDurationMs", 1, NUMBER_MAX),
        "attempts": number_of(form, "attempts", 1, ATTEMPTS_MAX),
        "backoff_ms": number_of(form, "backoffMs", 1, NUMBER_MAX),
    }
    if (changes["rate_max"] is None) != (changes["rate_duration_ms"] is None):
        raise invalid("rateMax", "and the length of its window go together; leave both empty for the settings' rate")
    await controls.change(queue, changes)
    await audited(request, platform, "queue.limits", queue, changes)
    return go_to(request, f"/queue/{segment(queue)}", done="limits")


HANDLERS: Final = (queue_page, pause, resume, change_limits)
