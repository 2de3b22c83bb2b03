"""Webhook triggers over HTTP: owners and operators make them, whoever knows the secret delivers to them."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
from litestar import Controller, Request, Response, Router, delete, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParams, RawBody, SkipValidation

from gateway.access import PUBLIC, Scope
from gateway.feature import OwnRouter
from gateway.services.orchestration.projects import no_project
from gateway.services.orchestration.triggers.desk import TriggerDesk, TriggerRequest, id_of, same_project
from gateway.services.orchestration.triggers.schemas import (
    PAGE_PARAMETERS,
    TriggerBody,
    new_trigger,
    page_of,
    read_page,
    trigger_view,
)
from gateway.services.orchestration.triggers.webhooks import Deliveries, Trigger, WebhookTriggers, no_trigger

TRIGGERS_PATH: Final = "/api/v1/orchestration/triggers"
WEBHOOKS_PATH: Final = "/api/v1/orchestration/webhooks"
DELIVERY_MAX_BYTES: Final = 1_000_000
READ: Final = {"access": Scope.ORCHESTRATION_READ}
CHANGE: Final = {"access": Scope.ORCHESTRATION_RUN}
_DELIVERIES_SHOWN: Final = 20

Desk = NamedDependency[SkipValidation[TriggerDesk]]
Triggers = NamedDependency[WebhookTriggers]


class ErrorBody(msgspec.Struct, frozen=True):
    """As of every answer that is not a success."""

    success: bool
    error: dict[str, Any]


class DeliveryData(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """``jobId``: the run. ``skipped``: why there is none. ``duplicate``: an earlier delivery was the same."""

    job_id: str | None = None
    skipped: str | None = None
    duplicate: bool = False
    mode: str | None = None


class DeliveryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    success: bool
    data: DeliveryData


_ERRORS: Final = {
    400: "The body is not JSON, or the delivery id is none",
    401: "The signature is missing, wrong or too old",
    404: "There is no such trigger",
    413: "The body is larger than 1 MB",
    429: "More deliveries than the trigger takes, or the queue is full; Retry-After says when to try again",
    503: "The database does not answer",
}


class TriggersController(Controller):
    path = TRIGGERS_PATH
    tags = ("orchestration",)

    @get("/", opt=READ | {"query": PAGE_PARAMETERS}, summary="Webhook triggers, newest first")
    async def index(
        self, request: TriggerRequest, desk: Desk, triggers: Triggers, query: QueryParams
    ) -> dict[str, Any]:
        """Of the caller's projects; viewers see all. Query: projectId, cursor, limit."""
        page = read_page(query)
        if page.project_id is not None:
            await desk.visible(request, page.project_id, no_project())
        member = None if request.user.sees_all else request.user.id
        found = await triggers.page(page.project_id, member, page.before, page.limit + 1)
        shown = [_view(triggers, each) for each in found[: page.limit]]
        return {"success": True, "data": shown, "page": page_of(found, page.limit)}

    @post("/", opt=CHANGE, summary="Let a signed webhook start runs of a project")
    async def create(
        self, request: TriggerRequest, desk: Desk, triggers: Triggers, data: JSONBody[TriggerBody]
    ) -> Response[dict[str, Any]]:
        """``secret`` is shown here and nowhere else."""
        await desk.changeable(request, data.project_id)
        await desk.check_agent(data.agent_slug)
        made, secret = await triggers.create(new_trigger(data), request.user.id)
        await desk.audited(request, "webhook_trigger.create", made.id, data)
        headers = {"Location": f"{TRIGGERS_PATH}/{made.id}"}
        return Response(_with_secret(triggers, made, secret), status_code=201, headers=headers)

    @get("/{trigger_id:str}", opt=READ, summary="One webhook trigger, and its last deliveries")
    async def show(
        self, request: TriggerRequest, desk: Desk, triggers: Triggers, trigger_id: FromPath[str]
    ) -> dict[str, Any]:
        trigger = await triggers.get(id_of(trigger_id, no_trigger()))
        await desk.visible(request, trigger.project_id, no_trigger())
        deliveries = [
            {
                "deliveryId": each["delivery_id"],
                "event": each["event"],
                "runId": each["run_id"],
                "skipped": each["skip_reason"],
                "at": each["at"],
            }
            for each in await triggers.deliveries(trigger.id, _DELIVERIES_SHOWN)
        ]
        return {"success": True, "data": _view(triggers, trigger), "deliveries": deliveries}

    @put("/{trigger_id:str}", opt=CHANGE, summary="Replace what a webhook trigger is; its secret stays")
    async def replace(
        self,
        request: TriggerRequest,
        desk: Desk,
        triggers: Triggers,
        trigger_id: FromPath[str],
        data: JSONBody[TriggerBody],
    ) -> dict[str, Any]:
        trigger = await self._changeable(request, desk, triggers, trigger_id)
        same_project(trigger.project_id, data.project_id)
        await desk.check_agent(data.agent_slug)
        changed = await triggers.replace(trigger.id, new_trigger(data))
        await desk.audited(request, "webhook_trigger.replace", trigger.id, data)
        return {"success": True, "data": _view(triggers, changed)}

    @post(
        "/{trigger_id:str}/rotate", opt=CHANGE, status_code=200, summary="Another secret; the old one is void at once"
    )
    async def rotate(
        self, request: TriggerRequest, desk: Desk, triggers: Triggers, trigger_id: FromPath[str]
    ) -> dict[str, Any]:
        trigger = await self._changeable(request, desk, triggers, trigger_id)
        rotated, secret = await triggers.rotate(trigger.id)
        await desk.audited(request, "webhook_trigger.rotate", trigger.id)
        return _with_secret(triggers, rotated, secret)

    @delete("/{trigger_id:str}", opt=CHANGE, summary="Delete a webhook trigger; its runs stay")
    async def remove(self, request: TriggerRequest, desk: Desk, triggers: Triggers, trigger_id: FromPath[str]) -> None:
        trigger = await self._changeable(request, desk, triggers, trigger_id)
        await triggers.delete(trigger.id)
        await desk.audited(request, "webhook_trigger.delete", trigger.id)

    async def _changeable(
        self, request: TriggerRequest, desk: TriggerDesk, triggers: WebhookTriggers, trigger_id: str
    ) -> Trigger:
        trigger = await triggers.get(id_of(trigger_id, no_trigger()))
        await desk.changeable(request, trigger.project_id, no_trigger())
        return trigger


class WebhooksController(Controller):
    path = WEBHOOKS_PATH
    tags = ("orchestration",)

    @post(
        "/{trigger_id:str}",
        opt={"access": PUBLIC},
        status_code=202,
        summary="Deliver a signed webhook",
        request_max_body_size=DELIVERY_MAX_BYTES,
        responses={
            202: ResponseSpec(DeliveryAnswer, generate_examples=False, description="A run, or why there is none")
        }
        | {
            status: ResponseSpec(ErrorBody, generate_examples=False, description=said)
            for status, said in _ERRORS.items()
        },
    )
    async def deliver(
        self,
        request: Request[Any, Any, Any],
        deliveries: NamedDependency[Deliveries],
        trigger_id: FromPath[str],
        body: RawBody,
    ) -> dict[str, Any]:
        """Signed as the trigger's ``scheme`` says: ``X-Gateway-Signature: t=<seconds since 1970>,v1=<hex HMAC-SHA256 of
        "t.body">``, or GitHub's ``X-Hub-Signature-256``. ``X-Gateway-Delivery`` (or ``X-GitHub-Delivery``) makes it
        safe to send again."""
        told = await deliveries.take(id_of(trigger_id, no_trigger()), body, request.headers, time.time())
        run_id = None if told.run_id is None else str(told.run_id)
        return {
            "success": True,
            "data": DeliveryData(job_id=run_id, skipped=told.skipped, duplicate=told.duplicate, mode=told.mode),
        }


def _view(triggers: WebhookTriggers, trigger: Trigger) -> Any:
    return trigger_view(trigger, f"{WEBHOOKS_PATH}/{trigger.id}", sound=triggers.secret_of(trigger) is not None)


def _with_secret(triggers: WebhookTriggers, trigger: Trigger, secret: str) -> dict[str, Any]:
    return {"success": True, "data": msgspec.to_builtins(_view(triggers, trigger)) | {"secret": secret}}


def webhook_routes(desk: TriggerDesk, triggers: WebhookTriggers, deliveries: Deliveries) -> Router:
    return OwnRouter(
        path="/",
        route_handlers=[TriggersController, WebhooksController],
        dependencies={
            "desk": Provide(lambda: desk, sync_to_thread=False),
            "triggers": Provide(lambda: triggers, sync_to_thread=False),
            "deliveries": Provide(lambda: deliveries, sync_to_thread=False),
        },
    )
