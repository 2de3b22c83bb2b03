"""The port: where ready jobs come from. ``RedisBroker`` and ``DirectBroker`` implement it; one conformance suite holds both.

A broker hands out claims, never bare ids: claiming is the ledger's compare-and-set, so whatever a broker remembers
wrongly costs a look-up, never a second run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.jobs.job import ClaimedJob, Inserted


class BrokerDown(Exception):
    """The broker's store did not answer. ``dispatch`` turns to the direct broker; nothing is lost."""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What one fetch brought. ``retry_after_s``: asking sooner is in vain (limited, paused); None means: until woken."""

    jobs: list[ClaimedJob]
    retry_after_s: float | None = None


class Broker(Protocol):
    mode: str  # "queue" or "direct", as in the API's answers

    async def offer(self, jobs: Sequence[Inserted]) -> None:
        """Say that these jobs are ready. Safe to repeat. Raises ``BrokerDown``."""
        ...

    async def fetch(self, queue: str, limit: int) -> Fetched:
        """Claim up to ``limit`` ready jobs, highest priority first. Raises ``BrokerDown``."""
        ...

    async def wait(self, queue: str, timeout_s: float) -> None:
        """Return when a job may be ready, or after ``timeout_s``. A hint: it may return early. Raises ``BrokerDown``."""
        ...
