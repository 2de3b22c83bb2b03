"""One-time codes for the dashboard, made by administrators."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from litestar import Request, post
from litestar.params import JSONBody

from gateway.access import SCOPES_OF, Principal, Role, Scope
from gateway.feature import ThePlatform
from gateway.problem import Problem
from gateway.web.logins import VALID, VALID_MAX, create_login


class NewLogin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """``subject``: in whose name the audit will have what is done; without it, the maker's. ``valid_s``: seconds for
    which the code is good."""

    role: Role = Role.VIEWER
    subject: str | None = None
    valid_s: Annotated[int, msgspec.Meta(ge=1, le=int(VALID_MAX.total_seconds()))] = int(VALID.total_seconds())


@post(
    "/api/v1/admin/logins",
    opt={"access": Scope.ADMIN_WRITE},
    tags=["admin"],
    summary="Make a code that signs in to the dashboard once; it is shown this once",
)
async def create_login_route(
    request: Request[Principal, Any, Any], platform: ThePlatform, data: JSONBody[NewLogin]
) -> dict[str, Any]:
    who = request.user.id
    beyond = sorted(SCOPES_OF[data.role] - request.user.scopes)
    if beyond:  # of a key: every administrator who is a person has all
        raise Problem(403, "insufficient_scope", f"A code cannot have what its maker lacks: {', '.join(beyond)}")
    subject = who if data.subject is None else data.subject
    try:
        code, login = await create_login(platform.pool, subject, data.role, who, valid=timedelta(seconds=data.valid_s))
    except ValueError as error:
        field = "role" if data.role is Role.USER else "subject"
        details = [{"field": field, "message": str(error)}]
        raise Problem(400, "validation_error", str(error), details=details) from error
    return {"success": True, "data": {**msgspec.to_builtins(login), "code": code}}
