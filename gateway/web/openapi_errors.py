"""What ``/openapi.json`` says of answers beside a route's success: by rule, from what each route demands and takes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec
from litestar import Litestar
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.routes import HTTPRoute

from gateway.access import PUBLIC

_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``field`` is the caller's word for it, with its path in the body. Of a batch, ``index`` and ``code`` say which of
    its parts is wrong and why."""

    message: str
    field: str | msgspec.UnsetType = msgspec.UNSET
    index: int | msgspec.UnsetType = msgspec.UNSET
    code: str | msgspec.UnsetType = msgspec.UNSET


class ErrorView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``code`` is stable, ``message`` is for people, ``request_id`` finds the request in the logs."""

    code: str
    message: str
    details: list[ErrorDetail]
    request_id: str


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success (``gateway.problem``)."""

    success: Literal[False]
    error: ErrorView


_MEANINGS: Final = {
    400: "A field or parameter is wrong, or the body is not JSON",
    401: "No token or API key, or not a valid one",
    402: "The project has spent its monthly budget",
    403: "The caller lacks the scope",
    404: "What the path or a parameter names is not there, or not for this caller",
    409: "Its present state does not allow it",
    413: "The body, or what is attached, is too large",
    415: "The body is not application/json",
    422: "Every field is well formed, but together they cannot be done",
    429: "The queue is full; Retry-After says when to ask again",
    503: "Too many requests at this moment, or the database does not answer; Retry-After says when to ask again",
}


class DryRunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are; nothing was changed."""

    success: Literal[True]
    data: dict[str, int]


def declare_errors(app: Litestar) -> None:
    """Add to each documented route the errors that it can answer with, and 200 for a dry run; what a route declares
    itself stays."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                statuses = _statuses(handler, bool(route.path_parameters))
                declared = {status: _answer(status) for status in statuses}
                if _may_be_dry(handler):
                    text = "Dry run: nothing was changed"
                    declared[200] = ResponseSpec(DryRunAnswer, generate_examples=False, description=text)
                handler.responses = declared | dict(handler.responses or {})


def _answer(status: int) -> ResponseSpec:
    text = f"{HTTPStatus(status).phrase}. {_MEANINGS[status]}"
    return ResponseSpec(ErrorAnswer, generate_examples=False, description=text)


def _statuses(handler: HTTPRouteHandler, names_something: bool) -> list[int]:
    if handler.opt.get("access") == PUBLIC:
        return []
    statuses = {400, 401, 403, 503}
    if (
        names_something
        or {"queue", "projectId"} & set(handler.opt.get("query", ()))
        or _body_has(handler, "project_id")
    ):
        statuses.add(404)
    if handler.http_methods & _WRITES:
        statuses |= {409, 413, 415}
        if _parameters(handler) & {"data", "body"}:
            statuses.add(422)
    if "idempotency_key" in _parameters(handler):  # it accepts work
        statuses.add(429)
    if handler.opt.get("starts_runs"):
        statuses |= {402, 422, 429}
    return sorted(statuses)


def _may_be_dry(handler: HTTPRouteHandler) -> bool:
    return "dryRun" in handler.opt.get("query", ()) or _body_has(handler, "dry_run")


def _body_has(handler: HTTPRouteHandler, field: str) -> bool:
    body = handler.parsed_data_field
    return body is not None and hasattr(body.annotation, field)


def _parameters(handler: BaseRouteHandler) -> set[Any]:
    return set(handler.parsed_fn_signature.parameters)
