"""What GitHub's answers mean. Pure.

Sources: docs.github.com, "Rate limits for the REST API" (what to wait for) and "Troubleshooting the REST API" (404 for
what one may not see).
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from gateway.services.orchestration.github.errors import GitHubBusy, GitHubError, GitHubFailed, GitHubRefused
from gateway.services.orchestration.github.text import clean

UNSAID_WAIT_S: Final = 60.0  # "wait for at least one minute", where GitHub does not say how long
MOST_WAIT_S: Final = 3600.0  # its limits are by the hour
LEAST_WAIT_S: Final = 1.0
_SAID_MAX: Final = 200


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request, in words for its errors. ``what`` reads behind "there is no" and "could not read": "issue 12"."""

    repository: str
    what: str
    path: str
    with_token: bool
    writes: bool = False

    def __str__(self) -> str:
        return f"{self.what} of {self.repository}"


def error_of(asked: Asked, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> GitHubError | None:
    """None for what was answered as asked. ``headers`` in lower case; ``now_s`` is Unix time."""
    if status < 300 or status == 304:
        return None
    said = _said(body)
    if status == 429 or (status == 403 and _is_limit(headers, said)):
        return _busy(asked, headers, said, now_s)
    if status >= 500 or status == 408:
        return GitHubFailed("unavailable", f"GitHub answered {status} for {asked}: {said}")
    return _refusal(asked, status, said)


def _refusal(asked: Asked, status: int, said: str) -> GitHubRefused:
    if status == 401:
        hint = "set a valid GITHUB_TOKEN" if asked.with_token else "set GITHUB_TOKEN"
        return GitHubRefused("auth", f"GitHub does not accept the GITHUB_TOKEN for {asked} ({said}); {hint}")
    if status == 404:
        return GitHubRefused("not_found", _not_found(asked))
    if status in (403, 451):
        may = "write to" if asked.writes else "read"
        return GitHubRefused("forbidden", f"GitHub refuses {asked}: {said}. The GITHUB_TOKEN may not {may} it")
    if status < 400:
        return GitHubRefused("not_found", f"GitHub sends {asked} elsewhere ({status}); was {asked.repository} renamed?")
    kind = "gone" if status in (409, 410) else "invalid"
    return GitHubRefused(kind, f"GitHub did not accept {asked} ({status}): {said}")


def rest_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """How long the token must rest, as far as the headers say so; None: it need not, or they do not say how long."""
    server_now_s = _time_of(headers.get("date", "")) or now_s  # its clock decides, not ours
    wait = headers.get("retry-after", "").strip()
    if wait.isdecimal():
        return _bounded(float(wait))
    if (until_s := _time_of(wait)) is not None:
        return _bounded(until_s - server_now_s)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return _bounded(float(reset) - server_now_s + 1.0)
    return None


def _busy(asked: Asked, headers: Mapping[str, str], said: str, now_s: float) -> GitHubBusy:
    after_s = rest_s(headers, now_s)
    wait_s = UNSAID_WAIT_S if after_s is None else after_s
    if headers.get("x-ratelimit-remaining") == "0" and "retry-after" not in headers:
        most = headers.get("x-ratelimit-limit", "")
        limit = f"its {most} requests an hour are used up" if most.isdecimal() else "its limit is used up"
        hint = "" if asked.with_token else "; GITHUB_TOKEN raises it"
        message = f"GitHub's rate limit: {limit}{hint}. Again in {wait_s:.0f} s ({asked})"
        return GitHubBusy("rate_limited", message, after_s=wait_s)
    message = f"GitHub asks for a pause of {wait_s:.0f} s ({asked}): {said}"
    return GitHubBusy("secondary_limit", message, after_s=wait_s)


def _is_limit(headers: Mapping[str, str], said: str) -> bool:
    if headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers:
        return True
    return "rate limit" in said.lower() or "abuse detection" in said.lower()


def _not_found(asked: Asked) -> str:
    if not asked.with_token:
        return f"There is no {asked}, or it is private: GITHUB_TOKEN is not set, and so only public ones are seen"
    return f"There is no {asked}, or the GITHUB_TOKEN may not {'write to' if asked.writes else 'see'} it"


class _Said(msgspec.Struct):
    message: str = ""


def _said(body: bytes) -> str:
    """GitHub's own words. An answer that is not its JSON (a proxy's page) is not repeated."""
    try:
        message = msgspec.json.decode(body, type=_Said).message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "no reason given"
    return clean(message, _SAID_MAX).rstrip(".") or "no reason given"


def _time_of(text: str) -> float | None:
    """Unix time of an HTTP date (RFC 9110, 5.6.7)."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, LEAST_WAIT_S), MOST_WAIT_S)
