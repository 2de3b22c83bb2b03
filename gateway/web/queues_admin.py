"""Queues for administrators: what the command line and the dashboard read and change.

A queue may be named in full or short (``email`` for ``email-queue``). Every change leaves a row in ``admin_audit``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from litestar import Controller, Request, get, post
from litestar.params import FromPath, JSONBody

from gateway import audit
from gateway.access import Principal, Scope
from gateway.feature import Platform, ThePlatform
from gateway.problem import Problem
from gateway.web.jobs_search import PARAMETERS, SearchOfQueue, refuse_hidden, search_jobs
from gateway.web.queue_controls import queue_detail
from gateway.web.queues_schemas import (
    PauseRequest,
    full_name,
    invalid,
    queue_view,
)

ADMIN_PATH = "/api/v1/admin"
BULL_BOARD_PATH = "/admin/queues/api/queues"
BULL_BOARD_COUNTS = ("active", "waiting", "completed", "failed")
PAUSE_MAX = timedelta(days=366)

READ = {"access": Scope.ADMIN_READ}
OPERATE = {"access": Scope.ADMIN_OPERATE}

AdminRequest = Request[Principal, Any, Any]


def _success(data: Any, **beside: Any) -> dict[str, Any]:
    return {"success": True, "data": data, **beside}


async def _audited(request: AdminRequest, platform: Platform, action: str, subject: str, detail: Any = None) -> None:
    """Write down a change that was just made. ``detail``: a struct of what was asked."""
    await audit.record(
        platform.pool,
        audit.Change(
            actor=request.user.id,
            action=action,
            subject=subject,
            detail={k: v for k, v in msgspec.to_builtins(detail or {}).items() if v is not None},
        ),
    )


class QueuesAdmin(Controller):
    path = f"{ADMIN_PATH}/queues"
    tags = ("admin",)

    @get("/", opt=READ, summary="All queues with their numbers")
    async def list_queues(self, platform: ThePlatform) -> dict[str, Any]:
        replicas = await platform.engine.replicas()
        names = platform.engine.registry.queue_names
        return _success([queue_view(await platform.engine.queue_status(name), replicas) for name in names])

    @get("/{name:str}", opt=READ, summary="One queue: counts, pause, limits, workers, why it waits")
    async def show_queue(self, platform: ThePlatform, name: FromPath[str]) -> dict[str, Any]:
        return _success(await queue_detail(platform, full_name(name, platform.engine.registry.queue_names)))

    @get(
        "/{name:str}/jobs",
        opt=READ | {"query": PARAMETERS},
        operation_class=SearchOfQueue,
        summary="Jobs of a queue, newest first",
    )
    async def list_jobs(self, request: AdminRequest, platform: ThePlatform, name: FromPath[str]) -> dict[str, Any]:
        queue = full_name(name, platform.engine.registry.queue_names)
        query = dict(request.query_params.items())
        refuse_hidden(query, request.user)
        jobs, page = await search_jobs(platform, queue, query)
        return _success(jobs, page=page)

    @post("/{name:str}/pause", opt=OPERATE, status_code=200, summary="Start no more jobs of a queue")
    async def pause(
        self,
        request: AdminRequest,
        platform: ThePlatform,
        name: FromPath[str],
        data: JSONBody[PauseRequest | None] = None,
    ) -> dict[str, Any]:
        queue = full_name(name, platform.engine.registry.queue_names)
        wanted = data or PauseRequest()
        now = datetime.now(UTC)
        if wanted.until is not None and not now < wanted.until <= now + PAUSE_MAX:
            raise invalid("until", "is not within the year to come; leave it out to pause until somebody resumes")
        await platform.engine.pause(queue, until=wanted.until, reason=wanted.reason)
        await _audited(request, platform, "queue.pause", queue, wanted)
        return _success(await queue_detail(platform, queue))

    @post("/{name:str}/resume", opt=OPERATE, status_code=200, summary="Start jobs of a queue again")
    async def resume(self, request: AdminRequest, platform: ThePlatform, name: FromPath[str]) -> dict[str, Any]:
        queue = full_name(name, platform.engine.registry.queue_names)
        await platform.engine.resume(queue)
        await _audited(request, platform, "queue.resume", queue)
        return _success(await queue_detail(platform, queue))

    @post("/{name:str}/rebuild", opt=OPERATE, status_code=200, summary="Tell Redis a queue again from the ledger")
    async def rebuild(self, request: AdminRequest, platform: ThePlatform, name: FromPath[str]) -> dict[str, Any]:
        """Safe at any time, and done by itself after a flush: no job runs twice for it."""
        queue = full_name(name, platform.engine.registry.queue_names)
        told = await platform.engine.rebuild(queue)
        if told is None:
            raise Problem(409, "direct_mode", "Jobs are taken from the ledger itself now; there is nothing to rebuild")
        await _audited(request, platform, "queue.rebuild", queue, {"jobs": told})
        return _success({"queue": queue, "jobs": told})


@get(BULL_BOARD_PATH, opt=READ | {"session": True}, summary="Queues as Bull Board lists them", tags=["admin"])
async def bull_board_queues(platform: ThePlatform) -> dict[str, Any]:
    """Exactly the keys of document 002, so that what reads Bull Board's list reads this."""
    counts = await platform.engine.all_counts()
    return {
        "queues": [
            {"name": name, "counts": {state: getattr(numbers, state) for state in BULL_BOARD_COUNTS}}
            for name, numbers in counts.items()
        ]
    }


ROUTES = (QueuesAdmin, bull_board_queues)
