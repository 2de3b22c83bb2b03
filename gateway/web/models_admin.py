"""Language models for administrators: prices, limits, and providers at rest (docs/models.md).

Every change leaves a row in ``admin_audit``, and holds for the next call of every replica.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Controller, Request, Response, get, post, put
from litestar.params import FromPath, JSONBody

from gateway import audit
from gateway.access import Principal, Scope
from gateway.feature import Platform, ThePlatform
from gateway.llm import admin, configured_providers, default_model
from gateway.problem import Problem
from gateway.web.queues_schemas import PauseRequest, invalid

MODELS_PATH: Final = "/api/v1/admin/models"
READ: Final = {"access": Scope.ADMIN_READ}
OPERATE: Final = {"access": Scope.ADMIN_OPERATE}
WRITE: Final = {"access": Scope.ADMIN_WRITE}

AdminRequest = Request[Principal, Any, Any]

_Model = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x20\x7f]*$")]
_Requests = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000_000)]
_Micros = Annotated[int, msgspec.Meta(ge=0, le=100_000_000_000)]


class LimitBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Of ``model`` in any minute, over all replicas; null is no limit."""

    model: _Model
    requests_per_minute: _Requests | None = None
    tokens_per_minute: _Tokens | None = None


class PriceBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Millionths of a US dollar for a million tokens: 0.25 dollars are 250000. ``validFrom``: by default now."""

    model: _Model
    provider: Literal["openai", "anthropic", "google"]
    input_micros: _Micros
    output_micros: _Micros
    valid_from: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class ProviderView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``configured``: this replica has its key. ``paused_until`` None beside ``paused``: until somebody resumes it."""

    name: str
    configured: bool
    paused: bool
    paused_until: datetime | None
    kind: str | None
    reason: str | None
    failures: int


class ModelsAdmin(Controller):
    path = MODELS_PATH
    tags = ("admin",)

    @get("/", opt=READ, summary="Language models: prices, limits, providers")
    async def show(self, platform: ThePlatform) -> dict[str, Any]:
        configured = configured_providers(platform.settings)
        models = [
            msgspec.to_builtins(row) | {"configured": row.provider in configured}
            for row in await admin.model_rows(platform.pool)
        ]
        providers = [_provider(row, configured) for row in await admin.lane_rows(platform.pool)]
        default = default_model(platform.settings)
        return {"success": True, "data": {"defaultModel": default, "providers": providers, "models": models}}

    @put("/limits", opt=WRITE, summary="Limit a model, over all replicas")
    async def limit(self, request: AdminRequest, platform: ThePlatform, data: JSONBody[LimitBody]) -> dict[str, Any]:
        """Both null, or left out: no limit any more."""
        actor = request.user.id
        await admin.set_limit(platform.pool, data.model, data.requests_per_minute, data.tokens_per_minute, actor)
        await _audited(request, platform, "model.limit", data.model, msgspec.to_builtins(data))
        return {"success": True, "data": data}

    @post("/prices", opt=WRITE, summary="A model's price, from a date on")
    async def price(
        self, request: AdminRequest, platform: ThePlatform, data: JSONBody[PriceBody]
    ) -> Response[dict[str, Any]]:
        """Earlier prices stay; what was recorded by them does not change."""
        await admin.set_price(platform.pool, admin.NewPrice(**msgspec.structs.asdict(data)))
        await _audited(request, platform, "model.price", data.model, msgspec.to_builtins(data))
        return Response({"success": True, "data": data}, status_code=201)

    @post(
        "/providers/{provider:str}/pause", opt=OPERATE, status_code=200, summary="Call a provider no more for a while"
    )
    async def pause(
        self,
        request: AdminRequest,
        platform: ThePlatform,
        provider: FromPath[str],
        data: JSONBody[PauseRequest | None] = None,
    ) -> dict[str, Any]:
        """Jobs that need it come again later, without losing an attempt; calls under way end as they would."""
        asked = data or PauseRequest()
        if asked.until is not None and asked.until <= datetime.now(UTC):
            raise invalid("until", "is not in the future")
        await _known(platform, provider)
        await admin.pause(platform.pool, provider, asked.until, asked.reason or f"paused by {request.user.id}")
        await _audited(request, platform, "provider.pause", provider, msgspec.to_builtins(asked))
        return {"success": True, "data": await _known(platform, provider)}

    @post("/providers/{provider:str}/resume", opt=OPERATE, status_code=200, summary="Call a provider again")
    async def resume(self, request: AdminRequest, platform: ThePlatform, provider: FromPath[str]) -> dict[str, Any]:
        """Whatever closed its lane: a person, its own wish to rest, or failures."""
        await _known(platform, provider)
        await admin.resume(platform.pool, provider)
        await _audited(request, platform, "provider.resume", provider, {})
        return {"success": True, "data": await _known(platform, provider)}


async def _known(platform: Platform, provider: str) -> ProviderView:
    rows = await admin.lane_rows(platform.pool)
    for row in rows:
        if row.provider == provider:
            return _provider(row, configured_providers(platform.settings))
    names = ", ".join(row.provider for row in rows)
    raise Problem(404, "unknown_provider", f"There is no provider of that name. Known: {names}")


def _provider(row: admin.LaneRow, configured: frozenset[str]) -> ProviderView:
    return ProviderView(
        name=row.provider,
        configured=row.provider in configured,
        paused=row.forever or row.paused_until is not None,
        paused_until=row.paused_until,
        kind=row.kind,
        reason=row.reason,
        failures=row.failures,
    )


async def _audited(
    request: AdminRequest, platform: Platform, action: str, subject: str, detail: dict[str, Any]
) -> None:
    change = audit.Change(actor=request.user.id, action=action, subject=subject, detail=detail)
    await audit.record(platform.pool, change)
