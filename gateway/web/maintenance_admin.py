"""Upkeep for administrators: which duties there are, and what came of each run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import QueryParams, SkipValidation

from gateway.access import Scope
from gateway.jobs.duties import Duty, DutyBook, DutyRun
from gateway.web.queues_schemas import LIMIT_DEFAULT, LIMIT_MAX, invalid

READ: Final = {"access": Scope.ADMIN_READ}
_ID_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Duties:
    """What this version does, and the book of all replicas."""

    known: tuple[Duty, ...]
    book: DutyBook


# How a route asks for it: the app provides it under the name "duties".
TheDuties = NamedDependency[SkipValidation[Duties]]


class DutyView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``period_s`` and ``offset_s``: it is due at multiples of the one plus the other since 1970, UTC. ``last_run``
    None: it has not run yet, or that is longer ago than its runs are kept."""

    name: str
    does: str
    period_s: int
    offset_s: int
    last_run: DutyRun | None


async def duty_views(duties: Duties) -> list[DutyView]:
    last = await duties.book.last_runs()
    return [
        DutyView(
            name=duty.name,
            does=duty.does,
            period_s=duty.period_s,
            offset_s=duty.offset_s,
            last_run=last.get(duty.name),
        )
        for duty in duties.known
    ]


async def runs_of(duties: Duties, query: Mapping[str, str]) -> tuple[list[DutyRun], str | None]:
    """Newest first, and the cursor of the page after. Raises Problem 400."""
    wanted, limit = _duty(query.get("duty"), duties.known), _number("limit", query.get("limit"), LIMIT_MAX)
    before = _number("cursor", query.get("cursor"), _ID_MAX)
    size = limit or LIMIT_DEFAULT
    runs = await duties.book.newest(wanted, before, size + 1)
    return runs[:size], str(runs[size - 1].id) if len(runs) > size else None


class MaintenanceAdmin(Controller):
    path = "/api/v1/admin/maintenance"
    tags = ("admin",)

    @get("/", opt=READ, summary="Duties: retention and other upkeep, each with its last run")
    async def list_duties(self, duties: TheDuties) -> dict[str, Any]:
        return {"success": True, "data": await duty_views(duties)}

    @get("/runs", opt=READ | {"query": ("duty", "limit", "cursor")}, summary="Runs of duties, newest first")
    async def list_runs(self, duties: TheDuties, query: QueryParams) -> dict[str, Any]:
        """Query: duty, a name as the list of duties has it; limit; cursor."""
        runs, cursor = await runs_of(duties, query)
        return {"success": True, "data": runs, "page": {"nextCursor": cursor}}


def _duty(name: str | None, known: tuple[Duty, ...]) -> str | None:
    """Raises Problem 400."""
    if name is None or any(name == duty.name for duty in known):
        return name
    raise invalid("duty", f"is none of {', '.join(duty.name for duty in known)}")


def _number(field: str, text: str | None, most: int) -> int | None:
    """Raises Problem 400."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= most):
        raise invalid(field, f"must be a whole number from 1 to {most}")
    return int(text)
