"""What happens to jobs, told once: metrics, logs and later the clients' notifications derive from these."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.jobs.job import ClaimedJob, JobState


class JobSettled(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt ended. ``kind``: completed, error, fail, timeout, interrupted, snoozed, cancelled, lost (the lease was
    gone: nothing was changed). ``wait_s`` from ready to claimed, ``run_s`` from claimed to ended."""

    job: ClaimedJob
    kind: str
    state: JobState | None
    wait_s: float
    run_s: float
    error: str | None = None


class JobStalled(msgspec.Struct, frozen=True, kw_only=True):
    """A job whose holder vanished was taken back (or failed, at the limit)."""

    job_id: str
    queue: str
    stalls: int
    state: JobState
    worker: str | None


class BrokerChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Redis was lost or came back. ``down_s`` is how long it was away, on its return."""

    mode: str
    reason: str
    down_s: float | None = None


class RateLimited(msgspec.Struct, frozen=True, kw_only=True):
    """A queue with free slots had to rest for ``wait_s`` because of its limit."""

    queue: str
    wait_s: float


class JobReported(msgspec.Struct, frozen=True, kw_only=True):
    """What a running attempt said of itself is in the ledger. ``progress``: stage and percent; None: it wrote lines of
    its log only."""

    job_id: str
    queue: str
    progress: tuple[str | None, int | None] | None


Event = JobSettled | JobReported | JobStalled | BrokerChanged | RateLimited
Listener = Callable[[Event], None]


class Events:
    """In-process fan-out. Listeners are plain functions that must not block."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def publish(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
