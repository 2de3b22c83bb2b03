"""What a cron job of the installation may ask of agent runs (``Authorization: Bearer <CRON_SECRET>``)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Router, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter

from gateway import audit
from gateway.access import MACHINE, Principal
from gateway.feature import OwnRouter, Platform, ThePlatform
from gateway.jobs.errors import QueueFull
from gateway.jobs.job import PRIORITY_MAX, PRIORITY_MIN
from gateway.problem import Problem
from gateway.services.orchestration.projects import Project, ProjectFilter, Projects, project_id_of
from gateway.services.orchestration.queue import DEFAULT_PRIORITY, ORCHESTRATION_QUEUE
from gateway.services.orchestration.schemas import JobType, OrchestrationJobData, TriggerSource
from gateway.services.orchestration.starting import NewRun, Runs, Started
from gateway.services.orchestration.upkeep import clean

WORKERS_PATH: Final = "/api/v1/workers/orchestration"
DAYS_DEFAULT: Final = 7
_PAGE: Final = 100

Priority = Annotated[int, QueryParameter(ge=PRIORITY_MIN, le=PRIORITY_MAX)]
UseQueue = Annotated[bool, QueryParameter(name="useQueue")]
Days = Annotated[int, QueryParameter(name="olderThanDays", ge=1, le=3650)]
Machine = Request[Principal, Any, Any]


@dataclass(frozen=True, slots=True)
class Batches:
    """Starts the batches that machines ask for."""

    projects: Projects
    runs: Runs

    async def start(self, project_id: str, priority: int) -> Started:
        """Raises Problem for what stands against it, and ``QueueFull``."""
        data = OrchestrationJobData(
            project_id=project_id, triggered_by=TriggerSource.CRON, job_type=JobType.BATCH, priority=priority
        )
        return await self.runs.start(NewRun(data=data))

    async def active(self) -> AsyncIterator[Project]:
        """All projects that are not archived, in pages."""
        wanted = ProjectFilter(member=None)
        while page := await self.projects.page("", wanted, _PAGE):
            for project in page:
                yield project
            wanted = msgspec.structs.replace(wanted, before=page[-1].id)


class OrchestrationMachineController(Controller):
    path = WORKERS_PATH
    tags = ("machines",)

    @post(
        "/batch",
        opt={"access": MACHINE, "query": ("useQueue", "priority"), "starts_runs": True},
        status_code=202,
        summary="A batch for each active project",
    )
    async def batch(
        self, batches: NamedDependency[Batches], use_queue: UseQueue = True, priority: Priority = DEFAULT_PRIORITY
    ) -> dict[str, Any]:
        """``skipped`` says which project has none and why. Runs are queued whatever ``useQueue`` says: nothing is done
        inside a request."""
        started, skipped = [], []
        async for project in batches.active():
            try:
                run = await batches.start(str(project.id), priority)
                started.append({"projectId": project.id, "jobId": run.run_id})
            except Problem as problem:
                skipped.append({"projectId": project.id, "code": problem.code, "reason": problem.message})
            except QueueFull as full:  # some have started: the caller must hear which
                skipped.append({"projectId": project.id, "code": "queue_full", "reason": str(full)})
        return {"success": True, "data": {"started": started, "skipped": skipped}}

    @post(
        "/project/{project_id:str}",
        opt={"access": MACHINE, "query": ("useQueue", "priority"), "starts_runs": True},
        status_code=202,
        summary="A batch for one project",
    )
    async def project(
        self,
        batches: NamedDependency[Batches],
        project_id: FromPath[str],
        use_queue: UseQueue = True,
        priority: Priority = DEFAULT_PRIORITY,
    ) -> dict[str, Any]:
        run = await batches.start(str(project_id_of(project_id)), priority)
        return {"success": True, "data": {"jobId": run.run_id, "status": "queued", "mode": run.mode}}

    @post("/retry-failed", opt={"access": MACHINE}, status_code=200, summary="Run all failed agent jobs again")
    async def retry_failed(self, request: Machine, platform: ThePlatform) -> dict[str, Any]:
        """``failedJobs``: how many there were. One whose work is open again by other means stays failed."""
        failed = (await platform.engine.counts(ORCHESTRATION_QUEUE)).failed
        retried = await platform.engine.retry_all_failed(ORCHESTRATION_QUEUE)
        counts = {"retriedCount": retried, "failedJobs": max(failed, retried)}
        await _audited(request, platform, "queue.retry_failed", counts)
        return {"success": True, "data": counts}

    @post(
        "/cleanup",
        opt={"access": MACHINE, "query": ("olderThanDays",)},
        status_code=200,
        summary="Delete what ended long ago",
    )
    async def cleanup(
        self, request: Machine, platform: ThePlatform, older_than_days: Days = DAYS_DEFAULT
    ) -> dict[str, Any]:
        """What was paid and what agents brought is kept."""
        cleaned = msgspec.to_builtins(await clean(platform, older_than_days))
        await _audited(request, platform, "queue.cleanup", {"olderThanDays": older_than_days} | cleaned)
        return {"success": True, "data": cleaned}


async def _audited(request: Machine, platform: Platform, action: str, detail: dict[str, Any]) -> None:
    change = audit.Change(actor=request.user.id, action=action, subject=ORCHESTRATION_QUEUE, detail=detail)
    await audit.record(platform.pool, change)


def machine_routes(projects: Projects, runs: Runs) -> Router:
    batches = Batches(projects, runs)
    return OwnRouter(
        path="/",
        route_handlers=[OrchestrationMachineController],
        dependencies={"batches": Provide(lambda: batches, sync_to_thread=False)},
    )
