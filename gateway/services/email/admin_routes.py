"""The e-mail queue for administrators: the paths and bodies of document 003."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from gateway import audit
from gateway.access import Principal, Scope
from gateway.feature import Platform, ThePlatform
from gateway.jobs.errors import JobNotFound, WrongState
from gateway.problem import Problem
from gateway.services.email.fields import Problems
from gateway.services.email.listing import read_limit
from gateway.services.email.queue import EMAIL_QUEUE, EmailQueueService

ADMIN_EMAIL_QUEUE_PATH = "/api/v1/admin/email/queue"
READ = {"access": Scope.ADMIN_READ}
OPERATE = {"access": Scope.ADMIN_OPERATE}
FAILED_DEFAULT = 10

Queue = NamedDependency[EmailQueueService]
Admin = Request[Principal, Any, Any]
FailedLimit = Annotated[str | None, QueryParameter(name="failedLimit")]
DryRun = Annotated[bool, QueryParameter(name="dryRun")]


class AdminEmailQueueController(Controller):
    path = ADMIN_EMAIL_QUEUE_PATH
    tags = ("admin",)

    @get("/", opt=READ | {"query": ("failedLimit",)}, summary="The e-mail queue's numbers and last failures")
    async def show_queue(self, queue: Queue, failed_limit: FailedLimit = None) -> dict[str, Any]:
        """Exactly the keys of document 003, no other."""
        problems = Problems()
        limit = read_limit("failedLimit", failed_limit, problems, low=0, default=FAILED_DEFAULT)
        problems.raise_if_any()
        return {
            "success": True,
            "data": {"stats": await queue.get_stats(), "failedJobs": await queue.get_failed_jobs(limit)},
        }

    @post("/retry/{job_id:str}", opt=OPERATE, status_code=200, summary="Send a failed e-mail's job again")
    async def retry_job(
        self, request: Admin, platform: ThePlatform, queue: Queue, job_id: FromPath[str]
    ) -> dict[str, Any]:
        try:
            wanted = UUID(job_id)
            await queue.retry_job(wanted)
        except (ValueError, JobNotFound, WrongState):
            raise Problem(404, "not_found", "Job not found or not failed") from None
        await _audit(request, platform, "job.retry", str(wanted), {})
        return {"success": True, "message": "Job queued for retry"}

    @post(
        "/retry-failed",
        opt=OPERATE | {"query": ("dryRun",)},
        status_code=202,
        summary="Send all failed e-mails' jobs again",
    )
    async def retry_failed(
        self, request: Admin, platform: ThePlatform, queue: Queue, dry_run: DryRun = False
    ) -> Response[dict[str, Any]]:
        """With ``dryRun`` nothing changes: 200 and how many there are."""
        if dry_run:
            stats = await queue.get_stats()
            return Response({"success": True, "data": {"wouldRetry": stats.failed}}, status_code=200)
        retried = await queue.retry_all_failed()
        await _audit(request, platform, "queue.retry_failed", EMAIL_QUEUE, {"retried": retried})
        return Response({"success": True, "data": {"retried": retried}}, status_code=202)


async def _audit(request: Admin, platform: Platform, action: str, subject: str, detail: dict[str, Any]) -> None:
    change = audit.Change(actor=request.user.id, action=action, subject=subject, detail=detail)
    await audit.record(platform.pool, change)
