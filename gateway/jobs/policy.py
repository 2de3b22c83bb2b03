"""Each queue's numbers, and the arithmetic on them. Pure."""

from __future__ import annotations

from typing import Annotated
from zlib import crc32

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
    further one; ``max_waiting`` how many waiting and delayed jobs are accepted (0: any number). ``group_concurrency``
    and ``group_rate`` hold for each group by itself, over all replicas; None: no limit. ``revision`` tells what an
    administrator replaced: the same on replicas that go by the same replacements, 0 for none.
    """

    name: str
    concurrency: int
    rate: RateLimit | None
    attempts: int
    backoff_ms: int
    timeout_s: float
    retention: Retention = Retention()
    default_priority: int = 0
    max_waiting: int = 0
    group_concurrency: int | None = None
    group_rate: RateLimit | None = None
    revision: int = 0


CONCURRENCY_MAX = 10_000
ATTEMPTS_MAX = 10_000
NUMBER_MAX = 2_000_000_000  # PostgreSQL's integer

_Number = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)] | None


class QueueOverrides(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an administrator replaced of a queue's policy; None: as declared. Units as in ``QueuePolicy``.

    A rate limit is replaced as a whole: with both of its numbers, or not. A group's limit of 0 is none.
    """

    concurrency: Annotated[int, msgspec.Meta(ge=1, le=CONCURRENCY_MAX)] | None = None
    rate_max: _Number = None
    rate_duration_ms: _Number = None
    attempts: Annotated[int, msgspec.Meta(ge=1, le=ATTEMPTS_MAX)] | None = None
    backoff_ms: _Number = None
    completed_retention_s: _Number = None
    completed_retention_count: _Number = None
    failed_retention_s: _Number = None
    group_concurrency: Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)] | None = None
    group_rate_max: Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)] | None = None
    group_rate_duration_ms: _Number = None

    @property
    def revision(self) -> int:
        """As in ``QueuePolicy``. A field that only a newer version knows, and that is not named, does not count."""
        return 0 if self == QueueOverrides() else crc32(msgspec.json.encode(self))


def overridden(policy: QueuePolicy, by: QueueOverrides) -> QueuePolicy:
    """The policy with what ``by`` replaces."""
    rate = policy.rate
    if by.rate_max is not None and by.rate_duration_ms is not None:
        rate = RateLimit(by.rate_max, by.rate_duration_ms)
    group_rate = policy.group_rate
    if by.group_rate_max is not None and by.group_rate_duration_ms is not None:
        group_rate = rate_or_none(by.group_rate_max, by.group_rate_duration_ms)
    keep = policy.retention
    return msgspec.structs.replace(
        policy,
        concurrency=_or(by.concurrency, policy.concurrency),
        rate=rate,
        attempts=_or(by.attempts, policy.attempts),
        backoff_ms=_or(by.backoff_ms, policy.backoff_ms),
        retention=Retention(
            completed_s=_or(by.completed_retention_s, keep.completed_s),
            completed_count=_or(by.completed_retention_count, keep.completed_count),
            failed_s=_or(by.failed_retention_s, keep.failed_s),
        ),
        group_concurrency=policy.group_concurrency if by.group_concurrency is None else by.group_concurrency or None,
        group_rate=group_rate,
        revision=by.revision,
    )


def rate_or_none(most: int, duration_ms: int) -> RateLimit | None:
    """A limit of 0 is none."""
    return RateLimit(most, duration_ms) if most else None


def _or(replaced: int | None, declared: int) -> int:
    return declared if replaced is None else replaced


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
