"""Every answer that is not a success: one body, whatever raised it. No input of a caller makes a 5xx."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException
from litestar.types import ExceptionHandlersMap

from gateway.infra.postgres import is_unavailable
from gateway.jobs.errors import EngineError, JobNotFound, QueueFull, UnknownQueue, WrongState
from gateway.problem import Problem
from gateway.web.invalid_body import explain
from gateway.web.middleware import BODY_MAX_BYTES, request_id_of

log = structlog.get_logger(__name__)

LEDGER_RETRY_AFTER_S: Final = 5
# PostgreSQL's codes for text it cannot keep: a NUL character in text, or \u0000 in JSON.
_UNSTORABLE_TEXT: Final = frozenset({"22021", "22P05"})
_DISCONNECTED: Final = "client disconnected prematurely"  # Litestar raises a 500 for it; nobody reads the answer

AnyRequest = Request[Any, Any, Any]


def exception_handlers() -> ExceptionHandlersMap:
    return {
        Problem: answer,
        HTTPException: lambda request, error: answer(request, _of_framework(request, error)),
        EngineError: lambda request, error: answer(request, _of_engine(request, error)),
        msgspec.ValidationError: lambda request, error: answer(request, _invalid(error, None)),
        Exception: lambda request, error: answer(request, _of_anything(request, error)),
    }


def answer(request: AnyRequest, problem: Problem) -> Response[dict[str, Any]]:
    error = {
        "code": problem.code,
        "message": problem.message,
        "details": problem.details,
        "requestId": request_id_of(request.scope),
    }
    return Response(
        {"success": False, "error": error},
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/json",
    )


def _of_framework(request: AnyRequest, error: HTTPException) -> Problem:
    cause = error.__cause__
    if isinstance(cause, SerializationException):
        return _of_body(request, cause.__cause__ or cause)
    if isinstance(error, ValidationException):
        return _invalid_parameters(request, error)
    if error.status_code >= 500:
        return _of_anything(request, error)
    return _of_status(request, error)


def _of_status(request: AnyRequest, error: HTTPException) -> Problem:
    path, status = request.url.path, error.status_code
    match status:
        case 404:
            return Problem(404, "not_found", f"There is no {request.method} {path}; all routes are listed at /docs")
        case 405:
            allowed = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
            return Problem(405, "method_not_allowed", f"{path} does not take {request.method}", headers=allowed)
        case 413:
            # Some routes take less than the others.
            most = (request.route_handler.resolve_request_max_body_size() or BODY_MAX_BYTES) // 1_000_000
            return Problem(
                413, "payload_too_large", f"The request body is larger than {most} MB, the most that is taken"
            )
        case _:
            return Problem(status, re.sub(r"\W+", "_", HTTPStatus(status).phrase.lower()), error.detail)


def _of_body(request: AnyRequest, error: BaseException) -> Problem:
    if isinstance(error, msgspec.ValidationError):
        return _invalid(error, _body_type(request))
    return Problem(400, "invalid_json", f"The request body is not JSON: {_first_lower(str(error))}")


def _body_type(request: AnyRequest) -> Any:
    field = request.route_handler.parsed_data_field
    return field.annotation if field is not None else None


def _invalid(error: msgspec.ValidationError, wanted: Any) -> Problem:
    return _of_details([explain(error, wanted)])


def _of_details(details: list[dict[str, Any]]) -> Problem:
    first = f"{details[0]['field']}: {details[0]['message']}"
    message = first if len(details) == 1 else f"{len(details)} fields need attention, first {first}"
    return Problem(400, "validation_error", message, details=details)


def _invalid_parameters(request: AnyRequest, error: ValidationException) -> Problem:
    """Litestar names the parameter; of the body it says only "data", so what is wrong inside comes from the cause."""
    details = []
    parameters = request.route_handler.parsed_fn_signature.parameters
    for entry in error.extra if isinstance(error.extra, list) else []:
        name, said = str(entry.get("key", "")), str(entry.get("message", "is not valid"))
        declared = getattr(parameters.get(name), "kwarg_definition", None)
        name = getattr(declared, "name", None) or name  # the caller's word for it, where the handler has another
        if name != "data" and entry.get("source") != "body":
            details.append({"field": name, "message": _first_lower(said).replace("`", "")})
        elif said == "'data'":
            details.append({"field": "body", "message": "is required"})
        elif isinstance(error.__cause__, msgspec.ValidationError):
            details.append(explain(error.__cause__, _body_type(request), ".data"))
    if not details:  # a missing parameter comes as a sentence
        return Problem(400, "validation_error", error.detail)
    return _of_details(details)


def _of_engine(request: AnyRequest, error: EngineError) -> Problem:
    match error:
        case JobNotFound():
            return Problem(404, "job_not_found", str(error))
        case WrongState():
            return Problem(409, "wrong_state", str(error))
        case UnknownQueue():
            return Problem(404, "unknown_queue", str(error))
        case QueueFull(retry_after_s=wait_s):
            limits = {"ratelimit-limit": str(error.most), "ratelimit-remaining": "0", "ratelimit-reset": str(wait_s)}
            return Problem(429, "queue_full", str(error), headers={"Retry-After": str(wait_s), **limits})
        case _:
            return _of_anything(request, error)


def _of_anything(request: AnyRequest, error: Exception) -> Problem:
    if is_unavailable(error):
        log.warning("ledger_unavailable", path=request.url.path, error=f"{type(error).__name__}: {error}")
        reads = request.method in ("GET", "HEAD")
        again = "" if reads else " with the same Idempotency-Key: then nothing is done twice"
        return Problem(
            503,
            "ledger_unavailable",
            f"The database does not answer. Try again{again}",
            headers={"Retry-After": str(LEDGER_RETRY_AFTER_S)},
        )
    if getattr(error, "sqlstate", None) in _UNSTORABLE_TEXT:
        return Problem(400, "invalid_text", "The request holds a NUL character (\\u0000), which no text may have")
    # The decoder's own limits, on bodies that no honest client sends.
    if isinstance(error, RecursionError) and "deserializing" in str(error):
        return Problem(400, "invalid_json", "The request body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Problem(400, "invalid_json", "The request body is not UTF-8")
    if isinstance(error, HTTPException) and error.detail == _DISCONNECTED:
        log.debug("client_disconnected", path=request.url.path)
    else:
        log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return Problem(
        500, "internal_error", "Something went wrong here, not with the request; the request id finds it in the logs"
    )


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
