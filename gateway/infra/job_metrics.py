"""What ``/metrics`` says of jobs, as they happen in this process. Labels are the queues and tasks that are declared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram

# How an attempt may end. The first three are failures.
FAILURES: Final = ("error", "fail", "timeout")
OUTCOMES: Final = ("completed", *FAILURES, "interrupted", "snoozed", "cancelled", "lost")
STALLED: Final = "stalled"  # a further class of failures: the job's process vanished too often
# A mail takes tens of milliseconds, an agent run up to its limit of 10 minutes, a rate-limited wait hours.
_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class AttemptEnd(msgspec.Struct, frozen=True, kw_only=True):
    """``retried``: it failed, and another attempt follows. ``total_s``: from submitted to the job's end; None: it goes
    on."""

    queue: str
    task: str
    outcome: str
    wait_s: float
    run_s: float
    total_s: float | None = None
    retried: bool = False


class JobMetrics:
    """Counters and times of one process. All begin at 0, so that the first event is seen as an increase."""

    def __init__(self, into: CollectorRegistry) -> None:
        self._jobs = Counter(
            "gateway_jobs", "Attempts that ended, by outcome.", ["queue", "task", "outcome"], registry=into
        )
        self._failures = Counter(
            "gateway_job_failures", "Attempts that failed, by kind of failure.", ["queue", "class"], registry=into
        )
        self._attempts = Counter("gateway_job_attempts", "Attempts that ended.", ["queue", "task"], registry=into)
        self._retries = Counter(
            "gateway_job_retries", "Attempts that failed and are followed by another.", ["queue", "task"], registry=into
        )
        self._stalled = Counter("gateway_job_stalled", "Jobs whose process vanished.", ["queue"], registry=into)
        self._duration = Histogram(
            "gateway_job_duration_seconds",
            "Time from ready to claimed (wait), from claimed to ended (run), and of a whole job that ended (total).",
            ["queue", "task", "phase"],
            buckets=_SECONDS,
            registry=into,
        )
        self._rate_wait = Histogram(
            "gateway_job_rate_limit_wait_seconds",
            "Rests of free workers because of the queue's rate limit.",
            ["queue"],
            buckets=_SECONDS,
            registry=into,
        )
        self._tasks: dict[tuple[str, str], _Task] = {}

    def declare(self, queue: str, tasks: Iterable[str] = ()) -> None:
        for failure in (*FAILURES, STALLED):
            self._failures.labels(queue, failure)
        self._stalled.labels(queue)
        self._rate_wait.labels(queue)
        for task in tasks:
            self._task(queue, task)

    def attempt_ended(self, end: AttemptEnd) -> None:
        (self._tasks.get((end.queue, end.task)) or self._task(end.queue, end.task)).attempt_ended(end)
        if end.outcome in FAILURES:
            self.failed(end.queue, end.outcome)

    def failed(self, queue: str, failure: str) -> None:
        self._failures.labels(queue, failure).inc()

    def stalled(self, queue: str) -> None:
        self._stalled.labels(queue).inc()

    def rate_limited(self, queue: str, wait_s: float) -> None:
        self._rate_wait.labels(queue).observe(wait_s)

    def _task(self, queue: str, task: str) -> _Task:
        labels = (queue, task)
        made = self._tasks[labels] = _Task(
            self._attempts.labels(*labels),
            self._retries.labels(*labels),
            {outcome: self._jobs.labels(*labels, outcome) for outcome in OUTCOMES},
            {phase: self._duration.labels(*labels, phase) for phase in ("wait", "run", "total")},
        )
        return made


@dataclass(frozen=True, slots=True)
class _Task:
    """One task's own: finding a metric by its labels costs more than counting, so each is found once."""

    attempts: Counter
    retries: Counter
    outcomes: dict[str, Counter]
    seconds: dict[str, Histogram]

    def attempt_ended(self, end: AttemptEnd) -> None:
        self.attempts.inc()
        self.outcomes[end.outcome].inc()
        self.seconds["wait"].observe(end.wait_s)
        self.seconds["run"].observe(end.run_s)
        if end.total_s is not None:
            self.seconds["total"].observe(end.total_s)
        if end.retried:
            self.retries.inc()
