"""GitHub as the rest of orchestration sees it: analyse, comment, open an issue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final

import httpx
import structlog

from gateway.infra.http import open_http
from gateway.services.orchestration.github.allowed import AllowedRepositories
from gateway.services.orchestration.github.client import Api, Client
from gateway.services.orchestration.github.errors import GitHubFailed, GitHubRefused
from gateway.services.orchestration.github.figures import Analysis
from gateway.services.orchestration.github.gather import WITH_TOKEN, WITHOUT_TOKEN, Gathering
from gateway.services.orchestration.github.measure import Period, measure
from gateway.services.orchestration.github.reader import Reader
from gateway.services.orchestration.github.store import Pages, Pool
from gateway.services.orchestration.github.writes import WRITE_GAP_S, Gate, Writer
from gateway.settings import Settings

log = structlog.get_logger(__name__)

DEADLINE_S: Final = 120.0
PERIOD_MAX_HOURS: Final = 24 * 90
_AT_ONCE: Final = 4  # calls of this process; GitHub likes few
_ANSWER_S: Final = 10.0


class GitHub:
    """One for each process. Every method may raise ``GitHubBusy`` (snooze ``after_s``), ``GitHubFailed`` (try again)
    and ``GitHubRefused`` (never works without a change)."""

    def __init__(self, settings: Settings, pool: Pool, *, write_gap_s: float = WRITE_GAP_S) -> None:
        self.allowed = AllowedRepositories(settings)
        token = settings.github_token
        # As httpx writes addresses, so that those of further pages can be compared with it.
        url = str(httpx.URL(settings.github_api_url)).rstrip("/")
        self._api = Api(url=url, token=token.get_secret_value() if token else None)
        self._pages = Pages(pool, self._api.lane)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._gate = Gate(write_gap_s)

    async def analyse(self, repository: str, period_hours: int = 24, *, deadline_s: float = DEADLINE_S) -> Analysis:
        """What happened in ``repository`` (owner/name) in the last ``period_hours``, 1 to ``PERIOD_MAX_HOURS``.

        After ``deadline_s`` seconds it is of what has been read by then, and ``incomplete`` says so. What has been read
        is kept: the same call again goes on there.
        """
        self.allowed.check(repository)
        if not 1 <= period_hours <= PERIOD_MAX_HOURS:
            raise ValueError(f"period_hours is {period_hours}, not 1 to {PERIOD_MAX_HOURS}")
        period = Period.before(datetime.now(UTC).replace(microsecond=0), period_hours)
        async with self._client() as client:
            reader = Reader(client, self._pages, self._api.lane)
            bounds = WITH_TOKEN if self._api.token else WITHOUT_TOKEN
            gathering = Gathering(client, reader, repository, bounds)
            try:
                async with asyncio.timeout(deadline_s):
                    await gathering.read(period)
            except TimeoutError:
                if gathering.found is None:
                    message = f"GitHub said nothing about {repository} in {deadline_s:g} s"
                    raise GitHubFailed("timeout", message) from None
        return self._measured(repository, gathering, period)

    def _measured(self, repository: str, gathering: Gathering, period: Period) -> Analysis:
        found = gathering.found
        if found is None:
            raise GitHubFailed("timeout", f"GitHub said nothing about {repository}")
        found.incomplete += gathering.unfinished
        analysis = measure(repository, found, period)
        log.info("github_analysed", repository=repository, hours=period.hours, incomplete=len(analysis.incomplete))
        return analysis

    async def comment(self, repository: str, number: int, body: str, key: str, *, since: datetime | None = None) -> str:
        """Comment on an issue or pull request, and answer the comment's address. ``key`` names what is to be said:
        called again with the same key it answers the address of the comment that is there.

        ``since``: when ``key`` was made up; older comments need not be looked through.
        """
        async with self._writer(repository, f"a comment on issue {number}") as writer:
            return await writer.comment(repository, number, body, key, since)

    async def open_issue(
        self, repository: str, title: str, body: str, key: str, *, since: datetime | None = None
    ) -> str:
        """Open an issue and answer its address; ``key`` and ``since`` as for ``comment``."""
        async with self._writer(repository, "an issue") as writer:
            return await writer.open_issue(repository, title, body, key, since)

    @asynccontextmanager
    async def _writer(self, repository: str, what: str) -> AsyncIterator[Writer]:
        self.allowed.check(repository)
        if self._api.token is None:
            message = f"GITHUB_TOKEN is not set: {what} in {repository} needs one that may write there"
            raise GitHubRefused("not_configured", message)
        async with self._client() as client:
            yield Writer(client, self._pages, self._gate)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        # Opening one reads the authorities' certificates, which takes too long for the event loop.
        http = await asyncio.to_thread(partial(open_http, _ANSWER_S))
        async with http:
            yield Client(self._api, http, self._slots)
