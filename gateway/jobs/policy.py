"""Each queue's numbers, and the arithmetic on them. Pure."""

from __future__ import annotations

import msgspec

MAX_JITTER = 0.10  # documents 002 and 003 promise "starts at 1 minute": at most 10 % later, never sooner


class RateLimit(msgspec.Struct, frozen=True):
    """At most ``max`` starts in any window of ``duration_ms``, over all replicas."""

    max: int
    duration_ms: int

    @property
    def per_second(self) -> float:
        return self.max * 1000 / self.duration_ms


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long finished jobs are kept (seconds), and how many completed ones at most."""

    completed_s: int = 86_400
    completed_count: int = 1000
    failed_s: int = 604_800


class QueuePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue promises. ``concurrency`` is per replica, ``rate`` over all replicas.

    ``timeout_s`` is the longest one attempt may run; ``backoff_ms`` the delay after the first failure, doubled for each
    further one.
    """

    name: str
    concurrency: int
    rate: RateLimit | None
    attempts: int
    backoff_ms: int
    timeout_s: float
    retention: Retention = Retention()
    default_priority: int = 0


class StallPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Leases (milliseconds): how long one holds, how often its holder renews it, how often rescue looks at the latest.

    ``max_stalls``: a job whose holder vanished this often goes to failed (2: the second stall fails it).
    """

    lease_ms: int = 30_000
    renew_ms: int = 10_000
    interval_ms: int = 30_000
    max_stalls: int = 2


def backoff_s(base_ms: int, failures: int, jitter: float) -> float:
    """Delay before the next attempt, in seconds.

    ``failures`` is how many attempts have failed (>= 1); ``jitter`` is a random number in [0, 1). Document 003: 60 s,
    120 s. Jitter only ever adds, at most ``MAX_JITTER``.
    """
    delay = base_ms / 1000 * 2.0 ** (failures - 1)
    return delay * (1 + MAX_JITTER * jitter)
