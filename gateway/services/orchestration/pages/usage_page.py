"""``/admin/queues/usage``: tokens and money by day, project and model, and what is spent of budgets."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.pages import Asked, View
from gateway.services.orchestration.budgets import Budgets
from gateway.services.orchestration.pages.badges import Badge, badge_of_budget
from gateway.services.orchestration.pages.money import Budget, Cost, budget_of, cost_of, without_price
from gateway.services.orchestration.pages.queries import id_in
from gateway.services.orchestration.pages.store import DAYS_SHOWN, PageStore
from gateway.services.orchestration.usage import read_query

SPAN: Final = timedelta(days=7)  # shown when the address says no time
BUDGETS_SHOWN: Final = 50
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


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A budget of the present month. ``told_at``: when it was told that it is as far spent as ``badge`` says."""

    project_id: UUID
    project: str
    badge: Badge
    budget: Budget
    resets_at: datetime
    told_at: datetime | None


class UsagePage:
    def __init__(self, store: PageStore, budgets: Budgets) -> None:
        self._store = store
        self._budgets = budgets

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
                "budgets": await self._shown_budgets(project_id),
            },
            extra={
                "query": {name: asked.query.get(name, "") for name in QUERY},
                "projects": await self._store.projects(project_id),
            },
        )

    async def _shown_budgets(self, project_id: UUID | None) -> list[BudgetRow]:
        """Of this project, or the ``BUDGETS_SHOWN`` that are spent most."""
        found = [one for one in await self._budgets.budgeted() if project_id in (None, one.project_id)]
        most = sorted(found, key=lambda one: (-one.share, one.name))[:BUDGETS_SHOWN]
        told = await self._budgets.told(most)
        return [
            BudgetRow(
                project_id=one.project_id,
                project=one.name,
                badge=badge_of_budget(one.state),
                budget=budget_of(one.spent_micros, one.budget_micros or 0),
                resets_at=one.resets_at,
                told_at=told.get(one.project_id),
            )
            for one in most
        ]


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
