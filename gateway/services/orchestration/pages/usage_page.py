"""``/admin/queues/usage``: tokens and money by day, project and model."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.pages import Asked, View
from gateway.services.orchestration.pages.money import Cost, cost_of, without_price
from gateway.services.orchestration.pages.queries import id_in
from gateway.services.orchestration.pages.store import DAYS_SHOWN, PageStore
from gateway.services.orchestration.usage import read_query

SPAN: Final = timedelta(days=7)  # shown when the address says no time
QUERY: Final = ("project", "from", "until")


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``steps`` were begun last on the day; ``calls`` are of models. ``day`` and the ids None: of all."""

    day: date | None = None
    project_id: UUID | None = None
    project: str | None = None
    model: str | None = None
    steps: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: Cost


_NOTHING: Final = UsageRow(
    steps=0, calls=0, input_tokens=0, output_tokens=0, cost=cost_of(0, 0, unknown=False, demo=False)
)


class UsagePage:
    def __init__(self, store: PageStore) -> None:
        self._store = store

    async def load(self, asked: Asked) -> View:
        """Raises Problem 400 naming what of the address is wrong."""
        given = {name: text for name in ("from", "until") if (text := asked.query.get(name))}
        since, until, _ = read_query(given, now := datetime.now(UTC))
        if not given:
            since = now - SPAN
        project_id = id_in(asked.query, "project")
        found = await self._store.usage(since, until, project_id)
        unknown = await without_price(self._store, found[0]["uncounted_models"] if found else ())
        return View(
            template="usage.html",
            title="Usage",
            data={
                "since": since,
                "until": until,
                "rows": [_row(row, unknown) for row in found],
                "total": _total(found[0], unknown) if found else _NOTHING,
                "complete": len(found) < DAYS_SHOWN,
            },
            extra={
                "query": {name: asked.query.get(name, "") for name in QUERY},
                "projects": await self._store.projects(project_id),
            },
        )


def _row(row: dict[str, Any], unknown: frozenset[str]) -> UsageRow:
    tokens = row["input_tokens"] + row["output_tokens"]
    is_unknown = row["uncounted"] > 0 and (row["model"] or "") in unknown
    same = ("day", "project_id", "project", "model", "steps", "calls", "input_tokens", "output_tokens")
    return UsageRow(**{name: row[name] for name in same}, cost=cost_of(row["cost_micros"], tokens, unknown=is_unknown))


def _total(row: dict[str, Any], unknown: frozenset[str]) -> UsageRow:
    tokens = row["whole_input"] + row["whole_output"]
    return UsageRow(
        steps=row["whole_steps"],
        calls=row["whole_calls"],
        input_tokens=row["whole_input"],
        output_tokens=row["whole_output"],
        cost=cost_of(row["whole_cost"], tokens, unknown=bool(unknown)),
    )
