"""The queries of lists: which project, which status, which page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.problem import Problem

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 100
PARAMETERS: Final = ("projectId", "runId", "status", "cursor", "limit")


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """None is no condition. ``before``: the last one of the page before."""

    project_id: UUID | None
    run_id: UUID | None
    status: str | None
    before: UUID | None
    limit: int


def read_page(query: Mapping[str, str], statuses: type[StrEnum]) -> PageQuery:
    """Raises Problem 400 naming every parameter that is wrong."""
    problems: dict[str, str] = {}
    status = query.get("status")
    if status is not None and status not in list(statuses):
        problems["status"] = f"must be one of {', '.join(statuses)}"
    limit = query.get("limit", str(LIMIT_DEFAULT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 4 and 1 <= int(limit) <= LIMIT_MAX):
        problems["limit"] = f"must be a whole number from 1 to {LIMIT_MAX}"
    ids = {name: _id_of(name, query.get(name), problems) for name in ("projectId", "runId", "cursor")}
    if problems:
        name, message = next(iter(problems.items()))
        details = [{"field": each, "message": said} for each, said in problems.items()]
        raise Problem(400, "validation_error", f"{name}: {message}", details=details)
    return PageQuery(
        project_id=ids["projectId"], run_id=ids["runId"], status=status, before=ids["cursor"], limit=int(limit)
    )


def paged(found: list[Any], limit: int) -> dict[str, Any]:
    """The answer of a list; ``found`` has one more than ``limit`` if there is a next page."""
    shown = found[:limit]
    page = {"nextCursor": shown[-1].id if len(found) > limit else None, "limit": limit}
    return {"success": True, "data": shown, "page": page}


def _id_of(name: str, text: str | None, problems: dict[str, str]) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        known = "page.nextCursor of the page before" if name == "cursor" else "an id like 0198c1d2-..."
        problems[name] = f"is not {known}"
        return None
