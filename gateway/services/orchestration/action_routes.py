"""Approvals and the policies of actions over HTTP: members see them; owners and operators decide and change."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, Router, delete, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParams

from gateway.access import Principal, Scope
from gateway.feature import OwnRouter
from gateway.problem import Problem
from gateway.services.orchestration.action_configs import ActionConfigs, no_config
from gateway.services.orchestration.action_policy import COOLDOWN_S, MAX_PER_DAY, MAX_PER_HOUR, ActionPolicy, Risk
from gateway.services.orchestration.action_store import ActionFilter
from gateway.services.orchestration.actions import ActionKind, ActionStatus
from gateway.services.orchestration.approvals import Approvals, no_action
from gateway.services.orchestration.queries import PARAMETERS, paged, read_page

APPROVALS_PATH: Final = "/api/v1/orchestration/approvals"
CONFIGS_PATH: Final = "/api/v1/orchestration/action-configs"
READ: Final = {"access": Scope.ORCHESTRATION_READ}
CHANGE: Final = {"access": Scope.ORCHESTRATION_RUN}
COMMENT_MAX: Final = 2_000

AgentRequest = Request[Principal, Any, Any]
TheApprovals = NamedDependency[Approvals]
TheConfigs = NamedDependency[ActionConfigs]

_Comment = Annotated[str, msgspec.Meta(max_length=COMMENT_MAX, pattern=r"^[^\x00]*$")]
_PerHour = Annotated[int, msgspec.Meta(ge=1, le=1000)]
_PerDay = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
_Cooldown = Annotated[int, msgspec.Meta(ge=0, le=86_400)]


class ApproveBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``editedArguments``: what shall be done instead of what the agent asked for; all fields of its kind."""

    comment: _Comment | None = None
    edited_arguments: dict[str, Any] | None = None


class RejectBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    comment: _Comment | None = None


class ConfigBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Above low ``risk`` a person decides whatever ``requiresApproval`` says."""

    enabled: bool = True
    requires_approval: bool = True
    risk: Risk = Risk.MEDIUM
    max_per_hour: _PerHour = MAX_PER_HOUR
    max_per_day: _PerDay = MAX_PER_DAY
    cooldown_seconds: _Cooldown = COOLDOWN_S

    def policy(self) -> ActionPolicy:
        return ActionPolicy(
            enabled=self.enabled,
            requires_approval=self.requires_approval,
            risk=self.risk,
            max_per_hour=self.max_per_hour,
            max_per_day=self.max_per_day,
            cooldown_s=self.cooldown_seconds,
        )


class NewConfigBody(ConfigBody, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    project_id: UUID
    action: ActionKind


class ApprovalsController(Controller):
    path = APPROVALS_PATH
    tags = ("orchestration",)

    @get("/", opt=READ | {"query": PARAMETERS}, summary="What agents want to do, and what became of it")
    async def list_approvals(
        self, request: AgentRequest, approvals: TheApprovals, query: QueryParams
    ) -> dict[str, Any]:
        """Newest first, of the caller's projects; viewers see all. Query: projectId; runId; status; cursor, which is
        ``page.nextCursor`` of the page before; limit, 1 to 100, default 50."""
        page = read_page(query, ActionStatus)
        wanted = ActionFilter(
            project_id=page.project_id,
            status=ActionStatus(page.status) if page.status else None,
            run_id=page.run_id,
            before=page.before,
        )
        return paged(await approvals.page(request.user, wanted, page.limit + 1), page.limit)

    @get("/{action_id:str}", opt=READ, summary="One action")
    async def show_approval(
        self, request: AgentRequest, approvals: TheApprovals, action_id: FromPath[str]
    ) -> dict[str, Any]:
        return {"success": True, "data": await approvals.get(request.user, _action_id(action_id))}

    @post("/{action_id:str}/approve", opt=CHANGE, status_code=200, summary="Have a pending action done")
    async def approve(
        self,
        request: AgentRequest,
        approvals: TheApprovals,
        action_id: FromPath[str],
        data: JSONBody[ApproveBody | None] = None,
    ) -> dict[str, Any]:
        """Answers when the decision and the job that does it are committed; ``jobId`` is that job."""
        asked = data or ApproveBody()
        found = await approvals.approve(request.user, _action_id(action_id), asked.comment, asked.edited_arguments)
        return {"success": True, "data": found}

    @post("/{action_id:str}/reject", opt=CHANGE, status_code=200, summary="Have a pending action not done")
    async def reject(
        self,
        request: AgentRequest,
        approvals: TheApprovals,
        action_id: FromPath[str],
        data: JSONBody[RejectBody | None] = None,
    ) -> dict[str, Any]:
        asked = data or RejectBody()
        return {"success": True, "data": await approvals.reject(request.user, _action_id(action_id), asked.comment)}


class ActionConfigsController(Controller):
    path = CONFIGS_PATH
    tags = ("orchestration",)

    @get("/", opt=READ | {"query": ("projectId",)}, summary="What agents may do in a project")
    async def list_configs(self, request: AgentRequest, configs: TheConfigs, query: QueryParams) -> dict[str, Any]:
        """One policy for each kind of action; those with ``id`` null are built in. Query: projectId, required."""
        project_id = read_page(query, ActionStatus).project_id
        if project_id is None:
            details = [{"field": "projectId", "message": "is required"}]
            raise Problem(400, "validation_error", "projectId: is required", details=details)
        return {"success": True, "data": await configs.of(request.user, project_id)}

    @post("/", opt=CHANGE, summary="Replace the built-in policy of a kind of action")
    async def create_config(
        self, request: AgentRequest, configs: TheConfigs, data: JSONBody[NewConfigBody]
    ) -> Response[dict[str, Any]]:
        made = await configs.create(request.user, data.project_id, data.action, data.policy())
        headers = {"Location": f"{CONFIGS_PATH}/{made.id}"}
        return Response({"success": True, "data": made}, status_code=201, headers=headers)

    @put("/{config_id:str}", opt=CHANGE, summary="Replace a policy of actions")
    async def replace_config(
        self, request: AgentRequest, configs: TheConfigs, config_id: FromPath[str], data: JSONBody[ConfigBody]
    ) -> dict[str, Any]:
        """What is not named gets its default. What was approved before keeps to the new limits too."""
        return {"success": True, "data": await configs.replace(request.user, _config_id(config_id), data.policy())}

    @delete("/{config_id:str}", opt=CHANGE, summary="Let the built-in policy hold again")
    async def delete_config(self, request: AgentRequest, configs: TheConfigs, config_id: FromPath[str]) -> None:
        await configs.delete(request.user, _config_id(config_id))


def action_routes(approvals: Approvals, configs: ActionConfigs) -> Router:
    return OwnRouter(
        path="/",
        route_handlers=[ApprovalsController, ActionConfigsController],
        dependencies={
            "approvals": Provide(lambda: approvals, sync_to_thread=False),
            "configs": Provide(lambda: configs, sync_to_thread=False),
        },
    )


def _action_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise no_action() from None


def _config_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise no_config() from None
