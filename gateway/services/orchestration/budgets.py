"""Monthly budgets: what a project spent since the first of the month (UTC), and whether it may spend more.

Runs at work at the same time each see what was spent before them: together they may go beyond a budget by what one step
of each of them costs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from gateway.infra.sqlfiles import load_sql
from gateway.problem import Problem

log = structlog.get_logger(__name__)

SQL = load_sql("gateway.services.orchestration")

MICROS_PER_CENT: Final = 10_000  # micros are millionths of a US dollar
WARN_PERCENT: Final = 80
WATCH_S: Final = 30.0
_STALE_S: Final = 3 * WATCH_S


class BudgetState(StrEnum):
    """``none``: the project has no budget; ``warning``: 80 % of it are spent; ``exhausted``: no run starts."""

    NONE = "none"
    OK = "ok"
    WARNING = "warning"
    EXHAUSTED = "exhausted"


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """A project in the present month. Micros are millionths of a US dollar."""

    project_id: UUID
    name: str
    budget_micros: int | None
    spent_micros: int
    resets_at: datetime

    @property
    def state(self) -> BudgetState:
        if self.budget_micros is None:
            return BudgetState.NONE
        if self.spent_micros >= self.budget_micros:
            return BudgetState.EXHAUSTED
        warned = self.spent_micros * 100 >= self.budget_micros * WARN_PERCENT
        return BudgetState.WARNING if warned else BudgetState.OK

    @property
    def share(self) -> float:
        """Of the budget: 1 is all of it, and so is a budget of nothing."""
        return self.spent_micros / self.budget_micros if self.budget_micros else 1.0

    @property
    def percent(self) -> int | None:
        """The highest threshold that was reached; None: nobody needs to know."""
        return {BudgetState.WARNING: WARN_PERCENT, BudgetState.EXHAUSTED: 100}.get(self.state)


def cents(micros: int) -> float:
    return micros / MICROS_PER_CENT


class Budgets:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def check(self, project_id: UUID) -> None:
        """Before a run is accepted, and before each of its steps. Raises Problem 402 ``budget_exhausted``."""
        row = await self._pool.fetchrow(SQL["budget_check"], project_id)
        if row is None:
            return
        spending = Spending(**row)
        if spending.state is not BudgetState.EXHAUSTED:
            return
        message = (
            f"The project {spending.name!r} has spent {_dollars(spending.spent_micros)} of its monthly budget of "
            f"{_dollars(spending.budget_micros or 0)}; it resets at {spending.resets_at:%Y-%m-%dT%H:%M:%SZ}. "
            "Its owners can raise monthlyBudgetCents"
        )
        raise Problem(402, "budget_exhausted", message)

    async def of(self, project_ids: Sequence[UUID]) -> dict[UUID, Spending]:
        """Of projects that there are, with a budget or without."""
        rows = await self._pool.fetch(SQL["budget_spendings"], list(project_ids))
        return {row["project_id"]: Spending(**row) for row in rows}

    async def budgeted(self) -> list[Spending]:
        """All projects with a budget that are not archived."""
        return [Spending(**row) for row in await self._pool.fetch(SQL["budget_all"])]

    async def record(self, near: Sequence[Spending]) -> list[Spending]:
        """Those that nobody recorded before, in this month, with this budget. ``near``: of one reading, each with a
        ``percent``."""
        if not near:
            return []
        columns = (
            [getattr(one, name) for one in near] for name in ("project_id", "percent", "budget_micros", "spent_micros")
        )
        rows = await self._pool.fetch(SQL["budget_tell"], *columns, near[0].resets_at)
        new = {row["project_id"] for row in rows}
        return [spending for spending in near if spending.project_id in new]

    async def told(self, spendings: Sequence[Spending]) -> dict[UUID, datetime]:
        """When it was told of these budgets this month that they are as far spent as they are; only of such."""
        rows = await self._pool.fetch(SQL["budget_told"], [spending.project_id for spending in spendings])
        times = {(row["project_id"], row["budget_micros"]): row["told_at"] for row in rows}
        near = [one for one in spendings if one.percent is not None]
        return {one.project_id: at for one in near if (at := times.get((one.project_id, one.budget_micros)))}


class BudgetWatch:
    """Counts projects by the state of their budgets, and tells of each that gets near the end of its own: once a month
    and threshold over all replicas."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._counts: dict[str, int] = {}
        self._read_at = 0.0

    async def look(self) -> None:
        """A chore."""
        await self.tell()

    async def tell(self) -> int:
        """Answers how many budgets were told of that had not been."""
        found = await self._budgets.budgeted()
        counts = Counter(spending.state for spending in found)
        self._counts = {str(state): counts[state] for state in BudgetState if state is not BudgetState.NONE}
        self._read_at = time.monotonic()
        new = await self._budgets.record([spending for spending in found if spending.percent is not None])
        for spending in new:
            log.warning(
                "budget_exhausted" if spending.state is BudgetState.EXHAUSTED else "budget_warning",
                project=str(spending.project_id),
                spent_cents=cents(spending.spent_micros),
                budget_cents=cents(spending.budget_micros or 0),
                resets_at=spending.resets_at.isoformat(),
            )
        return len(new)

    def counts(self) -> Mapping[str, int]:
        """By state, for the metrics; nothing once the reading is old, as on replicas that do no chores."""
        return self._counts if time.monotonic() - self._read_at <= _STALE_S else {}


def _dollars(micros: int) -> str:
    return f"${micros / 1_000_000:,.2f}"
