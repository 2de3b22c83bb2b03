"""``/admin/queues/usage``: tokens and money by day, project and model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.pages import Asked, View
from gateway.services.orchestration.budgets import MICROS_PER_CENT
from gateway.services.orchestration.pages.money import Cost, cost_of, without_price
from gateway.services.orchestration.pages.queries import id_in
from gateway.services.orchestration.pages.store import PageStore
from gateway.services.orchestration.usage import Usage, UsageFilter, read_query

QUERY: Final = ("project", "from", "until")
_BY: Final = ("day", "project", "model")


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``runs`` had a step on the day; ``calls`` are of models."""

    day: str
    project_id: UUID
    project: str
    model: str | None
    runs: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: Cost


class UsagePage:
    def __init__(self, store: PageStore, usage: Usage) -> None:
        self._store = store
        self._usage = usage

    async def load(self, asked: Asked) -> View:
        """Raises Problem 400 naming what of the address is wrong."""
        given = {name: text for name in ("from", "until") if (text := asked.query.get(name))}
        since, until, _ = read_query(given, datetime.now(UTC))
        project_id = id_in(asked.query, "project")
        total, found = await self._usage.of(UsageFilter(since=since, until=until, by=_BY, project_id=project_id))
        rows = await self._rows(found)
        unknown = any(row.cost.unknown for row in rows)
        micros = round(total.cost_cents * MICROS_PER_CENT)
        return View(
            template="usage.html",
            title="Usage",
            data={
                "since": since,
                "until": until,
                "rows": rows[::-1],
                "total": total,
                "cost": cost_of(micros, total.input_tokens + total.output_tokens, unknown=unknown),
            },
            extra={
                "query": {name: asked.query.get(name, "") for name in QUERY},
                "projects": await self._store.projects(project_id),
            },
        )

    async def _rows(self, found: list[dict[str, Any]]) -> list[UsageRow]:
        """In the order of their days."""
        names = await self._store.names_of(list({row["project"] for row in found}))
        unknown = await without_price(self._store, [row["model"] or "" for row in found if _is_uncounted(row)])
        return [_row(row, names, unknown) for row in found]


def _is_uncounted(row: Mapping[str, Any]) -> bool:
    return not row["costCents"] and row["inputTokens"] + row["outputTokens"] > 0


def _row(row: Mapping[str, Any], names: Mapping[UUID, str], unknown: frozenset[str]) -> UsageRow:
    tokens = row["inputTokens"] + row["outputTokens"]
    is_unknown = _is_uncounted(row) and (row["model"] or "") in unknown
    return UsageRow(
        day=str(row["day"]),
        project_id=row["project"],
        project=names.get(row["project"], ""),
        model=row["model"],
        runs=row["runs"],
        calls=row["calls"],
        input_tokens=row["inputTokens"],
        output_tokens=row["outputTokens"],
        cost=cost_of(round(row["costCents"] * MICROS_PER_CENT), tokens, unknown=is_unknown),
    )
