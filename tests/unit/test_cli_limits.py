"""A queue's limits as they are typed and shown."""

from __future__ import annotations

from typing import Any

import click
import pytest

from gateway.cli.limits import RESET, changes_of, milliseconds, rate_limit, rate_of, seconds

NOTHING: dict[str, Any] = dict.fromkeys(
    (
        *("concurrency", "rate", "attempts", "backoff", "keep_completed", "keep_count", "keep_failed"),
        *("group_concurrency", "group_rate"),
    )
)


@pytest.mark.parametrize(
    ("text", "most", "duration_ms"),
    [
        ("10/1s", 10, 1000),
        ("5/m", 5, 60_000),
        ("100/500ms", 100, 500),
        ("1/24h", 1, 86_400_000),
        ("7/d", 7, 86_400_000),
    ],
)
def test_rates(text: str, most: int, duration_ms: int) -> None:
    assert rate_limit("--rate", text) == {"max": most, "durationMs": duration_ms}


@pytest.mark.parametrize("text", ["", "10", "10/", "/1s", "10/1", "ten/s", "10/1s/2", "1.5/s", "-1/s", "10/ 1s"])
def test_what_is_no_rate_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="examples"):
        rate_limit("--rate", text)


def test_times() -> None:
    assert milliseconds("--backoff", "90s") == 90_000
    assert seconds("--keep-failed", "7d") == 604_800
    assert seconds("--keep-failed", None) is None
    with pytest.raises(click.BadParameter, match="whole seconds"):
        seconds("--keep-failed", "1500ms")


@pytest.mark.parametrize(
    ("wanted", "reset", "changes"),
    [
        ({}, False, {}),
        ({}, True, dict(RESET)),
        ({"concurrency": 3, "rate": "2/s"}, False, {"concurrency": 3, "rateLimit": {"max": 2, "durationMs": 1000}}),
        ({"backoff": "5s", "attempts": 4}, False, {"backoffMs": 5000, "attempts": 4}),
        ({"group_concurrency": 0}, False, {"groupConcurrency": 0}),
        ({"group_rate": "9/m"}, False, {"groupRateLimit": {"max": 9, "durationMs": 60_000}}),
        ({"keep_failed": "1d"}, False, {"retention": {"failedS": 86_400}}),
        ({"concurrency": 3}, True, {**RESET, "concurrency": 3}),
        (
            {"keep_count": 9},
            True,
            {**RESET, "retention": {"completedS": None, "completedCount": 9, "failedS": None}},
        ),
    ],
)
def test_the_body_of_the_change(wanted: dict[str, Any], reset: bool, changes: dict[str, Any]) -> None:
    assert changes_of({**NOTHING, **wanted}, reset=reset) == changes


def test_rates_are_shown_in_seconds() -> None:
    assert rate_of({"max": 10, "durationMs": 500}) == "10 per 0.5 s"
    assert rate_of(None) == "unlimited"
