"""From what was read to figures. Pure: the same input in any order gives the same analysis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from statistics import median
from typing import Final

import msgspec

from gateway.services.orchestration.github.figures import (
    AUTHORS_MAX,
    HOT_SPOTS_MAX,
    LIST_MAX,
    Analysis,
    Author,
    Commits,
    Facts,
    HotSpot,
    IssueLine,
    Issues,
    PullLine,
    PullRequests,
    Reviews,
)
from gateway.services.orchestration.github.shapes import (
    ChangedFile,
    Commit,
    Issue,
    PullRequest,
    Repository,
    Review,
    User,
)
from gateway.services.orchestration.github.summary import summarised

STALE_DAYS: Final = 7
NOBODY: Final = "ghost"  # GitHub's own word for an account that is gone


class Period(msgspec.Struct, frozen=True):
    since: datetime
    until: datetime

    @classmethod
    def before(cls, until: datetime, hours: int) -> Period:
        return cls(until - timedelta(hours=hours), until)

    def has(self, moment: datetime | None) -> bool:
        """Both ends included. What GitHub's clock has after ours belongs to it too."""
        return moment is not None and moment >= self.since

    @property
    def hours(self) -> int:
        return round((self.until - self.since).total_seconds() / 3600)


class Found(msgspec.Struct, kw_only=True):
    """What has been read so far. ``files`` by commit, ``reviews`` by the pull request's number."""

    repository: Repository
    open_pulls: list[PullRequest] = []
    closed_pulls: list[PullRequest] = []
    issues: list[Issue] = []
    commits: list[Commit] = []
    files: dict[str, list[ChangedFile]] = {}
    reviews: dict[int, list[Review]] = {}
    incomplete: list[str] = []


def measure(repository: str, found: Found, period: Period) -> Analysis:
    pulls, issues, commits = _pulls(found), _issues(found.issues), commits_in(found, period)
    bare = Analysis(
        repository=repository,
        period_hours=period.hours,
        since=period.since,
        until=period.until,
        facts=_facts(found.repository),
        pull_requests=_measure_pulls(pulls, issues, period),
        issues=_measure_issues([issue for issue in issues if issue.pull_request is None], period),
        commits=_measure_commits(commits),
        hot_spots=_hot_spots({commit.sha: found.files[commit.sha] for commit in commits if commit.sha in found.files}),
        reviews=_measure_reviews({pull.number: pull for pull in pulls}, found.reviews),
        incomplete=sorted(set(found.incomplete)),
    )
    return msgspec.structs.replace(bare, summary=summarised(bare))


def commits_in(found: Found, period: Period) -> list[Commit]:
    """The period's commits, the newest first, each once."""
    by_sha = {commit.sha: commit for commit in found.commits if period.has(commit.commit.committer.date)}
    return sorted(by_sha.values(), key=lambda commit: (-commit.commit.committer.date.timestamp(), commit.sha))


def changes_to_read(found: Found, period: Period) -> list[str]:
    """Commits whose files make the hot spots: a merge would count once more what its parents changed."""
    return [commit.sha for commit in commits_in(found, period) if len(commit.parents) < 2]


def reviews_to_read(found: Found, period: Period) -> list[int]:
    """Pull requests of the period, the last opened first."""
    pulls = [pull for pull in _pulls(found) if period.has(pull.created_at) or period.has(pull.merged_at)]
    return [pull.number for pull in sorted(pulls, key=lambda pull: (-pull.created_at.timestamp(), -pull.number))]


def _pulls(found: Found) -> list[PullRequest]:
    """Each once, as it was last changed: pages move while they are read."""
    by_number: dict[int, PullRequest] = {}
    for pull in (*found.open_pulls, *found.closed_pulls):
        other = by_number.get(pull.number)
        if other is None or _newness(other) < _newness(pull):
            by_number[pull.number] = pull
    return sorted(by_number.values(), key=lambda pull: pull.number)


def _issues(given: Iterable[Issue]) -> list[Issue]:
    by_number: dict[int, Issue] = {}
    for issue in given:
        other = by_number.get(issue.number)
        if other is None or _newness(other) < _newness(issue):
            by_number[issue.number] = issue
    return sorted(by_number.values(), key=lambda issue: issue.number)


def _newness(one: PullRequest | Issue) -> tuple[datetime, bool, bytes]:
    # The last is for what differs in nothing that tells which is newer: then any order will do, but one.
    return one.updated_at, one.closed_at is not None, msgspec.json.encode(one)


def _measure_pulls(pulls: list[PullRequest], issues: list[Issue], period: Period) -> PullRequests:
    still_open = sorted((p for p in pulls if p.closed_at is None), key=lambda p: (p.created_at, p.number))
    merged = [p for p in pulls if period.has(p.merged_at)]
    merged.sort(key=lambda p: (-(p.merged_at or p.updated_at).timestamp(), p.number))
    untouched_since = period.until - timedelta(days=STALE_DAYS)
    stale = sorted((p for p in still_open if p.updated_at <= untouched_since), key=lambda p: (p.updated_at, p.number))
    opened = {p.number for p in pulls if period.has(p.created_at)}
    opened |= {i.number for i in issues if i.pull_request is not None and period.has(i.created_at)}
    return PullRequests(
        open=len(still_open),
        drafts=sum(p.draft for p in still_open),
        stale=len(stale),
        opened=len(opened),
        merged=len(merged),
        closed_unmerged=sum(p.merged_at is None and period.has(p.closed_at) for p in pulls),
        oldest=_pull_line(still_open[0]) if still_open else None,
        open_list=[_pull_line(p) for p in still_open[:LIST_MAX]],
        merged_list=[_pull_line(p) for p in merged[:LIST_MAX]],
        stale_list=[_pull_line(p) for p in stale[:LIST_MAX]],
    )


def _measure_issues(issues: list[Issue], period: Period) -> Issues:
    opened = [i for i in issues if period.has(i.created_at)]
    opened.sort(key=lambda i: (-i.created_at.timestamp(), i.number))
    closed = [i for i in issues if period.has(i.closed_at)]
    closed.sort(key=lambda i: (-(i.closed_at or i.updated_at).timestamp(), i.number))
    return Issues(
        opened=len(opened),
        closed=len(closed),
        opened_list=[_issue_line(i) for i in opened[:LIST_MAX]],
        closed_list=[_issue_line(i) for i in closed[:LIST_MAX]],
    )


def _measure_commits(commits: list[Commit]) -> Commits:
    counts = Counter(_name(commit.author, commit.commit.author.name) for commit in commits)
    authors = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return Commits(
        total=len(commits),
        merges=sum(len(commit.parents) > 1 for commit in commits),
        author_count=len(authors),
        authors=[Author(name=name, commits=count) for name, count in authors[:AUTHORS_MAX]],
    )


def _hot_spots(files: dict[str, list[ChangedFile]]) -> list[HotSpot]:
    commits: defaultdict[str, set[str]] = defaultdict(set)
    additions, deletions = Counter[str](), Counter[str]()
    for sha, changed in files.items():
        for file in changed:
            commits[file.filename].add(sha)
            additions[file.filename] += file.additions
            deletions[file.filename] += file.deletions
    ranked = sorted(commits, key=lambda path: (-len(commits[path]), -(additions[path] + deletions[path]), path))
    return [
        HotSpot(path=path, commits=len(commits[path]), additions=additions[path], deletions=deletions[path])
        for path in ranked[:HOT_SPOTS_MAX]
    ]


def _measure_reviews(pulls: dict[int, PullRequest], reviews: dict[int, list[Review]]) -> Reviews:
    waits = sorted(
        wait
        for number, given in reviews.items()
        if number in pulls and (wait := _hours_to_review(pulls[number], given)) is not None
    )
    return Reviews(
        considered=sum(number in pulls for number in reviews),
        reviewed=len(waits),
        median_hours=round(median(waits), 1) if waits else None,
        p90_hours=round(waits[-(-len(waits) * 9 // 10) - 1], 1) if waits else None,  # nearest rank
    )


def _hours_to_review(pull: PullRequest, reviews: list[Review]) -> float | None:
    author = _name(pull.user)
    moments = [
        review.submitted_at
        for review in reviews
        if review.submitted_at is not None and (review.user is None or review.user.login != author)
    ]
    return max(0.0, (min(moments) - pull.created_at).total_seconds() / 3600) if moments else None


def _pull_line(pull: PullRequest) -> PullLine:
    return PullLine(
        number=pull.number,
        title=pull.title,
        author=_name(pull.user),
        url=pull.html_url,
        created_at=pull.created_at,
        updated_at=pull.updated_at,
        draft=pull.draft,
        merged_at=pull.merged_at,
    )


def _issue_line(issue: Issue) -> IssueLine:
    return IssueLine(
        number=issue.number,
        title=issue.title,
        author=_name(issue.user),
        url=issue.html_url,
        created_at=issue.created_at,
        closed_at=issue.closed_at,
    )


def _facts(repository: Repository) -> Facts:
    return Facts(
        full_name=repository.full_name,
        default_branch=repository.default_branch,
        private=repository.private,
        archived=repository.archived,
        language=repository.language,
        stars=repository.stargazers_count,
    )


def _name(user: User | None, otherwise: str = "") -> str:
    return (user.login if user is not None else "") or otherwise or NOBODY
