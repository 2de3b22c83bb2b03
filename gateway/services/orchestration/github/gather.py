"""Reads a repository page by page into ``Found``, so that a deadline leaves what has been read so far."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

import msgspec

from gateway.services.orchestration.github.answers import Asked
from gateway.services.orchestration.github.client import Client
from gateway.services.orchestration.github.errors import GitHubBusy, GitHubError, GitHubRefused
from gateway.services.orchestration.github.measure import Found, Period, changes_to_read, reviews_to_read
from gateway.services.orchestration.github.reader import (
    COMMITS,
    FACTS,
    HOT_SPOTS,
    ISSUES,
    PULLS,
    Listing,
    Reader,
)
from gateway.services.orchestration.github.shapes import Commit, CommitFiles, Issue, PullRequest, Repository, Review

_AT_ONCE: Final = 4
_FAILURES_MAX: Final = 5  # of single commits or pull requests: GitHub has trouble, and more would not help
_PULLS_A_PAGE: Final = 50  # a pull request has 20 kB and more, and is as long as somebody wrote
_ROWS_A_PAGE: Final = 100

T = TypeVar("T")


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Most pages of each list, and most commits and pull requests that are looked into."""

    pages: int
    commits: int
    reviews: int


WITH_TOKEN: Final = Bounds(pages=10, commits=100, reviews=40)
WITHOUT_TOKEN: Final = Bounds(pages=3, commits=20, reviews=10)  # 43 calls: without a token there are 60 an hour


class Gathering:
    """One analysis at work. ``found`` is None until GitHub has answered at all."""

    def __init__(self, client: Client, reader: Reader, repository: str, bounds: Bounds) -> None:
        self._client = client
        self._reader = reader
        self._repository = repository
        self._bounds = bounds
        self._left: set[str] = set()
        self.found: Found | None = None

    @property
    def unfinished(self) -> list[str]:
        """What is being read now, in words."""
        return [f"{what} not read to the end" for what in sorted(self._left)]

    async def read(self, period: Period) -> None:
        """Raises ``GitHubError`` when what everything else depends on cannot be read, or GitHub asks to wait."""
        asked = self._asked("repository", "")
        self.found = found = Found(repository=(await self._reader.one(asked, FACTS, Repository)).value)
        lists = [
            self._doing("open pull requests", self._open_pulls(found)),
            self._doing("closed pull requests", self._closed_pulls(found, period)),
            self._doing("commits", self._commits(found, period)),
        ]
        if found.repository.has_issues:
            lists.append(self._doing("issues", self._issues(found, period)))
        self._left |= {"files of commits", "reviews"}
        await _all_of(lists)
        await _all_of(
            [
                self._doing("files of commits", self._files(found, period)),
                self._doing("reviews", self._reviews(found, period)),
            ]
        )

    async def _doing(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        self._left.add(what)
        await work
        self._left.discard(what)

    def _asked(self, what: str, rest: str) -> Asked:
        return self._client.asked(self._repository, what, f"/repos/{self._repository}{rest}")

    async def _open_pulls(self, found: Found) -> None:
        rows = f"/pulls?state=open&sort=created&direction=asc&per_page={_PULLS_A_PAGE}"
        asked = self._asked("open pull requests", rows)
        listing = Listing(asked=asked, kind=PULLS, shape=PullRequest, most=self._bounds.pages, rows=found.open_pulls)
        if not await self._reader.fill(listing):
            found.incomplete.append(f"only the {len(listing.rows)} oldest open pull requests were read")

    async def _closed_pulls(self, found: Found, period: Period) -> None:
        rows = f"/pulls?state=closed&sort=updated&direction=desc&per_page={_PULLS_A_PAGE}"
        listing = Listing(
            asked=self._asked("closed pull requests", rows),
            kind=PULLS,
            shape=PullRequest,
            most=self._bounds.pages,
            last=lambda page: _older(page, period),
            rows=found.closed_pulls,
        )
        if not await self._reader.fill(listing):
            found.incomplete.append(f"only the {len(listing.rows)} last changed closed pull requests were read")

    async def _issues(self, found: Found, period: Period) -> None:
        rows = f"/issues?state=all&sort=updated&direction=desc&per_page={_ROWS_A_PAGE}"
        listing = Listing(
            asked=self._asked("issues", rows),
            kind=ISSUES,
            shape=Issue,
            most=self._bounds.pages,
            last=lambda page: _older(page, period),
            rows=found.issues,
        )
        if not await self._reader.fill(listing):
            found.incomplete.append(f"only the {len(listing.rows)} last changed issues were read")

    async def _commits(self, found: Found, period: Period) -> None:
        # From the beginning of the day, so that the same question is asked all day long and its pages can be kept.
        asked = self._asked("commits", f"/commits?since={period.since:%Y-%m-%dT00:00:00Z}&per_page={_ROWS_A_PAGE}")
        listing = Listing(asked=asked, kind=COMMITS, shape=Commit, most=self._bounds.pages, rows=found.commits)
        try:
            all_read = await self._reader.fill(listing)
        except GitHubRefused as error:
            if error.kind != "gone":
                raise
            return  # 409: the repository is empty
        if not all_read:
            found.incomplete.append(f"only the {len(listing.rows)} newest commits were read")

    async def _files(self, found: Found, period: Period) -> None:
        wanted = changes_to_read(found, period)
        some = wanted[: self._bounds.commits]
        if len(some) < len(wanted):
            found.incomplete.append(f"files of only the {len(some)} newest of {len(wanted)} commits were read")
        cut = 0

        async def read(sha: str) -> None:
            nonlocal cut
            held = await self._reader.one(self._asked(f"commit {sha[:12]}", f"/commits/{sha}"), HOT_SPOTS, CommitFiles)
            found.files[sha] = held.value.files
            cut += held.next is not None

        unread = await _each(some, read)
        if unread:
            found.incomplete.append(f"files of {unread} commits could not be read")
        if cut:
            found.incomplete.append(f"of {cut} very large commits only the first files count")

    async def _reviews(self, found: Found, period: Period) -> None:
        wanted = reviews_to_read(found, period)
        some = wanted[: self._bounds.reviews]
        if len(some) < len(wanted):
            found.incomplete.append(f"reviews of only the {len(some)} newest of {len(wanted)} pull requests were read")

        async def read(number: int) -> None:
            asked = self._asked(f"reviews of pull request {number}", f"/pulls/{number}/reviews?per_page=100")
            found.reviews[number] = (await self._reader.one(asked, PULLS, list[Review])).value

        unread = await _each(some, read)
        if unread:
            found.incomplete.append(f"reviews of {unread} pull requests could not be read")


def _older(page: Iterable[PullRequest | Issue], period: Period) -> bool:
    """Whether the page, the last changed first, reaches back behind the period."""
    return any(row.updated_at < period.since for row in page)


async def _each(items: list[T], read: Callable[[T], Awaitable[None]]) -> int:
    """Read them, a few at once; answers how many could not be read. Raises ``GitHubBusy``."""
    left, failures, done = iter(items), 0, 0

    async def work() -> None:
        nonlocal failures, done
        for item in left:
            if failures >= _FAILURES_MAX:
                return
            try:
                await read(item)
                done += 1
            except GitHubBusy:
                raise
            except GitHubError:
                failures += 1

    await _all_of([work() for _ in range(min(_AT_ONCE, len(items)))])
    return len(items) - done


async def _all_of(works: list[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failures:
        # A limit says when to come again; what failed beside it says less.
        raise min(failures.exceptions, key=lambda error: not isinstance(error, GitHubBusy)) from None
