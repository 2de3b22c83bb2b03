"""A running attempt: what its task may know, and how it is ended early."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from gateway.infra.tracing import Attributes, set_origin, span, tracing
from gateway.jobs.errors import Cancel, Snooze, TaskSignal
from gateway.jobs.job import ClaimedJob
from gateway.jobs.report import Report
from gateway.jobs.reporter import Reporter

CANCEL_GRACE_S = 5.0  # how long a cancelled task may take to end; after that its slot goes on without it


class Ignored(Exception):
    """The task was cancelled and did not end."""


@dataclass(slots=True, eq=False)
class Attempt:
    """``lease_ends``: on this process's monotonic clock, written by the lease keeper. ``cause`` and ``reason``: why it
    is being cancelled (lost, shutdown, timeout, cancelled), written once by ``cancel``. ``started`` and ``ended`` are
    monotonic seconds."""

    job: ClaimedJob
    worker: str
    timeout_s: float
    lease_ends: float
    reporter: Reporter
    report_after_s: float = 0.0
    cause: str | None = None
    reason: str = ""
    started: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    _task: asyncio.Task[Any] | None = None
    _ended: asyncio.Future[None] | None = None
    _timers: list[asyncio.TimerHandle] = field(default_factory=list)
    _report: Report | None = None  # most jobs have nothing to report
    _irrevocable: bool = False
    _given_up: bool = False  # it was cancelled and does not end: nobody waits for it any longer

    @property
    def deadline_s(self) -> float:
        """Seconds left before the attempt is cut."""
        return max(0.0, self.started + self.timeout_s - time.monotonic())

    def still_held(self) -> bool:
        return self.cause != "lost" and time.monotonic() < self.lease_ends

    def irrevocable(self) -> None:
        """What the attempt is for has happened; what is left is to record it, which neither the time limit nor a stop
        may cut."""
        self._irrevocable = True

    async def progress(self, percent: float | None, stage: str | None = None) -> None:
        """See ``TaskContext``."""
        report = self._own_report()
        report.reach(percent, stage)
        self.reporter.changed(report, self.started + self.report_after_s)
        await asyncio.sleep(0)  # a loop that reports leaves the others their turn, and can be cut

    def log(self, text: str) -> None:
        """See ``TaskContext``."""
        report = self._own_report()
        report.log(text)
        self.reporter.changed(report, self.started + self.report_after_s)

    def _own_report(self) -> Report:
        if self._report is None:
            self._report = Report(self.job)
        return self._report

    def close_report(self, *, held: bool, completed: bool) -> None:
        """The attempt is over. ``held``: by its settlement."""
        if self._report is not None:
            self.reporter.close(self._report, held=held, needless=completed and self.report_after_s > 0)

    def cancel(self, cause: str, reason: str = "") -> None:
        """Have the task end. Does nothing when it has ended, is ending, or may not be cut any more."""
        if self.cause is not None or self._irrevocable or self._task is None or self._task.done():
            return
        self.cause, self.reason = cause, reason
        self._task.cancel()
        self._timers.append(asyncio.get_running_loop().call_later(CANCEL_GRACE_S, self._give_up))

    async def perform(self, performing: Coroutine[Any, Any, object]) -> object:
        """The task's result; raises what it raised.

        Raises ``asyncio.CancelledError`` when the task was cancelled (``cause`` says by whom; None: from inside), and
        ``Ignored`` when it does not end although it was: it then goes on by itself, and nothing waits for it.
        """
        loop = asyncio.get_running_loop()
        work = _traced(self.job, performing) if tracing() else performing
        self._task = loop.create_task(work, context=self._context())
        self._task.add_done_callback(self._end)
        self._timers.append(loop.call_later(self.timeout_s, self.cancel, "timeout"))
        try:
            await self._until_ended(loop)
        except asyncio.CancelledError:  # the slot itself is being stopped
            self.cancel("shutdown")
            await self._until_ended(loop)
        finally:
            for timer in self._timers:
                timer.cancel()
        if not self._task.done():
            raise Ignored
        return self._task.result()

    async def _until_ended(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._task is not None and not (self._task.done() or self._given_up):
            self._ended = loop.create_future()
            await self._ended

    def _context(self) -> contextvars.Context:
        """The task's own: what it logs says which job it is, and nothing of whoever started the slot."""
        context = contextvars.Context()
        context.run(structlog.contextvars.bind_contextvars, **log_fields(self.job))
        context.run(set_origin, self.job.origin)
        return context

    def _give_up(self) -> None:
        self._given_up = True
        self._end()

    def _end(self, _task: asyncio.Task[Any] | None = None) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


def log_fields(job: ClaimedJob) -> dict[str, str]:
    """Which job a line is about, and who asked for it."""
    fields = {"job_id": str(job.id), "queue": job.queue}
    if job.origin.request_id is not None:
        fields["request_id"] = job.origin.request_id
    if job.origin.trace_id is not None:
        fields["trace_id"] = job.origin.trace_id
    return fields


async def _traced(job: ClaimedJob, performing: Coroutine[Any, Any, object]) -> object:
    """The attempt as a span below the one that submitted the job."""
    facts: Attributes = {
        "messaging.system": "gateway",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": str(job.id),
        "gateway.task": job.task,
        "gateway.attempt": job.attempt,
    }
    with span(f"process {job.queue}", "consumer", facts) as step:
        try:
            return await performing
        except (Cancel, Snooze) as signal:  # asked for by the task: nothing has failed
            step.note({"gateway.outcome": type(signal).__name__.lower()})
            asked: TaskSignal = signal
    raise asked
