"""The port: where ready jobs come from. ``RedisBroker`` and ``DirectBroker`` implement it; one conformance suite holds
both.

A broker hands out claims, never bare ids: claiming is the ledger's compare-and-set, so whatever a broker remembers
wrongly costs a look-up, never a second run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.jobs.job import ClaimedJob, Inserted
from gateway.jobs.policy import QueuePolicy


class BrokerDown(Exception):
    """The broker's store did not answer. ``dispatch`` turns to the direct broker; nothing is lost."""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What one fetch brought, in the order in which it should start.

    ``retry_after_s``: asking sooner is in vain (limited, or paused until then); None: ask when woken. ``paused``
    without ``retry_after_s``: until somebody resumes.
    """

    jobs: list[ClaimedJob]
    retry_after_s: float | None = None
    paused: bool = False


class Broker(Protocol):
    """``mode`` is the word of the API's answers: "queue" or "direct"."""

    mode: str

    async def offer(self, jobs: Sequence[Inserted]) -> None:
        """Say that these waiting jobs are ready. Safe to repeat. Raises ``BrokerDown``."""
        ...

    async def fetch(self, policy: QueuePolicy, limit: int) -> Fetched:
        """Claim up to ``limit`` ready jobs, highest priority first. Raises ``BrokerDown``."""
        ...

    async def wait(self, queue: str, timeout_s: float) -> None:
        """Return when a job may be ready, or after ``timeout_s``; it may return early. Raises ``BrokerDown``."""
        ...

    async def wake(self, queue: str) -> None:
        """Let whoever waits look again (the queue was resumed). Raises ``BrokerDown``."""
        ...
