"""Signing in and out: a token, an API key or a one-time code against a cookie that no script can read."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import structlog
from litestar import Request, Response, get, post
from litestar.response import Redirect

from gateway.access import PUBLIC, Scope
from gateway.feature import ThePlatform
from gateway.infra.postgres import LEDGER_ERRORS
from gateway.problem import Problem
from gateway.web.dashboard.assets import ADDRESS
from gateway.web.dashboard.forms import FORM_MAX_BYTES, read_form
from gateway.web.dashboard.frame import Dashboard, Page, TheDashboard, base, respond
from gateway.web.logins import SESSION, code_of, end_session, use_login
from gateway.web.session import KEEP_S, TOKEN, session_cookie, token_of

log = structlog.get_logger(__name__)

# The same for what is wrong, unknown, expired, used and revoked: who guesses learns nothing.
REFUSED: Final = "That token or code does not let you in."
AnyRequest = Request[Any, Any, Any]


@get("/login", opt={"access": PUBLIC}, include_in_schema=False)
async def login_page(request: AnyRequest, dashboard: TheDashboard) -> Response[Any]:
    page = _page(dashboard, _local(request.query_params.get("next", "")))
    return respond(request, dashboard, replace(page, extra={**page.extra, "ended": "ended" in request.query_params}))


@post("/login", opt={"access": PUBLIC}, include_in_schema=False, request_max_body_size=FORM_MAX_BYTES)
async def sign_in(request: AnyRequest, platform: ThePlatform, dashboard: TheDashboard) -> Response[Any]:
    form = await read_form(request)
    wanted, token = _local(form.get("next", "")), form.get("token", "")
    address = request.client.host if request.client is not None else ""
    wait_s = dashboard.tries.wait_s(address)
    if wait_s > 0:
        seconds = math.ceil(wait_s)
        shown = respond(request, dashboard, _page(dashboard, wanted, f"Too many tries. Wait {seconds} s.", 429))
        shown.headers["Retry-After"] = str(seconds)
        return shown
    if (code := code_of(token)) is not None:
        token = await use_login(platform.pool, code, timedelta(seconds=KEEP_S)) or ""
    refusal = await _refusal(dashboard, token)
    if refusal is not None:
        dashboard.tries.failed(address)
        return respond(request, dashboard, _page(dashboard, wanted, refusal, 403))
    answer = Redirect(base(request) + wanted.removeprefix(ADDRESS), status_code=303)
    answer.set_cookie(session_cookie(request, token))
    return answer


@post("/logout", opt={"access": PUBLIC}, include_in_schema=False)
async def sign_out(request: AnyRequest, platform: ThePlatform) -> Response[Any]:
    """A session that began with a code ends for good; a token or key stays good elsewhere."""
    token = token_of(request)
    if token is not None and SESSION.fullmatch(token):
        try:
            await end_session(platform.pool, token)
        except LEDGER_ERRORS as error:  # the browser forgets it all the same
            log.warning("session_not_ended", error=f"{type(error).__name__}: {error}")
    answer = Redirect(f"{base(request)}/login", status_code=303)
    answer.set_cookie(session_cookie(request, None))
    return answer


async def _refusal(dashboard: Dashboard, token: str) -> str | None:
    """Why not; None: welcome. Raises Problem 503 when it cannot be checked."""
    if not TOKEN.fullmatch(token):
        return REFUSED
    try:
        principal = await dashboard.authenticator.principal_of(f"Bearer {token}")
    except Problem as problem:
        if problem.status != 401:
            raise
        return REFUSED
    if not principal.may(Scope.ADMIN_READ):
        return f"This token may not look at queues: it lacks {Scope.ADMIN_READ}."
    return None


def _page(dashboard: Dashboard, wanted: str, refusal: str | None = None, status: int = 200) -> Page:
    data, extra = {"next": wanted, "refusal": refusal}, {"known_token": dashboard.known_token, "ended": False}
    return Page(template="login.html", title="Sign in", place="login", data=data, status=status, extra=extra)


def _local(wanted: str) -> str:
    """A page of the dashboard; the first one for everything else."""
    if not wanted.isprintable() or "\\" in wanted or "//" in wanted:
        return ADDRESS
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return ADDRESS
    ours = parts.path == ADDRESS or parts.path.startswith(f"{ADDRESS}/")
    away = parts.scheme or parts.netloc or ".." in unquote(parts.path).split("/")  # browsers take %2e for a dot
    return wanted if ours and not away else ADDRESS
