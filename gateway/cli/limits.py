"""A queue's limits as people write and read them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TIME = re.compile(r"([0-9]{1,9})?(ms|s|m|h|d)")
_RATE = re.compile(r"([0-9]{1,9})/(.+)")

# Everything that can be changed, as declared in the settings again.
RESET: Mapping[str, Any] = {
    "concurrency": None, "rateLimit": None, "attempts": None, "backoffMs": None, "retention": None,
    "groupConcurrency": None, "groupRateLimit": None,
}  # fmt: skip


def changes_of(wanted: Mapping[str, Any], *, reset: bool) -> dict[str, Any]:
    """The body of the PATCH for the options of ``gateway queues limits``. Raises click.BadParameter."""
    changes: dict[str, Any] = dict(RESET) if reset else {}
    for option, field in (("concurrency",) * 2, ("attempts",) * 2, ("group_concurrency", "groupConcurrency")):
        if wanted[option] is not None:
            changes[field] = wanted[option]
    for option, field in (("rate", "rateLimit"), ("group_rate", "groupRateLimit")):
        if wanted[option] is not None:
            changes[field] = rate_limit(f"--{option.replace('_', '-')}", wanted[option])
    if wanted["backoff"] is not None:
        changes["backoffMs"] = milliseconds("--backoff", wanted["backoff"])
    keep = {
        "completedS": seconds("--keep-completed", wanted["keep_completed"]),
        "completedCount": wanted["keep_count"],
        "failedS": seconds("--keep-failed", wanted["keep_failed"]),
    }
    named = {field: value for field, value in keep.items() if value is not None}
    if named:
        changes["retention"] = {**(dict.fromkeys(keep) if reset else {}), **named}
    return changes


def rate_limit(option: str, text: str) -> dict[str, int]:
    """``10/1s``, ``5/m`` or ``100/500ms``. Raises click.BadParameter."""
    found = _RATE.fullmatch(text)
    if found is None:
        raise click.BadParameter(f'{option}: "{text}" is not a number of starts and a time; examples: 10/1s, 5/m')
    return {"max": int(found[1]), "durationMs": milliseconds(option, found[2])}


def milliseconds(option: str, text: str) -> int:
    """``500ms``, ``60s``, ``5m``, ``24h``, ``7d``; ``m`` alone is one. Raises click.BadParameter."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise click.BadParameter(f'{option}: "{text}" is not a time; examples: 500ms, 60s, 5m, 24h, 7d')
    return int(found[1] or 1) * _UNITS_MS[found[2]]


def seconds(option: str, text: str | None) -> int | None:
    """As ``milliseconds``, in whole seconds. Raises click.BadParameter."""
    if text is None:
        return None
    whole, rest = divmod(milliseconds(option, text), 1000)
    if rest:
        raise click.BadParameter(f'{option}: "{text}" is not a number of whole seconds')
    return whole


def rate_of(rate: Mapping[str, int] | None) -> str:
    return f"{rate['max']} per {rate['durationMs'] / 1000:g} s" if rate else "unlimited"


def rows_of(queue: Mapping[str, Any]) -> list[list[str]]:
    """Each limit as it is now, and as the settings have it."""
    now = _facts(queue["limits"], queue["retention"])
    declared = _facts(queue["defaultLimits"], queue["defaultRetention"])
    return [[name, now[name], declared[name]] for name in now]


def _facts(limits: Mapping[str, Any], keep: Mapping[str, int]) -> dict[str, str]:
    return {
        "concurrency": f"{limits['concurrency']} per replica",
        "rate": rate_of(limits["rateLimit"]),
        "attempts": str(limits["attempts"]),
        "back-off": f"{limits['backoffMs'] / 1000:g} s",
        "keep completed": f"{keep['completedS']} s",
        "keep count": str(keep["completedCount"]),
        "keep failed": f"{keep['failedS']} s",
        "of a group at once": str(limits["groupConcurrency"] or "unlimited"),
        "rate of a group": rate_of(limits["groupRateLimit"]),
    }
