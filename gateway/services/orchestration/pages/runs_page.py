"""``/admin/queues/runs``: which runs there are, how they stand and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.pages import Asked, View
from gateway.services.orchestration.agents import Agents
from gateway.services.orchestration.pages.badges import Badge, badge_of_run
from gateway.services.orchestration.pages.money import Cost, cost_of, without_price
from gateway.services.orchestration.pages.queries import address, id_in, line_in, word_in
from gateway.services.orchestration.pages.store import LOOK_AT, ListedRun, PageStore, RunsWanted
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE
from gateway.services.orchestration.runs import RunStatus
from gateway.services.orchestration.schemas import JobType

FILTERS: Final = ("status", "project", "agent", "type")
QUERY: Final = (*FILTERS, "cursor")
SHOWN: Final = 50
_SLUG_MAX: Final = 60


class RunRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    run: ListedRun
    badge: Badge
    cost: Cost


class RunsPage:
    def __init__(self, store: PageStore, agents: Agents) -> None:
        self._store = store
        self._agents = agents

    async def load(self, asked: Asked) -> View:
        """Raises Problem 400 naming what of the address is wrong."""
        query = asked.query
        wanted = _wanted(query)
        found = await self._store.runs(wanted, SHOWN + 1)
        searching = len(found) <= SHOWN and (wanted.job_type is not None or wanted.agent_slug is not None)
        searching = searching or (len(found) <= SHOWN and None not in (wanted.project_id, wanted.status))
        edge = await self._store.edge(wanted) if searching else None
        last = found[SHOWN - 1].id if len(found) > SHOWN else edge
        return View(
            template="runs.html",
            title="Runs",
            data={
                "runs": await self._rows(found[:SHOWN]),
                "older": None if last is None else address(query, FILTERS, cursor=last),
                "looked_at": None if edge is None else LOOK_AT,
            },
            extra={
                "query": {name: query.get(name, "") for name in FILTERS},
                "tabs": _tabs(query),
                "here": address(query, FILTERS),
                "newest": address(query, FILTERS) if query.get("cursor") else None,
                "projects": await self._store.projects(wanted.project_id),
                "agents": await self._slugs(wanted.agent_slug),
                "types": list(JobType),
            },
            topics=[f"queue:{ORCHESTRATION_QUEUE}"],
        )

    async def _rows(self, runs: Sequence[ListedRun]) -> list[RunRow]:
        unknown = await without_price(self._store, [model for run in runs for model in run.uncounted])
        return [_row(run, unknown) for run in runs]

    async def _slugs(self, chosen: str | None) -> list[str]:
        known = {defined.slug for defined in await self._agents.all_defined()}
        return sorted(known | ({chosen} if chosen else set()))


def _wanted(query: Mapping[str, str]) -> RunsWanted:
    return RunsWanted(
        project_id=id_in(query, "project"),
        status=word_in(query, "status", RunStatus),
        job_type=word_in(query, "type", JobType),
        agent_slug=line_in(query, "agent", _SLUG_MAX),
        before=id_in(query, "cursor"),
    )


def _row(run: ListedRun, unknown: frozenset[str]) -> RunRow:
    tokens = run.input_tokens + run.output_tokens
    cost = cost_of(run.cost_micros, tokens, unknown=not unknown.isdisjoint(run.uncounted), demo=run.demo)
    return RunRow(run=run, badge=badge_of_run(run.status, run.failed), cost=cost)


def _tabs(query: Mapping[str, str]) -> list[dict[str, Any]]:
    chosen = query.get("status", "")
    words = [("", "All"), *((str(status), status.replace("_", " ").capitalize()) for status in RunStatus)]
    return [
        {"word": word, "address": address(query, FILTERS, status=status or None), "chosen": status == chosen}
        for status, word in words
    ]
