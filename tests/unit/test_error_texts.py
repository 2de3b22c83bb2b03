"""What is kept of an attempt's error."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from gateway.jobs.job import ClaimedJob
from gateway.jobs.outcomes import Moment, signalled
from gateway.jobs.policy import QueuePolicy

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("raised", "kept"),
    [
        ("cannot reach redis://gateway:s3cret@redis:6379/0", "cannot reach redis://gateway:•••@redis:6379/0"),
        ("401 for Authorization: Bearer abc.DEF-123", "401 for Authorization: Bearer •••"),
        (f"token {JWT} is expired", "token ••• is expired"),
        ("550 5.1.1 no mailbox ada@example.com", "550 5.1.1 no mailbox ada@example.com"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a?b"),
    ],
    ids=["url", "bearer", "jwt", "address", "nul", "surrogate"],
)
def test_secrets_in_errors_are_not_kept(raised: str, kept: str) -> None:
    job = ClaimedJob(
        id=uuid4(), queue="email-queue", task="email.send", args={}, priority=0, attempt=3, max_attempts=3, fence=1,
        stalls=0, created_at=NOW, ready_at=NOW, claimed_at=NOW,
    )  # fmt: skip
    queue = QueuePolicy(name="email-queue", concurrency=1, rate=None, attempts=3, backoff_ms=1000, timeout_s=60)
    ended = signalled(job, queue, Moment(now=NOW, jitter=0.5, worker="w"), RuntimeError(raised))
    assert ended.settlement.error == f"RuntimeError: {kept}"
    assert kept in (ended.settlement.entry or "")
