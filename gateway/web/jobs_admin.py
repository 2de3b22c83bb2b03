"""Jobs for administrators: finding them over all queues, changing one or many, cleaning up.

Every change leaves a row in ``admin_audit``; work on many jobs leaves one for the whole operation.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.params import FromPath, JSONBody

from gateway import audit
from gateway.access import Principal, Scope
from gateway.feature import Platform, ThePlatform
from gateway.infra.log import mask_text
from gateway.jobs.inspector import InvalidArgs, NotReplayable
from gateway.jobs.job import JobState
from gateway.jobs.operations import IDS_MAX, Action, OperationNotFound, Selection
from gateway.masking import masked
from gateway.problem import Problem
from gateway.web.auth import demand_scope
from gateway.web.invalid_body import explain
from gateway.web.jobs_search import (
    PARAMETERS,
    SearchOfAll,
    queue_of,
    read_filter,
    readable,
    refuse_hidden,
    search_jobs,
)
from gateway.web.queue_controls import waiting_job_detail
from gateway.web.queues_schemas import CancelRequest, Reason, full_name, invalid, job_detail, job_id_of

ADMIN_PATH: Final = "/api/v1/admin"
OPERATIONS_PATH: Final = f"{ADMIN_PATH}/operations"
BULL_BOARD_OPERATION: Final = "/admin/operations/{operation_id:str}"
CLEAN_DEFAULT: Final = 1000
CLEAN_MAX: Final = 10_000
OPERATIONS_SHOWN: Final = 50

READ: Final = {"access": Scope.ADMIN_READ}
OPERATE: Final = {"access": Scope.ADMIN_OPERATE}
WRITE: Final = {"access": Scope.ADMIN_WRITE}

AdminRequest = Request[Principal, Any, Any]


class ReplayRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``args``: the new job's argument, whole."""

    args: dict[str, Any]


class BulkFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As the parameters of the lists."""

    state: str | None = None
    q: str | None = None
    error: str | None = None
    group: str | None = None
    tag: str | None = None
    recipient: str | None = None
    since: str | None = msgspec.field(default=None, name="from")
    until: str | None = None

    @property
    def given(self) -> dict[str, str]:
        return {name: value for name, value in msgspec.to_builtins(self).items() if value is not None}


class BulkRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``filter`` or ``ids`` say which jobs; ``reason`` stands on those that are cancelled."""

    action: Action
    filter: BulkFilter | None = None
    ids: Annotated[tuple[UUID, ...], msgspec.Meta(max_length=IDS_MAX)] | None = None
    dry_run: bool = False
    reason: Reason | None = None


class CleanRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Jobs that ended more than ``older_than_ms`` ago, oldest first, at most ``limit``; without ``state`` both."""

    older_than_ms: Annotated[int, msgspec.Meta(ge=0, le=10 * 366 * 86_400_000)]
    state: Literal["completed", "failed"] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=CLEAN_MAX)] = CLEAN_DEFAULT


def _success(data: Any, **beside: Any) -> dict[str, Any]:
    return {"success": True, "data": data, **beside}


async def _audited(
    request: AdminRequest, platform: Platform, action: str, subject: object, detail: dict[str, Any]
) -> None:
    change = audit.Change(actor=request.user.id, action=action, subject=str(subject), detail=detail)
    await audit.record(platform.pool, change)


class JobsAdmin(Controller):
    path = f"{ADMIN_PATH}/jobs"
    tags = ("admin",)

    @get(
        "/",
        opt=READ | {"query": ("queue", *PARAMETERS)},
        operation_class=SearchOfAll,
        summary="Jobs of all queues, newest first",
    )
    async def find_jobs(self, request: AdminRequest, platform: ThePlatform) -> dict[str, Any]:
        query = dict(request.query_params.items())
        refuse_hidden(query, request.user)
        jobs, page = await search_jobs(platform, queue_of(platform, query), query)
        return _success(jobs, page=page)

    @get("/{job_id:str}", opt=READ, summary="One job: argument, result, progress, attempts, logs, why it waits")
    async def show_job(self, request: AdminRequest, platform: ThePlatform, job_id: FromPath[str]) -> dict[str, Any]:
        """Beside it ``links``: which job it repeats, and which repeat it. Without ``admin:content`` what people and
        models wrote is masked, and secrets are."""
        record = await platform.engine.get(job_id_of(job_id))
        detail = await waiting_job_detail(platform, record)
        if not request.user.reads_content:
            shown = {"data": masked(detail.data, content=False), "result": masked(detail.result, content=False)}
            detail = msgspec.structs.replace(detail, **shown)
        return _success(detail, links=await platform.inspector.links(record.id))

    @post("/{job_id:str}/retry", opt=OPERATE, status_code=200, summary="Run a failed job again")
    async def retry_job(self, request: AdminRequest, platform: ThePlatform, job_id: FromPath[str]) -> dict[str, Any]:
        wanted = job_id_of(job_id)
        record = await platform.engine.retry(wanted)
        await _audited(request, platform, "job.retry", wanted, {})
        return _success(job_detail(record))

    @post("/{job_id:str}/cancel", opt=OPERATE, status_code=200, summary="Cancel a job that has not finished")
    async def cancel_job(
        self,
        request: AdminRequest,
        platform: ThePlatform,
        job_id: FromPath[str],
        data: JSONBody[CancelRequest | None] = None,
    ) -> dict[str, Any]:
        wanted, asked = job_id_of(job_id), data or CancelRequest()
        reason = asked.reason or f"cancelled by {request.user.id}"
        record = await platform.engine.cancel_running(wanted, reason)
        await _audited(request, platform, "job.cancel", wanted, {"reason": asked.reason} if asked.reason else {})
        return _success(job_detail(record))

    @post("/{job_id:str}/promote", opt=OPERATE, status_code=200, summary="Let a delayed job wait no longer")
    async def promote_job(self, request: AdminRequest, platform: ThePlatform, job_id: FromPath[str]) -> dict[str, Any]:
        wanted = job_id_of(job_id)
        record = await platform.inspector.promote(wanted)
        await _audited(request, platform, "job.promote", wanted, {})
        return _success(job_detail(record))

    @delete("/{job_id:str}", opt=WRITE, status_code=200, summary="Delete a job that does not run")
    async def delete_job(self, request: AdminRequest, platform: ThePlatform, job_id: FromPath[str]) -> dict[str, Any]:
        wanted = job_id_of(job_id)
        old = await platform.engine.get(wanted)
        await platform.inspector.delete(wanted, f"deleted by {request.user.id}")
        await _audited(request, platform, "job.delete", wanted, {"state": old.state})
        return _success({"id": wanted, "deleted": True})

    @post(
        "/{job_id:str}/replay",
        opt=OPERATE,
        status_code=201,
        summary="Run a failed job's work again, as a new job with another argument",
    )
    async def replay_job(
        self, request: AdminRequest, platform: ThePlatform, job_id: FromPath[str], data: JSONBody[ReplayRequest]
    ) -> dict[str, Any]:
        wanted = job_id_of(job_id)
        try:
            record = await platform.inspector.replay(wanted, data.args)
        except InvalidArgs as error:
            detail = explain(error.cause, error.wanted)
            field = "args" if detail["field"] == "body" else f"args.{detail['field']}"
            raise invalid(field, detail["message"]) from None
        except NotReplayable as error:
            raise Problem(409, "not_replayable", str(error)) from None
        await _audited(request, platform, "job.replay", wanted, {"newId": str(record.id)})
        links = await platform.inspector.links(record.id)
        return _success(job_detail(record), links=links)


class BulkAdmin(Controller):
    path = f"{ADMIN_PATH}/queues/{{name:str}}"
    tags = ("admin",)

    @post("/bulk", opt=OPERATE, status_code=202, summary="Retry, cancel, delete or promote many jobs")
    async def change_many(
        self, request: AdminRequest, platform: ThePlatform, name: FromPath[str], data: JSONBody[BulkRequest]
    ) -> Response[dict[str, Any]]:
        """With ``dryRun`` nothing changes: 200 and how many there are. To delete needs ``admin:write``."""
        if data.action is Action.DELETE:
            demand_scope(request.user, Scope.ADMIN_WRITE)
        queue = full_name(name, platform.engine.registry.queue_names)
        chosen = await _selection(platform, queue, data)
        operations = platform.inspector.operations
        if data.dry_run:
            return Response(_success({"count": await operations.count(data.action, chosen)}), status_code=200)
        operation = await operations.start(data.action, chosen, request.user.id, data.reason)
        asked = {"filter": _shown(data.filter)} if data.filter is not None else {"ids": len(data.ids or ())}
        detail = {"action": data.action, "operationId": str(operation.id), "total": operation.total, **asked}
        await _audited(request, platform, "queue.bulk", queue, detail)
        answer = {"operationId": operation.id, "total": operation.total}
        headers = {"Location": f"{OPERATIONS_PATH}/{operation.id}"}
        return Response(_success(answer), status_code=202, headers=headers)

    @post("/clean", opt=WRITE, status_code=200, summary="Delete jobs that ended some time ago")
    async def clean(
        self, request: AdminRequest, platform: ThePlatform, name: FromPath[str], data: JSONBody[CleanRequest]
    ) -> dict[str, Any]:
        queue = full_name(name, platform.engine.registry.queue_names)
        states = [JobState(data.state)] if data.state else [JobState.COMPLETED, JobState.FAILED]
        cleaned = await platform.inspector.clean(queue, data.older_than_ms / 1000, states, data.limit)
        answer = {"completed": 0, "failed": 0} | {str(state): n for state, n in cleaned.items()}
        await _audited(request, platform, "queue.clean", queue, msgspec.to_builtins(data) | {"cleaned": answer})
        return _success({"cleaned": answer})


def _shown(asked: BulkFilter) -> dict[str, str]:
    """For the trail, which outlives the mails: addresses masked."""
    return {name: mask_text(value) for name, value in asked.given.items()}


async def _selection(platform: Platform, queue: str, data: BulkRequest) -> Selection:
    """Raises Problem 422 ``empty_filter`` when it would mean every job, 400 naming a wrong field."""
    if data.ids is not None and data.filter is not None:
        raise invalid("ids", "stands instead of filter, not beside it")
    given = data.filter.given if data.filter is not None else {}
    if not given and not data.ids:
        raise Problem(422, "empty_filter", "Name the jobs: a filter with at least one field, or ids")
    if data.ids is not None:
        return Selection(queue=queue, ids=data.ids)
    wanted = await read_filter(platform, queue, given, "filter.")
    if wanted.states and not set(wanted.states) & set(data.action.suits):
        raise invalid("filter.state", f"{data.action} is for jobs that are {', '.join(data.action.suits)}")
    return Selection(queue=queue, filter=wanted)


def _operation_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise invalid("id", f'"{text[:100]}" is not the id of an operation (a UUID)') from None


def _no_operation(error: OperationNotFound) -> Problem:
    return Problem(404, "operation_not_found", str(error))


@get(
    [f"{OPERATIONS_PATH}/{{operation_id:str}}", BULL_BOARD_OPERATION],
    opt=READ,
    summary="How far work on many jobs has come",
    tags=["admin"],
)
async def show_operation(request: AdminRequest, platform: ThePlatform, operation_id: FromPath[str]) -> dict[str, Any]:
    try:
        operation = await platform.inspector.operations.get(_operation_id(operation_id))
    except OperationNotFound as error:
        raise _no_operation(error) from None
    return _success(readable(operation, request.user))


@get(OPERATIONS_PATH, opt=READ, summary="The newest operations", tags=["admin"])
async def list_operations(request: AdminRequest, platform: ThePlatform) -> dict[str, Any]:
    newest = await platform.inspector.operations.newest(OPERATIONS_SHOWN)
    return _success([readable(operation, request.user) for operation in newest])


@post(
    f"{OPERATIONS_PATH}/{{operation_id:str}}/cancel",
    opt=OPERATE,
    status_code=200,
    summary="Stop work on many jobs; what is done stays done",
    tags=["admin"],
)
async def cancel_operation(request: AdminRequest, platform: ThePlatform, operation_id: FromPath[str]) -> dict[str, Any]:
    wanted = _operation_id(operation_id)
    try:
        operation = await platform.inspector.operations.cancel(wanted)
    except OperationNotFound as error:
        raise _no_operation(error) from None
    if operation is None:
        raise Problem(409, "wrong_state", f"operation {wanted} has ended")
    await _audited(request, platform, "operation.cancel", wanted, {"done": operation.done, "total": operation.total})
    return _success(operation)


ROUTES: Final = (JobsAdmin, BulkAdmin, show_operation, list_operations, cancel_operation)
