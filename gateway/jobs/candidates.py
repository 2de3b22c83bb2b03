"""Ways to jobs that few jobs can match: a tag's index, and what features know of theirs (whom a mail goes to).

Each answers job ids, so that everything else that was asked for is held against few rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import asyncpg
import msgspec

from gateway.jobs.store import SQL, Row

Finder = Callable[[str, UUID, int], Awaitable[list[UUID]]]
"""Ids of the jobs that a word stands for, below an id, at most so many: the newest ones."""


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that may match. ``stopped``: only those above this id were looked for; None: these are all. ``looked_at``:
    how many jobs that took."""

    ids: list[UUID]
    stopped: UUID | None
    looked_at: int


async def by_tag(pool: asyncpg.Pool[Row], tag: str, low: UUID, below: UUID, depth: int) -> Candidates:
    """All that have it when these are at most ``depth`` (by the index), else those of the newest ``depth`` jobs: one
    that so many have is found there."""
    rows = await pool.fetch(SQL["search_tag"], tag, low, below, depth + 1)
    if len(rows) <= depth:
        return Candidates(ids=[row["id"] for row in rows], stopped=None, looked_at=len(rows))
    rows = await pool.fetch(SQL["search_tag_newest"], tag, low, below, depth)
    more = bool(rows) and rows[-1]["n"] == depth
    return Candidates(
        ids=[row["id"] for row in rows if row["matched"]],
        stopped=rows[-1]["id"] if more else None,
        looked_at=rows[-1]["n"] if rows else 0,
    )


async def by_knowledge(finders: Mapping[str, Finder], about: Mapping[str, str], below: UUID, depth: int) -> Candidates:
    """What the feature that knows it answers. Raises LookupError when no feature does."""
    ((name, word),) = about.items()
    ids = await finders[name](word, below, depth)
    lowest = min(ids, default=below)
    return Candidates(ids=ids, stopped=lowest if len(ids) == depth and lowest < below else None, looked_at=len(ids))
