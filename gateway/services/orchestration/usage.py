"""What agents cost: tokens and money by agent, model, day, project or run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.problem import Problem
from gateway.services.orchestration.budgets import cents

SQL = load_sql("gateway.services.orchestration")

RUN: Final = "run"
DIMENSIONS: Final = ("agent", "model", "day", "project", RUN)
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
    """``runs`` counts runs whose first step is among these, and each in its own row; ``calls`` those of models;
    ``costCents`` is in US cents."""

    runs: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_cents: float = 0.0


class Usage:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def of(self, wanted: UsageFilter) -> tuple[Figures, list[dict[str, Any]]]:
        """The total, and a row for each combination of what ``by`` names. A step counts when it was started last.

        Raises Problem 400 for more than ``ROWS_MAX`` rows.
        """
        if RUN in wanted.by:
            found = await self._of_runs(wanted)
        else:
            found = await self._of_sums(wanted, wanted.by)
        if not found:
            return Figures(), []
        total, *rows = found
        if len(rows) > ROWS_MAX:
            raise _too_many_rows()
        if not wanted.by:
            rows = []
        return _figures(total), [{name: row[name] for name in wanted.by} | _plain(_figures(row)) for row in rows]

    async def _of_sums(self, wanted: UsageFilter, by: Sequence[str]) -> list[asyncpg.Record]:
        bounds = (wanted.since, wanted.until, list(by), ROWS_MAX + 2)
        if wanted.project_id is None and wanted.member is None:
            return await self._pool.fetch(SQL["usage_of_all"], *bounds)
        return await self._pool.fetch(SQL["usage_of_projects"], *bounds, wanted.project_id, wanted.member)

    async def _of_runs(self, wanted: UsageFilter) -> list[asyncpg.Record]:
        """No sums are kept of each run, and each is a row: a time with too many of them is refused unread."""
        total = next(iter(await self._of_sums(wanted, ())), None)
        if total is not None and total["runs"] > ROWS_MAX:
            raise _too_many_rows()
        bounds = (wanted.since, wanted.until, list(wanted.by), ROWS_MAX + 2)
        return await self._pool.fetch(SQL["usage_of_runs"], *bounds, wanted.project_id, wanted.member)


class UsageSums:
    """The sums that usage is read from, kept up by two duties (docs/decisions/0033-costs-in-sums.md)."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def hours(self) -> int:
        """Sum hours that are over, and again those whose steps changed; answers how many rows of sums were written.

        One period in each statement, so what is done stays done, and an outage or the first run is caught up with.
        """
        return await self._sum(by_day=False)

    async def days(self) -> int:
        """Make one period of the hours of each day that is over."""
        return await self._sum(by_day=True)

    async def _sum(self, *, by_day: bool) -> int:
        total = 0
        while (written := await self._pool.fetchval(SQL["usage_sum"], by_day)) is not None:
            total += written
        return total


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


def _too_many_rows() -> Problem:
    return _wrong("groupBy", f"gives more than {ROWS_MAX} rows: take a shorter time, or group by less")


def _wrong(field: str, message: str) -> Problem:
    return Problem(400, "validation_error", f"{field}: {message}", details=[{"field": field, "message": message}])
