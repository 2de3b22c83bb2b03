"""An analysis in a few lines for an agent's context. Pure.

Whatever strangers wrote stands in quotation marks, on one line, with the marks in it escaped: where it ends is plain.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from gateway.services.orchestration.github.figures import Analysis, HotSpot, IssueLine, PullLine

_NAMED: Final = 5
_HOT_SPOTS_NAMED: Final = 10


def summarised(analysis: Analysis) -> list[str]:
    pulls, issues, commits = analysis.pull_requests, analysis.issues, analysis.commits
    lines = [
        f"Repository {analysis.repository}, the {analysis.period_hours} hours until {_time(analysis.until)}.",
        f"Pull requests: {pulls.open} open ({pulls.drafts} drafts, {pulls.stale} stale).",
        f"In the period {pulls.opened} were opened, {pulls.merged} merged, {pulls.closed_unmerged} closed unmerged.",
    ]
    if pulls.oldest is not None:
        days = max(0, (analysis.until - pulls.oldest.created_at).days)
        lines.append(f"Oldest open pull request: {_numbered(pulls.oldest)}, open for {days} days.")
    lines += _named("Stale pull requests", pulls.stale_list)
    lines += _named("Merged", pulls.merged_list)
    lines.append(_reviews(analysis))
    lines.append(f"Issues in the period: {issues.opened} opened, {issues.closed} closed.")
    lines += _named("Opened issues", issues.opened_list)
    lines.append(f"Commits in the period: {commits.total} by {commits.author_count} authors, {commits.merges} merges.")
    if commits.authors:
        names = ", ".join(f"{_quoted(author.name)} {author.commits}" for author in commits.authors[:_NAMED])
        lines.append(f"Most commits: {names}.")
    if analysis.hot_spots:
        lines.append(f"Files changed most: {', '.join(map(_hot_spot, analysis.hot_spots[:_HOT_SPOTS_NAMED]))}.")
    lines += [f"Not complete: {reason}." for reason in analysis.incomplete]
    return lines


def _reviews(analysis: Analysis) -> str:
    reviews = analysis.reviews
    if reviews.median_hours is None:
        return f"Reviews: none yet on {reviews.considered} pull requests of the period."
    return (
        f"Reviews: {reviews.reviewed} of {reviews.considered} pull requests of the period reviewed, the first review "
        f"after {reviews.median_hours} h (median), {reviews.p90_hours} h (90 %)."
    )


def _named(head: str, lines: Iterable[PullLine | IssueLine]) -> list[str]:
    names = [_numbered(line) for line in lines]
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"{head}: {', '.join(names[:_NAMED])}{more}."]


def _numbered(line: PullLine | IssueLine) -> str:
    return f"#{line.number} {_quoted(line.title)} by {_quoted(line.author)}"


def _hot_spot(spot: HotSpot) -> str:
    return f"{_quoted(spot.path)} ({spot.commits} commits, +{spot.additions} -{spot.deletions})"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
