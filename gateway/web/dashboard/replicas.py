"""``/admin/queues/replicas``: who lives and how, what is odd about them together, and emptying one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from gateway.feature import Platform, ThePlatform
from gateway.jobs.fleet import oddities
from gateway.jobs.policy import RateLimit
from gateway.jobs.waiting import takes_jobs
from gateway.problem import Problem
from gateway.web.dashboard.forms import FORM_MAX_BYTES, number_of, read_form
from gateway.web.dashboard.frame import Page, PageRequest, TheDashboard, go_to, respond
from gateway.web.dashboard.look import duration
from gateway.web.dashboard.overview import READ_S
from gateway.web.dashboard.queue import OPERATE, READ, audited
from gateway.web.dashboard.store import SeenReplica, jobs_held, replicas_lately
from gateway.web.queue_controls import TheControls
from gateway.web.workers_admin import WITHIN, WITHIN_MAX_S


class Supply(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A queue's slots on live replicas beside what its rate limit can feed. ``useful``: that many slots; None: no job
    ran yet."""

    queue: str
    slots: int
    useful: int | None
    message: str


@get("/replicas", opt=READ | {"query": ("done",)}, include_in_schema=False)
async def replicas_page(request: PageRequest, platform: ThePlatform, dashboard: TheDashboard) -> Response[Any]:
    async with asyncio.timeout(READ_S):
        replicas = await replicas_lately(platform.pool)
        alive = [one for one in replicas if one.alive]
        silent = [one.id for one in replicas if not one.alive]
        held = await jobs_held(platform.pool, silent) if silent else {}
        supplies = await _supplies(platform, alive)
    page = Page(
        template="replicas.html",
        title="Replicas",
        place="replicas",
        data={
            "replicas": replicas,
            "versions": sorted({one.version for one in alive}),
            "oddities": oddities(alive),
            "supplies": supplies,
            "held": held,
        },
        topics=[f"queue:{name}" for name in platform.engine.registry.queue_names],
        extra={"within_max": WITHIN_MAX_S},
    )
    return respond(request, dashboard, page)


async def _supplies(platform: Platform, alive: Sequence[SeenReplica]) -> list[Supply]:
    """Of queues with a rate limit that somebody works on."""
    found = []
    for policy in platform.engine.registry.queues:
        slots = sum(one.slots[policy.name]["slots"] for one in alive if takes_jobs(one, policy.name))
        if policy.rate is not None and slots:
            job_s = await platform.engine.job_seconds(policy.name)
            found.append(supply_of(policy.name, slots, policy.rate, job_s))
    return found


def supply_of(queue: str, slots: int, rate: RateLimit, job_s: float | None) -> Supply:
    """By Little's law a limit keeps as many slots busy as it starts jobs in the time of one (``jobs/demand.py``)."""
    limit = f"{rate.max:,} per {duration(rate.duration_ms / 1000)}"
    has = f"{queue}: {slots:,} {'slot' if slots == 1 else 'slots'}; the limit of {limit}"
    if job_s is None:
        return Supply(queue=queue, slots=slots, useful=None, message=f"{has} holds over all replicas.")
    useful = max(1, math.ceil(rate.per_second * job_s))
    more = "do not make it faster" if slots >= useful else "make it faster while jobs wait"
    message = f"{has} needs about {useful:,} with jobs of {duration(job_s)}: more replicas {more}."
    return Supply(queue=queue, slots=slots, useful=useful, message=message)


@post("/replicas/{replica_id:str}/drain", opt=OPERATE, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def drain(
    request: PageRequest, platform: ThePlatform, controls: TheControls, replica_id: FromPath[str]
) -> Response[Any]:
    """``withinS``: its machine goes; what has not ended shortly before goes back to its queue."""
    within_s = number_of(await read_form(request), WITHIN, 1, WITHIN_MAX_S)
    if "\x00" in replica_id or not await controls.request_drain(replica_id, within_s):
        raise Problem(404, "worker_not_found", f"no live replica has the id {replica_id[:100]!r}")
    await audited(request, platform, "worker.drain", replica_id, {} if within_s is None else {WITHIN: within_s})
    return go_to(request, "/replicas", done="drain")


HANDLERS: Final = (replicas_page, drain)
