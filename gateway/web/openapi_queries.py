"""What ``/openapi.json`` says of query parameters: by rule, from the names that each route takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from litestar import Litestar
from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Operation, Parameter, Schema
from litestar.routes import HTTPRoute

from gateway.web.queues_schemas import LIMIT_DEFAULT, LIMIT_MAX

_STRING: Final = OpenAPIType.STRING
_TIME: Final = OpenAPIFormat.DATE_TIME

# One meaning for each name over all routes; a route that means more by it documents its own.
_DESCRIBED: Final[dict[str, Schema]] = {
    "archived": Schema(type=OpenAPIType.BOOLEAN, description="Archived ones too"),
    "cursor": Schema(type=_STRING, description="page.nextCursor of the page before"),
    "duty": Schema(type=_STRING, description="Only of the duty with this name"),
    "from": Schema(type=_STRING, format=_TIME, description="From this moment on"),
    "groupBy": Schema(type=_STRING, description="Comma-separated: what each row is about"),
    "limit": Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=LIMIT_MAX, default=LIMIT_DEFAULT),
    "prefix": Schema(type=_STRING, description="How their names begin"),
    "projectId": Schema(type=_STRING, format=OpenAPIFormat.UUID, description="Only of this project"),
    "runId": Schema(type=_STRING, format=OpenAPIFormat.UUID, description="Only of this run"),
    "status": Schema(type=_STRING, description="Only those that stand so"),
    "token": Schema(type=_STRING, description="For clients that can send no header, where it is allowed"),
    "until": Schema(type=_STRING, format=_TIME, description="Before this moment"),
    "withinS": Schema(
        type=OpenAPIType.INTEGER, minimum=1, maximum=86_400, description="Seconds after which its machine may be gone"
    ),
}


def declare_queries(app: Litestar) -> None:
    """Document the query parameters that routes take and do not document themselves."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if names := handler.opt.get("query", ()):
                    # mypy takes the class for one of its instances, which have no hash.
                    handler.operation_class = _documenting(handler.operation_class, tuple(names))  # type: ignore[arg-type]


@cache
def _documenting(base: type[Operation], names: tuple[str, ...]) -> type[Operation]:
    def document(self: Operation) -> None:
        own = getattr(base, "__post_init__", None)
        if own is not None:
            own(self)
        there = {each.name for each in self.parameters or () if isinstance(each, Parameter)}
        missing = [name for name in names if name not in there and name in _DESCRIBED]
        self.parameters = [
            *(self.parameters or []),
            *(Parameter(name=name, param_in="query", schema=_DESCRIBED[name]) for name in missing),
        ]

    return dataclass(type(base.__name__, (base,), {"__post_init__": document}))
