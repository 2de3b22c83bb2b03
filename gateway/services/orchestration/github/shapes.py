"""The few fields that are read of GitHub's JSON. Texts are cleaned as they are decoded: no other form of them exists
here. Bodies of issues and pull requests are not read at all. Decoding what was kept of them changes nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from gateway.services.orchestration.github.text import clean

TITLE_MAX: Final = 200
NAME_MAX: Final = 60
PATH_MAX: Final = 300
URL_MAX: Final = 300


class User(msgspec.Struct, omit_defaults=True):
    login: str = ""

    def __post_init__(self) -> None:
        self.login = clean(self.login, NAME_MAX)


class Repository(msgspec.Struct, omit_defaults=True, kw_only=True):
    full_name: str
    default_branch: str = ""
    private: bool = False
    archived: bool = False
    has_issues: bool = True
    language: str | None = None
    stargazers_count: int = 0

    def __post_init__(self) -> None:
        self.full_name = clean(self.full_name, PATH_MAX)
        self.default_branch = clean(self.default_branch, PATH_MAX)
        self.language = clean(self.language, NAME_MAX) if self.language else None


class PullRequest(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``merged_at`` None and ``closed_at`` set: closed without a merge."""

    number: int
    title: str
    created_at: datetime
    updated_at: datetime
    user: User | None = None
    html_url: str = ""
    draft: bool = False
    closed_at: datetime | None = None
    merged_at: datetime | None = None

    def __post_init__(self) -> None:
        self.title = clean(self.title, TITLE_MAX)
        self.html_url = clean(self.html_url, URL_MAX)


class PullReference(msgspec.Struct):
    """That it is there is all that counts."""


class Issue(msgspec.Struct, omit_defaults=True, kw_only=True):
    """GitHub lists pull requests among the issues: those have ``pull_request``."""

    number: int
    title: str
    created_at: datetime
    updated_at: datetime
    user: User | None = None
    html_url: str = ""
    closed_at: datetime | None = None
    pull_request: PullReference | None = None

    def __post_init__(self) -> None:
        self.title = clean(self.title, TITLE_MAX)
        self.html_url = clean(self.html_url, URL_MAX)


class Signature(msgspec.Struct, omit_defaults=True):
    """Who made or committed a commit, as git knows it. The address is not read."""

    date: datetime
    name: str = ""

    def __post_init__(self) -> None:
        self.name = clean(self.name, NAME_MAX)


class CommitHead(msgspec.Struct, omit_defaults=True):
    author: Signature
    committer: Signature


class Parent(msgspec.Struct):
    sha: str


class Commit(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``author`` is None where GitHub knows no account with git's address."""

    sha: str
    commit: CommitHead
    author: User | None = None
    parents: list[Parent] = []

    def __post_init__(self) -> None:
        self.sha = clean(self.sha, 64)


class ChangedFile(msgspec.Struct, omit_defaults=True, kw_only=True):
    filename: str
    additions: int = 0
    deletions: int = 0

    def __post_init__(self) -> None:
        self.filename = clean(self.filename, PATH_MAX)


class CommitFiles(msgspec.Struct, omit_defaults=True, kw_only=True):
    """At most the first 300 files: a change of more says little about each of them."""

    files: list[ChangedFile] = []


class Review(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``submitted_at`` is None while it is being written."""

    user: User | None = None
    submitted_at: datetime | None = None


class Written(msgspec.Struct, kw_only=True):
    """A comment or an issue that may be ours. ``body`` is searched for our marker, and not kept."""

    html_url: str
    body: str | None = None
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        self.html_url = clean(self.html_url, URL_MAX)
