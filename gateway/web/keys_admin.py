"""API keys for administrators."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.params import FromPath, JSONBody

from gateway import audit
from gateway.access import Principal, Scope
from gateway.feature import Platform, ThePlatform
from gateway.problem import Problem
from gateway.web.keys import NAME_MAX, KeyInfo, create_key, list_keys, revoke_key

KeyRequest = Request[Principal, Any, Any]


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """``scopes``: what the key may do; none that its maker lacks."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1)]


class KeysAdmin(Controller):
    path = "/api/v1/admin/keys"
    tags = ("admin",)

    @post("/", opt={"access": Scope.ADMIN_WRITE}, summary="Make an API key; it is shown this once")
    async def create(self, request: KeyRequest, platform: ThePlatform, data: JSONBody[NewKey]) -> dict[str, Any]:
        beyond = sorted(set(data.scopes) - request.user.scopes)
        if beyond:
            raise Problem(403, "insufficient_scope", f"A key cannot have what its maker lacks: {', '.join(beyond)}")
        try:
            key, info = await create_key(platform.pool, data.name, data.scopes, request.user.id)
        except ValueError as error:
            details = [{"field": "name", "message": str(error)}]
            raise Problem(400, "validation_error", str(error), details=details) from error
        await _audit(request, platform, "key.create", info)
        return {"success": True, "data": {**msgspec.to_builtins(info), "key": key}}

    @get("/", opt={"access": Scope.ADMIN_READ}, summary="All API keys, without their secrets")
    async def index(self, platform: ThePlatform) -> dict[str, Any]:
        return {"success": True, "data": await list_keys(platform.pool)}

    @delete("/{key_id:str}", opt={"access": Scope.ADMIN_WRITE}, summary="Refuse an API key from now on")
    async def revoke(self, request: KeyRequest, platform: ThePlatform, key_id: FromPath[str]) -> None:
        info = await revoke_key(platform.pool, _id_of(key_id))
        if info is None:
            raise _no_key(key_id)
        await _audit(request, platform, "key.revoke", info)


def _id_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _no_key(text) from None


def _no_key(text: str) -> Problem:
    return Problem(404, "key_not_found", f"There is no API key {text}")


async def _audit(request: KeyRequest, platform: Platform, action: str, info: KeyInfo) -> None:
    change = audit.Change(
        actor=request.user.id,
        action=action,
        subject=str(info.id),
        detail={"name": info.name, "scopes": info.scopes},
    )
    await audit.record(platform.pool, change)
