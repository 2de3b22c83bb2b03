"""What ``docs/states.md`` says of jobs, in plain Python: no I/O and no clock. ``test_state_machine.py`` holds the
engine to it.

It is written from the page, not from the SQL: where both disagree, one of them is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from gateway.jobs.job import OPEN, JobState
from gateway.jobs.operations import Action
from gateway.jobs.unique import OnConflict

MAX_STALLS = 2
ENDED = frozenset(JobState) - OPEN
NOT_STARTED = frozenset({JobState.WAITING, JobState.DELAYED})


class Ending(StrEnum):
    """How a holder ends its attempt. ``REST``: a snooze that pauses the queue."""

    COMPLETED = "completed"
    ERROR = "error"
    FAIL = "fail"
    CANCELLED = "cancelled"
    SNOOZED = "snoozed"
    REST = "rest"
    INTERRUPTED = "interrupted"


LEADS_TO = {
    Ending.COMPLETED: JobState.COMPLETED,
    Ending.ERROR: JobState.DELAYED,
    Ending.FAIL: JobState.FAILED,
    Ending.CANCELLED: JobState.CANCELLED,
    Ending.SNOOZED: JobState.DELAYED,
}
REFUNDED = frozenset({Ending.SNOOZED, Ending.REST, Ending.INTERRUPTED})


@dataclass(eq=False)
class Job:
    """``told``: Redis was told of it since it last forgot. ``kinds``: how its attempts ended that did not complete.
    ``late``: its deadline has passed; None: it has none, or not any more: it has begun."""

    id: UUID
    name: int
    seq: int
    priority: int
    state: JobState
    max_attempts: int
    key: str | None = None
    tags: tuple[str, ...] = ()
    attempts: int = 0
    stalls: int = 0
    fence: int = 0
    worker: str | None = None
    unwanted: bool = False
    lease_over: bool = False
    told: bool = True
    late: bool | None = None
    group: str | None = None
    blocked: bool = False
    kinds: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"job {self.name}"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """As hypothesis shows it."""
        printer.text(repr(self))

    def wait(self) -> None:
        self.state, self.told = JobState.WAITING, True


@dataclass(frozen=True)
class Claim:
    job: Job
    fence: int
    attempt: int
    worker: str


class Model:
    def __init__(self) -> None:
        self.jobs: dict[UUID, Job] = {}
        self.paused = False
        self.ever = 0

    def add(self, job: Job) -> None:
        self.ever += 1
        self.jobs[job.id] = job

    def having(self, *states: JobState) -> list[Job]:
        return [job for job in self.jobs.values() if job.state in states]

    def counts(self) -> Counter[JobState]:
        return Counter(job.state for job in self.jobs.values())

    def open_with(self, key: str | None) -> Job | None:
        return next(
            (job for job in self.jobs.values() if key is not None and job.key == key and job.state in OPEN), None
        )

    # Starting

    def next_in_line(self, want: int, *, told_only: bool, look: bool) -> list[Job]:
        """Who starts now, in this order. ``told_only``: Redis hands out what it was told, and with ``look`` the ledger
        the rest."""
        if self.paused:
            return []
        ready = sorted(
            (job for job in self.having(JobState.WAITING) if not (job.late or job.blocked)),
            key=lambda job: (-job.priority, job.seq),
        )
        if not told_only:
            return ready[:want]
        told = [job for job in ready if job.told][:want]
        return told + [job for job in ready if look and not job.told][: want - len(told)]

    def claim(self, job: Job, worker: str) -> Claim:
        job.state, job.worker, job.lease_over = JobState.ACTIVE, worker, False
        job.attempts += 1
        job.fence += 1
        return Claim(job, job.fence, job.attempts, worker)

    def holds(self, claim: Claim) -> bool:
        return claim.job.id in self.jobs and claim.job.state is JobState.ACTIVE and claim.job.fence == claim.fence

    def turns(self, group: str) -> list[Job]:
        """The jobs of a group that run or may: never more than its limit."""
        return [job for job in self.having(JobState.WAITING, JobState.ACTIVE) if job.group == group and not job.blocked]

    def line(self, group: str) -> list[Job]:
        """Those that wait for their turn, and are worth starting."""
        return [job for job in self.jobs.values() if job.group == group and job.blocked and not job.late]

    # Ending

    def settle(self, claim: Claim, ending: Ending) -> bool:
        """Does it change anything: only for who holds the job now (B). What is not a failure costs nothing (F)."""
        if ending is Ending.REST:
            self.paused = True
        if not self.holds(claim):
            return False
        job = claim.job
        if ending is not Ending.INTERRUPTED:  # those were handed back before they began
            job.late = None
        if ending in (Ending.REST, Ending.INTERRUPTED):
            job.wait()
        elif ending is Ending.ERROR and job.attempts >= job.max_attempts:
            job.state = JobState.FAILED
        else:
            job.state = LEADS_TO[ending]
        if ending is not Ending.COMPLETED:
            job.kinds.append(Ending.SNOOZED if ending is Ending.REST else ending)
        if ending in REFUNDED:
            job.attempts -= 1
        self._heed(job)
        return True

    def rescue(self) -> None:
        for job in self.having(JobState.ACTIVE):
            if job.lease_over:
                job.late = None
                job.stalls += 1
                job.attempts -= 1
                job.kinds.append("stalled")
                job.state = JobState.FAILED
                if job.unwanted:
                    job.state = JobState.CANCELLED
                elif job.stalls < MAX_STALLS:
                    job.wait()

    def expire(self) -> None:
        """Who was not started by the deadline is not started any more."""
        for job in self.having(*NOT_STARTED):
            if job.late:
                job.state = JobState.CANCELLED
                job.kinds.append("expired")

    def release(self, worker: str, running: Collection[Job]) -> None:
        """``worker`` says what it runs; what else it was given goes back, and that is nobody's failure.
        It has not begun: its deadline stays."""
        for job in self.having(JobState.ACTIVE):
            if job.worker == worker and job not in running:
                job.attempts -= 1
                job.wait()
                self._heed(job)

    def _heed(self, job: Job) -> None:
        """Whose end was asked for while it ran is not tried again."""
        if job.unwanted and job.state in NOT_STARTED:
            job.state = JobState.CANCELLED

    # What people do; False: refused, and nothing changed

    def cancel(self, job: Job, *, running: bool = True) -> bool:
        if job.state in NOT_STARTED:
            job.state = JobState.CANCELLED
        elif job.state is JobState.ACTIVE and running:
            job.unwanted = True
        else:
            return False
        return True

    def retry(self, job: Job) -> bool:
        if job.state is not JobState.FAILED or self.open_with(job.key):
            return False
        job.attempts, job.stalls, job.unwanted = 0, 0, False
        job.wait()
        return True

    def retry_failed(self, among: Collection[Job]) -> int:
        """Of those with one key the newest."""
        failed = [job for job in among if job.state is JobState.FAILED]
        newest = {job.key: job for job in sorted(failed, key=lambda job: job.seq)}
        return sum(self.retry(job) for job in failed if job.key is None or newest[job.key] is job)

    def may_replay(self, job: Job) -> bool:
        return job.state in (JobState.FAILED, JobState.CANCELLED) and not self.open_with(job.key)

    def delete(self, job: Job) -> bool:
        if job.state is JobState.ACTIVE:
            return False
        del self.jobs[job.id]
        return True

    def promote(self, job: Job) -> bool:
        if job.state is not JobState.DELAYED:
            return False
        job.wait()
        return True

    def reschedule(self, job: Job, *, later: bool) -> bool:
        if job.state not in NOT_STARTED or job.attempts:
            return False
        if later:
            job.state = JobState.DELAYED
        else:
            job.wait()
        return True

    def in_bulk(self, action: Action, jobs: Collection[Job]) -> int:
        """How many it was done to."""
        match action:
            case Action.RETRY:
                return self.retry_failed([job for job in jobs if job.id in self.jobs])
            case Action.CANCEL:
                return sum(self.cancel(job) for job in jobs if job.id in self.jobs)
            case Action.DELETE:
                return sum(self.delete(job) for job in jobs if job.id in self.jobs)
            case Action.PROMOTE:
                return sum(self.promote(job) for job in jobs if job.id in self.jobs)

    def has_the_key(self, key: str, *, window: bool) -> Job | None:
        """Who stands in a second one's way: an open job, else within the window the newest that was not cancelled."""
        if (holder := self.open_with(key)) is not None or not window:
            return holder
        ended = [job for job in self.having(JobState.COMPLETED, JobState.FAILED) if job.key == key]
        return max(ended, key=lambda job: job.seq, default=None)

    def yields(self, holder: Job | None, policy: OnConflict) -> bool | None:
        """May a second job with the key go in: True; it is the first instead: False; refused: None."""
        if holder is None:
            return True
        if policy is OnConflict.KEEP_FIRST:
            return False
        if policy is OnConflict.REJECT or holder.state is JobState.ACTIVE:
            return None
        self.cancel(holder)
        return True

    def forget(self) -> None:
        """Redis lost everything."""
        for job in self.jobs.values():
            job.told = False
