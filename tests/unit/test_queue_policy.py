"""What an administrator replaces of a queue's policy, and what a PATCH names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.jobs.policy import QueueOverrides, RateLimit, Retention, overridden
from gateway.web.queue_controls import LimitsPatch, changes_of
from tests.support.engine import policy, rate


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, {}),
        ({"concurrency": 9}, {"concurrency": 9}),
        ({"rate_max": 3, "rate_duration_ms": 500}, {"rate": RateLimit(3, 500)}),
        ({"rate_max": 3}, {}),
        ({"attempts": 1, "backoff_ms": 5}, {"attempts": 1, "backoff_ms": 5}),
        ({"group_concurrency": 2}, {"group_concurrency": 2}),
        ({"group_concurrency": 0}, {"group_concurrency": None}),
        ({"group_rate_max": 3, "group_rate_duration_ms": 500}, {"group_rate": RateLimit(3, 500)}),
        ({"group_rate_max": 0, "group_rate_duration_ms": 500}, {"group_rate": None}),
        ({"failed_retention_s": 60}, {"retention": Retention(failed_s=60)}),
        (
            {"completed_retention_s": 1, "completed_retention_count": 2},
            {"retention": Retention(completed_s=1, completed_count=2)},
        ),
    ],
)
def test_what_is_replaced_and_what_stays(overrides: dict[str, int], expected: dict[str, Any]) -> None:
    declared = policy(rate=rate(10, 1000), group_concurrency=7, group_rate=rate(70, 1000))
    found = overridden(declared, QueueOverrides(**overrides))
    assert found == msgspec.structs.replace(declared, **expected, revision=found.revision)


def test_the_revision_tells_whether_replicas_go_by_the_same_replacements() -> None:
    def revision(**overrides: int | None) -> int:
        return overridden(policy(), QueueOverrides(**overrides)).revision

    assert revision() == revision(attempts=None) == 0
    assert revision(attempts=4) == revision(attempts=4, concurrency=None) != revision(attempts=5)
    assert 0 not in {revision(attempts=4), revision(concurrency=policy().concurrency)}


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (b"{}", {}),
        (b'{"concurrency": 7}', {"concurrency": 7}),
        (b'{"concurrency": null, "attempts": 2}', {"concurrency": None, "attempts": 2}),
        (b'{"rateLimit": {"max": 3, "durationMs": 500}}', {"rate_max": 3, "rate_duration_ms": 500}),
        (b'{"groupConcurrency": 0}', {"group_concurrency": 0}),
        (b'{"groupRateLimit": {"max": 0, "durationMs": 5}}', {"group_rate_max": 0, "group_rate_duration_ms": 5}),
        (b'{"groupRateLimit": null}', {"group_rate_max": None, "group_rate_duration_ms": None}),
        (b'{"rateLimit": null}', {"rate_max": None, "rate_duration_ms": None}),
        (b'{"retention": {"failedS": 60}}', {"failed_retention_s": 60}),
        (b'{"retention": {"completedCount": null}}', {"completed_retention_count": None}),
        (
            b'{"retention": null, "backoffMs": 1}',
            {
                "completed_retention_s": None,
                "completed_retention_count": None,
                "failed_retention_s": None,
                "backoff_ms": 1,
            },
        ),
    ],
)
def test_what_a_patch_names(body: bytes, changes: dict[str, int | None]) -> None:
    assert changes_of(msgspec.json.decode(body, type=LimitsPatch)) == changes
