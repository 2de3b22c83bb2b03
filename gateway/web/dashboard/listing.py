"""Lists of jobs on pages: what the address asks for, and the addresses of the pages beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from gateway.access import Principal
from gateway.feature import Feature, Platform
from gateway.jobs.job import JobState
from gateway.problem import Problem
from gateway.web.dashboard.search_box import parse_box
from gateway.web.jobs_search import queue_of, search_jobs
from gateway.web.queues_schemas import JobView, invalid, states_of

# The names that Bull Board's addresses have for what is here one state, or all of them.
_BULL_BOARD: Final = {"latest": "", "prioritized": "waiting", "waiting-children": "waiting", "paused": "waiting"}
# "page" is Bull Board's: lists here have no numbers, so its links show the first page.
QUERY: Final = ("status", "q", "from", "until", "cursor", "page", "done")
FILTERS: Final = ("status", "q", "from", "until")


class Listing(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``problem``: why the search could not be understood; then there are no jobs. ``older``, ``newest``: queries of
    the pages beside this one; ``here``: of its first page. ``searched``: how many jobs were read for it, None: no text
    was looked for."""

    jobs: list[JobView]
    status: str
    q: str
    problem: str | None = None
    older: str | None = None
    newest: str | None = None
    here: str = ""
    searched: int | None = None
    complete: bool = True


def status_of(query: Mapping[str, str]) -> str:
    """One state or several with commas; empty: all. Raises Problem 400."""
    status = query.get("status", "")
    status = _BULL_BOARD.get(status, status)
    states_of(status or None, "status")
    return status


def wanted_of(query: Mapping[str, str], user: Principal) -> dict[str, str]:
    """The parameters of the JSON lists that a page's address means. Raises Problem 400."""
    asked = parse_box(query.get("q", ""), content=user.reads_content)
    status = status_of(query)
    if status:
        if "state" in asked:
            raise invalid("q", "says state:, which the tab says already")
        asked["state"] = status
    for name in ("from", "until"):
        if text := query.get(name):
            asked[name] = text
    return asked


async def named(features: Iterable[Feature], jobs: Sequence[JobView]) -> dict[UUID, str]:
    """What jobs are about, as far as their features know."""
    found: dict[UUID, str] = {}
    for feature in features:
        queues = {policy.name for policy in feature.queues}
        theirs = [job.id for job in jobs if job.queue in queues]
        if theirs and feature.pages is not None and feature.pages.name_jobs is not None:
            found |= await feature.pages.name_jobs(theirs)
    return found


async def listing(platform: Platform, queue: str | None, query: Mapping[str, str], user: Principal) -> Listing:
    """A page of jobs. What was typed and cannot be understood is told beside the box, not as an error."""
    status, text = status_of(query), query.get("q", "")
    try:
        asked = wanted_of(query, user)
        if queue is None:
            queue = queue_of(platform, asked)
        elif asked.pop("queue", queue) != queue:
            raise invalid("q", "names another queue; the search over all jobs knows queue:")
        asked.pop("queue", None)
        if cursor := query.get("cursor"):
            asked["cursor"] = cursor
        jobs, page = await search_jobs(platform, queue, asked)
    except Problem as problem:
        if problem.status not in (400, 404):
            raise
        return Listing(jobs=[], status=status, q=text, problem=problem.message)
    older = _query(query, page.next_cursor) if page.next_cursor else None
    told = isinstance(page.searched, int)
    return Listing(
        jobs=jobs,
        status=status,
        q=text,
        older=older,
        newest=_query(query) if query.get("cursor") else None,
        here=_query(query),
        searched=page.searched if isinstance(page.searched, int) else None,
        complete=not told or page.complete is True,
    )


def _query(query: Mapping[str, str], cursor: str | None = None) -> str:
    kept = {name: query[name] for name in FILTERS if query.get(name)}
    return "?" + urlencode(kept | ({"cursor": cursor} if cursor else {}))


def tabs_of(counts: Any, chosen: str) -> list[dict[str, Any]]:
    """One for all and one for each state, with their numbers."""
    numbers = [(str(state), getattr(counts, state)) for state in JobState]
    tabs = [{"status": "", "word": "All", "count": sum(count for _, count in numbers)}]
    tabs += [{"status": state, "word": state.capitalize(), "count": count} for state, count in numbers]
    return [tab | {"chosen": tab["status"] == chosen} for tab in tabs]
