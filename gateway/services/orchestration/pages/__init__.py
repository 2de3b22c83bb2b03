"""What the dashboard shows of runs, of what agents want to do, and of what they cost; its templates stand here too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from gateway.access import Scope
from gateway.pages import Action, Entry, FeaturePages, Page, Related
from gateway.services.orchestration.agents import Agents
from gateway.services.orchestration.approvals import Approvals
from gateway.services.orchestration.budgets import Budgets
from gateway.services.orchestration.pages import approvals_page, runs_page, usage_page
from gateway.services.orchestration.pages.approvals_page import ApprovalsPage
from gateway.services.orchestration.pages.run_page import RunPage
from gateway.services.orchestration.pages.runs_page import RunsPage
from gateway.services.orchestration.pages.store import PageStore
from gateway.services.orchestration.pages.usage_page import UsagePage
from gateway.services.orchestration.starting import Runs

_NOTICES: Final = {
    "run-cancel": "Cancelled. A run that is at work ends within about a second; what it has done stays.",
    "run-retry": "This is the new run. What was completed is taken over and costs nothing.",
    "approve": "Approved. A job does it now.",
    "reject": "Rejected. It will not be done.",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """What the pages are made of."""

    store: PageStore
    runs: Runs
    agents: Agents
    approvals: Approvals
    budgets: Budgets


def orchestration_pages(shown: Shown) -> FeaturePages:
    run = RunPage(shown.store, shown.runs, shown.budgets)
    approvals = ApprovalsPage(shown.store, shown.approvals)
    operate = Scope.ADMIN_OPERATE
    return FeaturePages(
        package="gateway.services.orchestration",
        entries=(
            Entry(place="runs", path="/runs", word="Runs"),
            Entry(place="approvals", path="/approvals", word="Approvals", count=shown.store.count_pending),
            Entry(place="usage", path="/usage", word="Usage"),
        ),
        pages=(
            Page(path="/runs", place="runs", load=RunsPage(shown.store, shown.agents).load, query=runs_page.QUERY),
            Page(path="/runs/{run_id:str}", place="runs", load=run.load),
            Page(path="/runs/{run_id:str}/steps/{position:str}", place="runs", load=run.raw, content=True),
            Page(path="/approvals", place="approvals", load=approvals.load, query=approvals_page.QUERY),
            Page(path="/approvals/{action_id:str}", place="approvals", load=approvals.one),
            Page(path="/usage", place="usage", load=UsagePage(shown.store, shown.budgets).load, query=usage_page.QUERY),
        ),
        actions=(
            Action(path="/runs/{run_id:str}/cancel", act=run.cancel, access=operate),
            Action(path="/runs/{run_id:str}/retry", act=run.retry, access=operate),
            Action(path="/approvals/{action_id:str}/approve", act=approvals.approve, access=operate),
            Action(path="/approvals/{action_id:str}/reject", act=approvals.reject, access=operate),
        ),
        notices=_NOTICES,
        about_job=_Behind(shown.store).links,
        name_jobs=shown.store.names_of_jobs,
    )


class _Behind:
    """What the page of a job links to."""

    def __init__(self, store: PageStore) -> None:
        self._store = store

    async def links(self, job_id: UUID) -> list[Related]:
        behind = await self._store.behind(job_id)
        found = []
        if (run_id := behind.run_id) is not None:
            progress = (behind.over, behind.steps) if behind.steps else None
            found.append(Related(word="Run", path=f"/runs/{run_id}", text=str(run_id), progress=progress))
        if behind.action_id is not None and (known := _id_of(behind.action_id)) is not None:
            found.append(Related(word="Approval", path=f"/approvals/{known}", text=str(known)))
        return found


def _id_of(text: str) -> UUID | None:
    """None: somebody replayed the job with something else."""
    try:
        return UUID(text)
    except ValueError:
        return None
