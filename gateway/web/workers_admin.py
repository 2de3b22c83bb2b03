"""Replicas for administrators: who lives, what is odd about them together, and how one is emptied."""

from __future__ import annotations

from typing import Any, Final

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParams, SkipValidation

from gateway import audit
from gateway.access import Principal, Scope
from gateway.feature import ThePlatform
from gateway.jobs.controls import Controls
from gateway.jobs.fleet import oddities
from gateway.problem import Problem
from gateway.web.queues_schemas import invalid, worker_view

READ: Final = {"access": Scope.ADMIN_READ}
WITHIN: Final = "withinS"
WITHIN_MAX_S: Final = 86_400

# How a route asks for it: the app provides it under the name "controls".
TheControls = NamedDependency[SkipValidation[Controls]]


class WorkersAdmin(Controller):
    path = "/api/v1/admin/workers"
    tags = ("admin",)

    @get("/", opt=READ, summary="Live replicas and their slots")
    async def list_workers(self, platform: ThePlatform) -> dict[str, Any]:
        return _success([worker_view(replica) for replica in await platform.engine.replicas()])

    @get("/oddities", opt=READ, summary="What is odd about the live replicas together")
    async def list_oddities(self, platform: ThePlatform) -> dict[str, Any]:
        """Double consumers, mixed versions, settings and modes; each with what to do. Empty: nothing."""
        return _success(oddities(await platform.engine.replicas()))

    @post(
        "/{worker_id:str}/drain",
        opt={"access": Scope.ADMIN_OPERATE, "query": (WITHIN,)},
        status_code=202,
        summary="Let a replica take no further job",
    )
    async def drain_worker(
        self,
        request: Request[Principal, Any, Any],
        platform: ThePlatform,
        controls: TheControls,
        worker_id: FromPath[str],
        query: QueryParams,
    ) -> dict[str, Any]:
        """It finishes what it runs and answers HTTP as before; it takes jobs again when it is restarted. With withinS
        its machine goes: it is not ready any more, and what has not ended shortly before that many seconds are over
        goes back to its queue, without having lost an attempt."""
        within_s = _within_s(query.get(WITHIN))
        if "\x00" in worker_id or not await controls.request_drain(worker_id, within_s):
            raise Problem(404, "worker_not_found", f"no live replica has the id {worker_id[:100]!r}")
        asked = {} if within_s is None else {WITHIN: within_s}
        change = audit.Change(actor=request.user.id, action="worker.drain", subject=worker_id, detail=asked)
        await audit.record(platform.pool, change)
        return _success({"id": worker_id, "draining": True, **asked})


def _within_s(text: str | None) -> int | None:
    """Raises Problem 400."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= WITHIN_MAX_S):
        raise invalid(WITHIN, f"must be a whole number of seconds from 1 to {WITHIN_MAX_S}; a spot machine has 120")
    return int(text)


def _success(data: Any) -> dict[str, Any]:
    return {"success": True, "data": data}
