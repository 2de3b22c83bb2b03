"""What agents cost: tokens and money by agent, model, day, project or run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.problem import Problem
from gateway.services.orchestration.budgets import cents

SQL = load_sql("gateway.services.orchestration")

DIMENSIONS: Final = ("agent", "model", "day", "project", "run")
RANGE_DEFAULT: Final = timedelta(days=30)
RANGE_MAX: Final = timedelta(days=400)
ROWS_MAX: Final = 2000
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


class UsageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """``since`` inclusive, ``until`` exclusive, both in UTC. ``project_id`` None: all projects of ``member``; both
    None: all that there are."""

    since: datetime
    until: datetime
    by: tuple[str, ...]
    project_id: UUID | None = None
    member: str | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``runs`` counts runs that had a step in the time, ``calls`` those of models, ``costCents`` is in US cents."""

    runs: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost_cents: float


class Usage:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def of(self, wanted: UsageFilter) -> tuple[Figures, list[dict[str, Any]]]:
        """The total, and a row for each combination of what ``by`` names. A step counts when it was started last.

        Raises Problem 400 for more than ``ROWS_MAX`` rows.
        """
        bounds = (wanted.since, wanted.until, list(wanted.by), ROWS_MAX + 2)
        if wanted.project_id is None and wanted.member is None:
            found = await self._pool.fetch(SQL["usage_of_all"], *bounds)
        else:
            found = await self._pool.fetch(SQL["usage_of_projects"], *bounds, wanted.project_id, wanted.member)
        total, *rows = found
        if len(rows) > ROWS_MAX:
            raise _wrong("groupBy", f"gives more than {ROWS_MAX} rows: take a shorter time, or group by less")
        if not wanted.by:
            rows = []
        return _figures(total), [{name: row[name] for name in wanted.by} | _plain(_figures(row)) for row in rows]


def read_query(query: Mapping[str, str], now: datetime) -> tuple[datetime, datetime, tuple[str, ...]]:
    """From, until and groupBy of a request. Raises Problem 400 naming the parameter."""
    until = _instant("until", query["until"]) if "until" in query else now
    since = _instant("from", query["from"]) if "from" in query else until - RANGE_DEFAULT
    if since >= until:
        raise _wrong("from", "must be before until")
    if until - since > RANGE_MAX:
        raise _wrong("from", f"is more than {RANGE_MAX.days} days before until: ask for shorter times")
    by = tuple(dict.fromkeys(word.strip() for word in query.get("groupBy", "agent").split(",") if word.strip()))
    for word in by:
        if word not in DIMENSIONS:
            raise _wrong("groupBy", f"{word[:40]!r} is not one of {', '.join(DIMENSIONS)}")
    return since, until, by


def _instant(name: str, text: str) -> datetime:
    """A day (its beginning in UTC), or a moment with a zone."""
    try:
        if _DAY.fullmatch(text):
            found = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        else:
            found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError
        found = found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _wrong(name, f"{text[:40]!r} is no day like 2026-12-01 and no time like 2026-12-01T09:00:00Z") from None
    if not 2000 <= found.year <= 2999:
        raise _wrong(name, f"{text[:40]!r} is not in the years 2000 to 2999")
    return found


def _figures(row: asyncpg.Record) -> Figures:
    return Figures(
        runs=row["runs"],
        calls=row["calls"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_cents=cents(row["cost_micros"]),
    )


def _plain(figures: Figures) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(figures)
    return plain


def _wrong(field: str, message: str) -> Problem:
    return Problem(400, "validation_error", f"{field}: {message}", details=[{"field": field, "message": message}])
