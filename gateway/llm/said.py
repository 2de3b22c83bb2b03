"""What a provider's refusals and failures mean. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from gateway.llm.model import ModelBusy, ModelError, ModelFailed, ModelRefusedCall
from gateway.llm.providers import KEY_SETTINGS

RETRY_AFTER_MAX_S: Final = 3600.0
_MESSAGE_MAX: Final = 300  # characters of a provider's own words
_OVERLOADED: Final = 529  # Anthropic's; no registered status
_KEY_LIKE: Final = re.compile(r"\b(sk|gsk|AIza|Bearer)[-_ ]?[\w*.-]{6,}")
_CONTEXT: Final = re.compile(
    r"context.?length|context window|maximum context|prompt is too long|maximum number of tokens|too many tokens",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"\s*\d+(\.\d+)?\s*")
_BAD_KEY: Final = re.compile(r"api[ _]key", re.IGNORECASE)
_OVERLOAD: Final = re.compile(r"overloaded|rate.?limit|too many requests|resource.?exhausted", re.IGNORECASE)
_NO_CREDIT: Final = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_REFUSED_REQUEST: Final = (400, 405, 411, 415, 422, 501)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An error as the provider put it. ``status`` None: it came inside a stream that had begun. ``code`` holds its code
    and type, in either order; ``retry_after_s`` None: it did not say."""

    message: str
    status: int | None = None
    code: str = ""
    retry_after_s: float | None = None


def error_of(said: Said, provider: str, model: str) -> ModelError:
    """What it means for the call. ``ModelBusy.after_s`` is 0 where the provider named no time."""
    words = f"{provider} answered {said.status or 'in the stream'}: {scrubbed(said.message)}"
    if _says_busy(said):
        return ModelBusy("rate_limited", words, after_s=said.retry_after_s or 0.0)
    kind = _refused(said)
    if kind == "auth":
        # Not in the provider's words: they often hold a part of the key.
        what = "has no credit left" if _no_credit(said) else "is not accepted"
        return ModelRefusedCall(
            kind, f"{provider} answered {said.status}: the account of {KEY_SETTINGS[provider]} {what}."
        )
    if kind == "unknown_model":
        words = f"{provider} does not serve {model}. {words}"
    if kind is not None:
        return ModelRefusedCall(kind, words)
    return ModelFailed("timeout" if said.status in (408, 504) else "unavailable", words)


def _refused(said: Said) -> str | None:
    """The kind of a refusal that no other attempt will change; None if it is none."""
    if _no_credit(said) or said.status in (401, 402, 403):
        return "auth"
    if "context_length_exceeded" in said.code or said.status == 413:
        return "context_length"
    if said.status == 404:
        return "unknown_model"
    if said.status not in _REFUSED_REQUEST:
        return None
    if said.status == 400 and _BAD_KEY.search(said.message):  # Google's form of 401
        return "auth"
    return "context_length" if _CONTEXT.search(said.message) else "bad_request"


def _no_credit(said: Said) -> bool:
    return any(code in said.code for code in _NO_CREDIT)


def _says_busy(said: Said) -> bool:
    if _no_credit(said):
        return False
    if said.status in (429, _OVERLOADED):
        return True
    if said.status == 503:
        return said.retry_after_s is not None or bool(_OVERLOAD.search(f"{said.code} {said.message}"))
    return said.status is None and bool(_OVERLOAD.search(f"{said.code} {said.message}"))


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a provider asks to wait: ``retry-after-ms``, or ``Retry-After`` as seconds or as a date (RFC 9110,
    10.2.3), at most an hour; None if it does not say, or nonsense."""
    try:
        for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
            if _NUMBER.fullmatch(headers.get(name, "")):
                return _bounded(float(headers[name]) / unit)
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return _bounded((aware - (now or datetime.now(UTC))).total_seconds())


def _bounded(seconds: float) -> float:
    return min(RETRY_AFTER_MAX_S, max(0.1, seconds))


def scrubbed(message: str) -> str:
    """A provider's words, shortened, without what looks like a key."""
    return _KEY_LIKE.sub("•••", " ".join(message.split()))[:_MESSAGE_MAX]
