"""How a call to GitHub fails, by what the caller can do about it."""

from __future__ import annotations


class GitHubError(Exception):
    """``kind`` is a bounded word, for logs and metrics; the message names the repository and is written for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class GitHubBusy(GitHubError):
    """Ask again in ``after_s`` seconds: a limit is used up. Nothing was done, and no attempt should be counted.
    Kinds: rate_limited, secondary_limit."""

    def __init__(self, kind: str, message: str, *, after_s: float) -> None:
        super().__init__(kind, message)
        self.after_s = after_s


class GitHubFailed(GitHubError):
    """It may work next time. Kinds: unavailable, timeout, bad_answer. After a write, GitHub may have done it all the
    same: the next try looks first."""


class GitHubRefused(GitHubError):
    """It never will without a change. Kinds: not_found, auth, forbidden, invalid, not_configured, bad_repository,
    not_allowed, gone, too_large."""
