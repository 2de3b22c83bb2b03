"""The e-mail queue for administrators: the paths and bodies of document 003."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from gateway.access import Scope
from gateway.jobs.errors import JobNotFound, WrongState
from gateway.problem import Problem
from gateway.services.email.fields import Problems
from gateway.services.email.listing import read_limit
from gateway.services.email.queue import EmailQueueService

ADMIN_EMAIL_QUEUE_PATH = "/api/v1/admin/email/queue"
READ = {"access": Scope.ADMIN_READ}
OPERATE = {"access": Scope.ADMIN_OPERATE}
FAILED_DEFAULT = 10

Queue = NamedDependency[EmailQueueService]
FailedLimit = Annotated[str | None, QueryParameter(name="failedLimit")]
DryRun = Annotated[bool, QueryParameter(name="dryRun")]


class AdminEmailQueueController(Controller):
    path = ADMIN_EMAIL_QUEUE_PATH
    tags = ("admin",)

    @get("/", opt=READ, summary="The e-mail queue's numbers and last failures")
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
    async def retry_job(self, queue: Queue, job_id: FromPath[str]) -> dict[str, Any]:
        try:
            await queue.retry_job(UUID(job_id))
        except (ValueError, JobNotFound, WrongState):
            raise Problem(404, "not_found", "Job not found or not failed") from None
        return {"success": True, "message": "Job queued for retry"}

    @post("/retry-failed", opt=OPERATE, status_code=202, summary="Send all failed e-mails' jobs again")
    async def retry_failed(self, queue: Queue, dry_run: DryRun = False) -> Response[dict[str, Any]]:
        """With ``dryRun`` nothing changes: 200 and how many there are."""
        if dry_run:
            stats = await queue.get_stats()
            return Response({"success": True, "data": {"wouldRetry": stats.failed}}, status_code=200)
        return Response({"success": True, "data": {"retried": await queue.retry_all_failed()}}, status_code=202)
