"""What an analysis says: counts are of all that was read, lists hold the first few of it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

LIST_MAX: Final = 50
AUTHORS_MAX: Final = 50
HOT_SPOTS_MAX: Final = 30


class Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the parts: camelCase in JSON."""


class PullLine(Figures, frozen=True, kw_only=True):
    number: int
    title: str
    author: str
    url: str
    created_at: datetime
    updated_at: datetime
    draft: bool
    merged_at: datetime | None


class PullRequests(Figures, frozen=True, kw_only=True):
    """``open``, ``drafts`` and ``stale`` are of now, the others of the period. ``stale``: open, and untouched for
    ``STALE_DAYS``. Lists: the oldest open, the last merged, and the longest untouched first."""

    open: int
    drafts: int
    stale: int
    opened: int
    merged: int
    closed_unmerged: int
    oldest: PullLine | None
    open_list: list[PullLine]
    merged_list: list[PullLine]
    stale_list: list[PullLine]


class IssueLine(Figures, frozen=True, kw_only=True):
    number: int
    title: str
    author: str
    url: str
    created_at: datetime
    closed_at: datetime | None


class Issues(Figures, frozen=True, kw_only=True):
    """Of the period, without pull requests; the last ones first."""

    opened: int
    closed: int
    opened_list: list[IssueLine]
    closed_list: list[IssueLine]


class Author(Figures, frozen=True, kw_only=True):
    name: str
    commits: int


class Commits(Figures, frozen=True, kw_only=True):
    """Of the default branch in the period. ``authors``: most commits first, merges counted."""

    total: int
    merges: int
    author_count: int
    authors: list[Author]


class HotSpot(Figures, frozen=True, kw_only=True):
    """A file, in how many commits it changed (merges are not asked), and by how many lines."""

    path: str
    commits: int
    additions: int
    deletions: int


class Reviews(Figures, frozen=True, kw_only=True):
    """Of ``considered`` pull requests that were opened or merged in the period: hours from opening to the first review
    by somebody else."""

    considered: int
    reviewed: int
    median_hours: float | None
    p90_hours: float | None


class Facts(Figures, frozen=True, kw_only=True):
    full_name: str
    default_branch: str
    private: bool
    archived: bool
    language: str | None
    stars: int


class Analysis(Figures, frozen=True, kw_only=True):
    """``since`` to ``until`` is the period. ``incomplete``: what was not read and why; then counts are "at least".
    ``summary``: the same in a few lines, as context of an agent. Names and titles in it are other people's words."""

    repository: str
    period_hours: int
    since: datetime
    until: datetime
    facts: Facts
    pull_requests: PullRequests
    issues: Issues
    commits: Commits
    hot_spots: list[HotSpot]
    reviews: Reviews
    incomplete: list[str]
    summary: list[str] = []
