"""Jobs: their states, and the shapes in which they enter, run and are read.

Pure: no I/O, no clock; but a new job takes its origin from whoever writes it down. State words are those of
``docs/states.md``.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from gateway.infra.tracing import NOBODY, Origin, origin

PRIORITY_MIN = 0
PRIORITY_MAX = 10


class JobState(StrEnum):
    """Where a job stands. ``OPEN`` states may still run; the others are kept for retention only."""

    WAITING = "waiting"
    DELAYED = "delayed"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({JobState.WAITING, JobState.DELAYED, JobState.ACTIVE})


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job to insert. ``args`` is the task's argument as plain JSON values.

    ``run_at`` in the past, or None, means now (ledger time decides, not this host's clock).
    ``dedupe_key``: at most one open job of a queue has it; inserting a second one answers with the first.
    ``group``: whose it is (a tenant, a project, a domain); groups take turns. ``expires_at``: not started by then it is
    cancelled. ``tags``: words to find it by.
    ``origin``: what is being done where this is written.
    """

    id: UUID
    queue: str
    task: str
    args: dict[str, Any]
    priority: int = 0
    run_at: datetime | None = None
    max_attempts: int | None = None
    dedupe_key: str | None = None
    group: str | None = None
    expires_at: datetime | None = None
    tags: tuple[str, ...] = ()
    origin: Origin = msgspec.field(default_factory=origin)


class Inserted(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger answered to one ``NewJob``. ``duplicate`` is True when an open job had its dedupe key already:
    ``id`` is then that job's. One with a ``group`` waits for its turn, and is not ready by itself."""

    id: UUID
    queue: str
    state: JobState
    priority: int
    seq: int
    duplicate: bool = False
    group: str | None = None


class ClaimedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt that this process may run until ``lease`` runs out; ``fence`` is what proves it.

    ``attempt`` counts from 1 and only real failures move it; ``fence`` grows with every claim, whatever its end.
    ``stalls`` is how often an earlier holder of this job vanished.
    """

    id: UUID
    queue: str
    task: str
    args: dict[str, Any]
    priority: int
    attempt: int
    max_attempts: int
    fence: int
    stalls: int
    created_at: datetime
    ready_at: datetime
    claimed_at: datetime
    origin: Origin = NOBODY


class AttemptError(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How one attempt ended when it did not complete. ``kind``: error, fail, timeout, stalled, interrupted, snoozed,
    cancelled; or expired: there was none in time. ``started_at`` None: it did not start, or an older version wrote
    this."""

    attempt: int
    kind: str
    error: str
    at: datetime
    worker: str | None = None
    uncertain: bool = False
    started_at: datetime | None = None


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the ledger has it, for people and for the admin API. ``blocked``: it waits for its group's turn."""

    id: UUID
    queue: str
    task: str
    state: JobState
    args: dict[str, Any]
    priority: int
    attempts: int
    max_attempts: int
    stalls: int
    run_at: datetime
    created_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None
    lease_until: datetime | None
    worker: str | None
    result: Any
    error: str | None
    errors: list[AttemptError]
    dedupe_key: str | None
    group: str | None = None
    blocked: bool = False
    expires_at: datetime | None = None
    tags: list[str] = []
    request_id: str | None = None
    traceparent: str | None = None


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one queue by state. ``waiting`` is every runnable job of every priority; ``delayed`` is scheduled and
    back-off; ``completed``, ``failed`` and ``cancelled`` are the rows still inside retention."""

    waiting: int = 0
    delayed: int = 0
    active: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def open(self) -> int:
        return self.waiting + self.active
