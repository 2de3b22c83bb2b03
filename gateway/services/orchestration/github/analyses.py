"""The latest analysis of each project: kept, shown, and made anew when it is asked for and old."""

from __future__ import annotations

import asyncio
import math
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
import structlog

from gateway.problem import Problem
from gateway.services.orchestration.github.errors import GitHubBusy, GitHubError, GitHubFailed, GitHubRefused
from gateway.services.orchestration.github.figures import Analysis
from gateway.services.orchestration.github.service import GitHub
from gateway.services.orchestration.github.store import AnalysisStore, KeptAnalysis

log = structlog.get_logger(__name__)

FRESH_S: Final = 3600.0  # as long as the pages of pull requests and issues are
WAIT_S: Final = 25.0  # that a caller may wait for a new one; it may be incomplete then, and the next call goes on
_INCOMPLETE_FRESH_S: Final = 60.0  # of a huge repository, or of one that is still being read: the next goes on
_RETRY_AFTER_S: Final = 30.0


class Shown(msgspec.Struct, frozen=True):
    """``note``: why it is older than it should be; None: it is not."""

    analysis: Analysis
    note: str | None = None


class Analyses:
    def __init__(self, store: AnalysisStore, github: GitHub) -> None:
        self.store = store
        self._github = github
        # One at a time of the same: who waits finds the result of who came first.
        self._at_work: WeakValueDictionary[tuple[UUID, int], asyncio.Lock] = WeakValueDictionary()

    async def current(self, project_id: UUID, repository: str, period_hours: int) -> Shown:
        """An analysis of at most ``FRESH_S``, or the last one when GitHub does not answer.

        Raises Problem 400 ``github_refused`` when it never will as things are, 503 ``github_unavailable`` when there is
        nothing to show meanwhile.
        """
        try:  # what is kept of a repository is not shown either once it is taken off the list
            self._github.allowed.check(repository)
        except GitHubRefused as refused:
            raise Problem(400, "github_refused", str(refused)) from refused
        lock = self._at_work.setdefault((project_id, period_hours), asyncio.Lock())
        async with lock:
            kept = await self._kept(project_id, repository, period_hours)
            if kept is not None and kept.age_s < (_INCOMPLETE_FRESH_S if kept.analysis.incomplete else FRESH_S):
                return Shown(kept.analysis)
            try:
                analysis = await self._github.analyse(repository, period_hours, deadline_s=WAIT_S)
            except GitHubRefused as refused:
                raise Problem(400, "github_refused", str(refused)) from refused
            except (GitHubBusy, GitHubFailed) as error:
                log.info("github_unavailable", repository=repository, kind=error.kind, error=str(error))
                if kept is None:
                    raise _unavailable(error) from error
                return Shown(kept.analysis, note=f"This is of {kept.analysed_at:%Y-%m-%d %H:%M} UTC: {error}")
            await self.store.keep(project_id, analysis)
            return Shown(analysis)

    async def _kept(self, project_id: UUID, repository: str, period_hours: int) -> KeptAnalysis | None:
        kept = await self.store.latest(project_id, period_hours)
        # A project may have got another repository since.
        return kept if kept is not None and kept.analysis.repository.lower() == repository.lower() else None


def _unavailable(error: GitHubError) -> Problem:
    after_s = error.after_s if isinstance(error, GitHubBusy) else _RETRY_AFTER_S
    headers = {"Retry-After": str(math.ceil(after_s))}
    return Problem(503, "github_unavailable", f"There is no analysis yet: {error}", headers=headers)
