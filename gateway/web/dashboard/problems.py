"""What was refused, as a page for people; who has not signed in is sent to do so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from litestar import Request, Response
from litestar.response import Redirect
from litestar.types import ExceptionHandlersMap

from gateway.web.dashboard.frame import Dashboard, Page, base, respond, wants_json
from gateway.web.errors import exception_handlers
from gateway.web.session import session_cookie, token_of

_TITLES: Final = {
    400: "That cannot be asked",
    403: "You may not do this",
    404: "Not found",
    409: "It could not be done",
    429: "Too many",
    503: "This page cannot be loaded now",
}
_NEXT_MAX: Final = 1500
_AGAIN_S: Final = 5  # until a page that could not be loaded loads itself again

AnyRequest = Request[Any, Any, Any]
Handler = Callable[[AnyRequest, Any], Response[Any]]


def page_handlers(dashboard: Dashboard) -> ExceptionHandlersMap:
    """The application's answers to each exception, as pages."""
    return {kind: _as_page(dashboard, handler) for kind, handler in exception_handlers().items()}


def _as_page(dashboard: Dashboard, handler: Handler) -> Handler:
    def answer(request: AnyRequest, error: Any) -> Response[Any]:
        plain = handler(request, error)
        if wants_json(request):
            return plain
        status = plain.status_code or 500
        if status == 401:
            return _to_login(request)
        page = Page(
            template="problem.html",
            title=_TITLES.get(status, "Something went wrong"),
            place="",
            data={"problem": _for_people(plain.content["error"]), "status": status, "again": request.method == "GET"},
            extra={"back": _came_from(request)},
            status=status,
            again_s=_AGAIN_S if status == 503 and request.method == "GET" else None,
        )
        shown = respond(request, dashboard, page)
        for name, value in plain.headers.items():
            if name.lower() != "content-type":
                shown.headers[name] = value
        return shown

    return answer


def _for_people(problem: dict[str, Any]) -> dict[str, Any]:
    """Who looks at a page repeats no request by a program."""
    if problem["code"] != "ledger_unavailable":
        return problem
    return problem | {"message": "PostgreSQL does not answer."}


def _came_from(request: AnyRequest) -> str | None:
    """The page that had the form, below the dashboard's address; None: the browser does not tell."""
    try:
        there = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return None
    home = base(request)
    if there.path != home and not there.path.startswith(f"{home}/"):
        return None
    return f"{there.path}?{there.query}" if there.query else there.path


def _to_login(request: AnyRequest) -> Response[Any]:
    """Who sent a form is told that nothing was done, and comes back to the page that had it."""
    path = request.url.path
    if request.method != "GET":
        wanted = _came_from(request) or ""
    else:
        wanted = f"{path}?{request.url.query}" if request.url.query else path
    wanted = wanted.removeprefix(str(request.scope.get("root_path", "")))
    query = {"next": wanted} if wanted and len(wanted) <= _NEXT_MAX else {}
    if request.method != "GET":
        query |= {"ended": "1"}
    answer = Redirect(f"{base(request)}/login{f'?{urlencode(query)}' if query else ''}", status_code=303)
    if token_of(request) is not None:  # it has expired or was revoked
        answer.set_cookie(session_cookie(request, None))
    return answer
