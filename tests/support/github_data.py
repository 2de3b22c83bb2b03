"""Repositories as GitHub's REST API tells of them (the fields that anybody here reads, and some that nobody should),
and what a test tells ``github_server`` to do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import count
from typing import Any

Json = dict[str, Any]
_ids = count(1001)


class Act(Enum):
    HANG = "hang"  # no answer until the server stops
    CUT = "cut"  # close instead of answering; nothing is done
    DO_AND_CUT = "do_and_cut"  # do what was asked, then close without an answer
    CUT_IN_BODY = "cut_in_body"  # close in the middle of the answer
    DRIP = "drip"  # a byte now and then, without end
    GARBAGE = "garbage"  # 200, and something that is no JSON


@dataclass(frozen=True)
class Reply:
    """``body``: JSON unless it is bytes already."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One request; ``status`` is what was answered, 0 while nothing was."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    status: int = 0

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None


def ago(**units: float) -> datetime:
    """``ago(hours=3)``: to the second, as GitHub's times are."""
    return (datetime.now(UTC) - timedelta(**units)).replace(microsecond=0)


def iso(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class FakeRepository:
    """``url`` is that of the server's API. The rows are GitHub's JSON, and may be changed as a test likes."""

    name: str
    url: str
    private: bool = False
    writable: bool = True
    has_issues: bool = True
    id: int = field(default_factory=lambda: next(_ids))
    pulls: list[Json] = field(default_factory=list)
    issues: list[Json] = field(default_factory=list)
    commits: list[Json] = field(default_factory=list)
    files: dict[str, list[Json]] = field(default_factory=dict)
    reviews: dict[int, list[Json]] = field(default_factory=dict)
    comments: dict[int, list[Json]] = field(default_factory=dict)

    def facts(self) -> Json:
        return {
            "id": self.id,
            "full_name": self.name,
            "default_branch": "main",
            "private": self.private,
            "archived": False,
            "has_issues": self.has_issues,
            "language": "Python",
            "stargazers_count": 12,
            "permissions": {"push": self.writable},
        }

    def next_number(self) -> int:
        return max((row["number"] for row in self.issues), default=0) + 1

    def add_pull(
        self,
        title: str = "A change",
        *,
        author: str | None = "ada",
        created: datetime | None = None,
        updated: datetime | None = None,
        merged: datetime | None = None,
        closed: datetime | None = None,
        draft: bool = False,
    ) -> int:
        """Its number. It stands in the list of issues too, as at GitHub."""
        created = created or ago(hours=2)
        closed = closed or merged
        updated = updated or closed or created
        number = self.next_number()
        row = self._row(number, title, author, created, updated, closed) | {
            "html_url": f"https://github.example/{self.name}/pull/{number}",
            "merged_at": iso(merged),
            "draft": draft,
        }
        self.pulls.append(row)
        issue = {name: value for name, value in row.items() if name not in ("merged_at", "draft")}
        self.issues.append(issue | {"pull_request": {"url": f"{self.url}/pulls/{number}", "merged_at": iso(merged)}})
        return number

    def add_issue(
        self,
        title: str = "It breaks",
        *,
        author: str | None = "bob",
        created: datetime | None = None,
        closed: datetime | None = None,
        body: str = "",
    ) -> int:
        created = created or ago(hours=2)
        number = self.next_number()
        row = self._row(number, title, author, created, closed or created, closed)
        self.issues.append(row | {"body": body, "html_url": f"https://github.example/{self.name}/issues/{number}"})
        return number

    def _row(
        self,
        number: int,
        title: str,
        author: str | None,
        created: datetime,
        updated: datetime,
        closed: datetime | None,
    ) -> Json:
        return {
            "number": number,
            "title": title,
            "state": "closed" if closed else "open",
            "user": {"login": author, "id": 7, "type": "User"} if author else None,
            "body": "Words that nobody reads.",
            "created_at": iso(created),
            "updated_at": iso(updated),
            "closed_at": iso(closed),
        }

    def add_review(self, number: int, *, author: str, submitted: datetime | None) -> None:
        review = {"user": {"login": author}, "state": "APPROVED", "submitted_at": iso(submitted)}
        self.reviews.setdefault(number, []).append(review)

    def add_commit(
        self,
        files: dict[str, tuple[int, int]] | None = None,
        *,
        author: str | None = "ada",
        at: datetime | None = None,
        parents: int = 1,
    ) -> str:
        """``files``: additions and deletions of each. ``author`` None: an account that GitHub does not know."""
        at = at or ago(hours=2)
        sha = hashlib.sha1(f"{self.name} {len(self.commits)}".encode()).hexdigest()
        signature = {"name": author or "Somebody", "email": "somebody@example.com", "date": iso(at)}
        row = {
            "sha": sha,
            "commit": {"author": signature, "committer": signature, "message": "A message that nobody reads"},
            "author": {"login": author} if author else None,
            "parents": [{"sha": f"{parent:040x}"} for parent in range(parents)],
        }
        self.commits.append(row)
        self.files[sha] = [
            {"filename": path, "additions": plus, "deletions": minus, "status": "modified", "patch": "@@ secret @@"}
            for path, (plus, minus) in (files or {}).items()
        ]
        return sha

    def add_comment(self, number: int, body: str, *, created: datetime | None = None) -> Json:
        row = {
            "id": next(_ids),
            "body": body,
            "user": {"login": "gateway-bot"},
            "created_at": iso(created or ago()),
            "updated_at": iso(created or ago()),
        }
        row["html_url"] = f"https://github.example/{self.name}/issues/{number}#issuecomment-{row['id']}"
        self.comments.setdefault(number, []).append(row)
        return row
