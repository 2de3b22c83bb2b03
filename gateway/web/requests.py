"""What every route demands of a request before its own fields are read: only parameters that it has, and a JSON body or
none."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway.access import PUBLIC
from gateway.problem import Problem
from gateway.web.invalid_body import NAME_MAX, suggestion

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NOTHING: Final = frozenset({b"", b"{}", b"null"})  # some clients always send a body
_NAMED_MAX: Final = 50  # parameters in one answer


async def demand_sound_request(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard. Raises Problem 400 ``validation_error`` for a query parameter that the route does not have or that is
    given twice, and for a body where it takes none; 415 ``unsupported_media_type`` for a body that does not say that it
    is JSON.

    The route names its parameters in ``opt={"query": (...)}``; pages with a form, ``opt={"form": True}``, take that.
    """
    method = connection.scope.get("method")
    # Health and metrics are asked by machines that may add parameters of their own.
    if method == "OPTIONS" or handler.opt.get("access") == PUBLIC:
        return
    known: tuple[str, ...] = handler.opt.get("query", ())
    _check_query(connection, known)
    if method in _WITH_BODY and _has_body(connection):
        _check_media_type(connection, FORM if handler.opt.get("form") else JSON)
        if not _takes_body(handler):
            await _refuse_body(connection, known)


def _check_query(connection: ASGIConnection[Any, Any, Any, Any], known: tuple[str, ...]) -> None:
    times = Counter(name for name, _ in connection.query_params.multi_items())
    wrong = [(name, "unknown parameter") for name in times if name not in known]
    wrong += [(name, "is given more than once") for name, count in times.items() if name in known and count > 1]
    if not wrong:
        return
    details = [
        {"field": name[:NAME_MAX], "message": said + (suggestion(name, known) if name not in known else "")}
        for name, said in wrong[:_NAMED_MAX]
    ]
    first = f"{details[0]['field']}: {details[0]['message']}"
    message = first if len(wrong) == 1 else f"{len(wrong)} parameters need attention, first {first}"
    raise Problem(400, "validation_error", message, details=details)


def _has_body(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    return "transfer-encoding" in connection.headers or connection.headers.get("content-length", "0") != "0"


def _check_media_type(connection: ASGIConnection[Any, Any, Any, Any], wanted: str) -> None:
    encoding = connection.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise _unsupported(f"Content-Encoding {encoding[:40]!r} is not taken: send the body as it is")
    # A browser asks before it sends JSON for a page of another site; without a type, with text or with a form it does
    # not: routes that take forms look where they come from.
    given = connection.headers.get("content-type", "")
    media_type, *parameters = [part.strip() for part in given.lower().split(";")]
    if media_type != wanted:
        raise _unsupported(f"Content-Type is {given[:80]!r}, not {wanted}")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise _unsupported(f"charset {value[:40]!r} is not taken: JSON is UTF-8 (RFC 8259)")


def _takes_body(handler: BaseRouteHandler) -> bool:
    if handler.opt.get("form"):
        return True
    parameters = handler.parsed_fn_signature.parameters
    return "data" in parameters or "body" in parameters


async def _refuse_body(connection: ASGIConnection[Any, Any, Any, Any], known: tuple[str, ...]) -> None:
    body = await connection.body() if isinstance(connection, Request) else b""
    if b"".join(body.split()) in _NOTHING:
        return
    message = "is not taken here"
    if known:
        message += f"; this goes into the query: {', '.join(known)}"
    raise Problem(400, "validation_error", f"body: {message}", details=[{"field": "body", "message": message}])


def _unsupported(message: str) -> Problem:
    return Problem(415, "unsupported_media_type", message)
