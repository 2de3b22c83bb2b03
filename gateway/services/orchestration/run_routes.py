"""Runs over HTTP: members of a project start, watch, cancel and repeat them; others see nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from litestar import Controller, Request, Response, Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParams, RawBody, SkipValidation
from litestar.response import Stream

from gateway.access import Principal, Scope
from gateway.feature import OwnRouter, ThePlatform
from gateway.idempotency import request_hash
from gateway.realtime.stream import HEADERS, MEDIA_TYPE
from gateway.services.orchestration.projects import Projects
from gateway.services.orchestration.queries import paged, read_page
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE
from gateway.services.orchestration.run_events import Followers, run_events, run_stream
from gateway.services.orchestration.run_schemas import (
    CancelBody,
    QueueStatsView,
    RunBodies,
    RunBody,
    RunDetail,
    StartedAnswer,
    StartedBatchAnswer,
    StartedView,
    TriggerBody,
    triggered,
    wanted_run,
    wanted_runs,
)
from gateway.services.orchestration.run_views import run_detail, run_view, stats_of, without_content
from gateway.services.orchestration.runs import Run, RunFilter, RunStatus, run_id_of
from gateway.services.orchestration.starting import Call, Runs, Started

ORCHESTRATION_PATH: Final = "/api/v1/orchestration"
JOBS_PATH: Final = f"{ORCHESTRATION_PATH}/jobs"
READ: Final = {"access": Scope.ORCHESTRATION_READ}
RUN: Final = {"access": Scope.ORCHESTRATION_RUN}
ADMIN: Final = {"access": Scope.ADMIN_READ}
QUERY: Final = ("projectId", "status", "cursor", "limit")
# These answers are stored whole, for requests that are repeated: their handlers return bytes.
ACCEPTED: Final = {202: ResponseSpec(StartedAnswer, generate_examples=False, description="Committed: it will run")}
ACCEPTED_BATCH: Final = {202: ResponseSpec(StartedBatchAnswer, generate_examples=False, description="All will run")}

RunRequest = Request[Principal, Any, Any]
IdempotencyKey = Annotated[str | None, HeaderParameter(name="Idempotency-Key")]


@dataclass(frozen=True, slots=True)
class RunDesk:
    """What the routes of runs need. ``configured``: a provider of models is set."""

    runs: Runs
    projects: Projects
    configured: bool

    async def detail(self, reader: Principal, run: Run) -> RunDetail:
        store = self.runs.store
        detail = run_detail(run, await store.steps(run.id), await store.brought(run.id))
        return detail if await self.projects.may_read(reader, run.project_id) else without_content(detail)


Desk = NamedDependency[SkipValidation[RunDesk]]


class TriggerController(Controller):
    path = ORCHESTRATION_PATH
    tags = ("orchestration",)

    @post("/trigger", opt=RUN, status_code=202, summary="Run a project's agents now", responses=ACCEPTED)
    async def trigger(
        self,
        request: RunRequest,
        desk: Desk,
        data: JSONBody[TriggerBody],
        body: RawBody,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        """With priority 10, before everything else that waits."""
        wanted = triggered(data, request.user)
        return (await desk.runs.accept(_call(request, idempotency_key, body), [wanted], _one)).response()

    @get("/queue/stats", opt=ADMIN, summary="The queue of runs")
    async def stats(self, platform: ThePlatform, desk: Desk) -> dict[str, Any]:
        status = await platform.engine.queue_status(ORCHESTRATION_QUEUE)
        view = QueueStatsView(configured=desk.configured, is_paused=status.paused, stats=stats_of(status.counts))
        return {"success": True, "data": view}


class RunsController(Controller):
    path = JOBS_PATH
    tags = ("orchestration",)

    @post("/", opt=RUN, status_code=202, summary="Start a run", responses=ACCEPTED)
    async def start(
        self,
        request: RunRequest,
        desk: Desk,
        data: JSONBody[RunBody],
        body: RawBody,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        wanted = wanted_run(data, request.user)
        return (await desk.runs.accept(_call(request, idempotency_key, body), [wanted], _one)).response()

    @post("/batch", opt=RUN, status_code=202, summary="Start up to 100 runs, or none", responses=ACCEPTED_BATCH)
    async def start_many(
        self,
        request: RunRequest,
        desk: Desk,
        data: JSONBody[RunBodies],
        body: RawBody,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        wanted = wanted_runs(data, request.user)
        return (await desk.runs.accept(_call(request, idempotency_key, body), wanted, _many)).response()

    @get("/", opt=READ | {"query": QUERY}, summary="Runs, newest first")
    async def index(self, request: RunRequest, desk: Desk, query: QueryParams) -> dict[str, Any]:
        """Of the caller's projects; viewers see all. Query: projectId; status; cursor, which is ``page.nextCursor`` of
        the page before; limit, 1 to 100, default 50."""
        page = read_page(query, RunStatus)
        if page.project_id is not None:
            await desk.projects.visible(request.user, page.project_id)
        wanted = RunFilter(
            project_id=page.project_id,
            member=None if request.user.sees_all else request.user.id,
            status=RunStatus(page.status) if page.status else None,
            before=page.before,
        )
        found = await desk.runs.store.page(wanted, page.limit + 1)
        return paged([run_view(run) for run in found], page.limit)

    @get("/{run_id:str}", opt=READ, summary="One run, its steps and what it cost")
    async def show(self, request: RunRequest, desk: Desk, run_id: FromPath[str]) -> dict[str, Any]:
        run = await desk.runs.visible(request.user, run_id_of(run_id))
        return {"success": True, "data": await desk.detail(request.user, run)}

    @post("/{run_id:str}/cancel", opt=RUN, status_code=202, summary="End a run")
    async def cancel(
        self,
        request: RunRequest,
        desk: Desk,
        run_id: FromPath[str],
        data: JSONBody[CancelBody | None] = None,
    ) -> dict[str, Any]:
        """One that waits is cancelled at once, one that runs within about a second; what it has done stays."""
        run = await desk.runs.runnable(request.user, run_id_of(run_id))
        asked = data or CancelBody()
        ended = await desk.runs.cancel(run, asked.reason or f"cancelled by {request.user.id}", request.user.id)
        return {"success": True, "data": await desk.detail(request.user, ended)}

    @post("/{run_id:str}/retry", opt=RUN, status_code=202, summary="Do what a run left undone", responses=ACCEPTED)
    async def retry(
        self,
        request: RunRequest,
        desk: Desk,
        run_id: FromPath[str],
        data: JSONBody[CancelBody | None] = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        """A new run of type retry, with the same context. Steps that were completed are taken over and cost nothing."""
        run = await desk.runs.runnable(request.user, run_id_of(run_id))
        call = _call(request, idempotency_key, await request.body())
        return (await desk.runs.retry(call, run, _one)).response()

    @get(
        "/{run_id:str}/events",
        opt=READ | {"query": ("token",), "query_token": True},
        summary="A run as it happens, as server-sent events",
        media_type=MEDIA_TYPE,
    )
    async def follow(
        self,
        request: RunRequest,
        platform: ThePlatform,
        desk: Desk,
        clients: NamedDependency[SkipValidation[Followers]],
        run_id: FromPath[str],
    ) -> Stream:
        """Events: started, progress, token, step, approval, completed, failed. ``Last-Event-ID`` goes on after that
        event; without it the run is told from its beginning, as far as that is kept. Who may not read what models wrote
        gets no tokens."""
        run = await desk.runs.visible(request.user, run_id_of(run_id))
        stream = run_stream(platform.hub, run)
        leave = await clients.follow(request, stream.listener)
        words = await desk.projects.may_read(request.user, run.project_id)
        events = run_events(stream, run, request.headers.get("last-event-id"), leave, words=words)
        return Stream(events, media_type=MEDIA_TYPE, headers=HEADERS)


def run_routes(desk: RunDesk) -> Router:
    return OwnRouter(
        path="/",
        route_handlers=[TriggerController, RunsController],
        dependencies={"desk": Provide(lambda: desk, sync_to_thread=False)},
    )


def _call(request: RunRequest, key: str | None, body: bytes) -> Call:
    return Call(caller=request.user, key=key, request=request_hash(request.method, request.url.path, body))


def _one(started: Sequence[Started]) -> dict[str, Any]:
    return {"success": True, "data": _view(started[0])}


def _many(started: Sequence[Started]) -> dict[str, Any]:
    return {"success": True, "data": [_view(one) for one in started]}


def _view(started: Started) -> StartedView:
    duplicate = started.job.duplicate
    return StartedView(
        job_id=started.run_id,
        status="queued",
        mode=started.mode,
        message="A run of this kind waits already and stands for this one" if duplicate else "The run is queued",
        duplicate=duplicate,
    )
