"""Why is it waiting? What holds a queue's jobs back, or one job, said in words.

The decisions are pure functions of facts that bounded queries read (invariant J).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import asyncpg
import msgspec

from gateway.jobs.job import JobRecord, JobState
from gateway.jobs.policy import QueuePolicy, RateLimit
from gateway.jobs.records import QueueStatus, Replica
from gateway.jobs.store import SQL, Row

AHEAD_MAX = 1000  # jobs ahead of one are counted up to here


class Reason(StrEnum):
    NOTHING_WAITS = "nothing_waits"
    PAUSED = "paused"
    NO_WORKER = "no_worker"
    LIMITED = "limited"
    BLOCKED_BY_KEY = "blocked_by_key"
    BUSY = "busy"
    BEHIND = "behind"
    SCHEDULED = "scheduled"
    BACK_OFF = "back_off"
    SNOOZED = "snoozed"
    NEXT = "next"


class Hindrance(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One thing that waiting is due to. ``since`` and ``until`` where they are known; ``ahead``: jobs that start
    before, counted up to ``AHEAD_MAX``."""

    reason: Reason
    message: str
    since: datetime | None = None
    until: datetime | None = None
    ahead: int | None = None


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``now`` is the ledger's time. ``slots``: of all live replicas that take jobs of the queue; ``limited_until``:
    when the rate limit lets the next job start, None: now. ``ready`` False: all that wait are blocked."""

    now: datetime
    waiting: int
    active: int
    slots: int
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    pause_reason: str | None = None
    limited_until: datetime | None = None
    ready: bool = True

    @property
    def paused(self) -> bool:
        return self.paused_at is not None and (self.paused_until is None or self.paused_until > self.now)


class GroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A group whose turn a job waits for. ``running`` and ``ready`` jobs of it have their turn, ``starts`` of it are in
    the rate's window, which has room at ``opens_at``; ``ahead`` more are blocked before the job."""

    name: str
    running: int
    ready: int
    starts: int
    opens_at: datetime | None
    ahead: int
    concurrency: int | None
    rate: RateLimit | None


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``last``: how the attempt before ended (``AttemptError.kind``), None: there was none. ``group``: None for a job
    that is not blocked."""

    state: JobState
    run_at: datetime
    last: str | None = None
    ahead: int = 0
    group: GroupFacts | None = None


def why_queue(facts: QueueFacts) -> list[Hindrance]:
    """What holds the queue's next job back; what has to end first comes first. Never empty."""
    if not facts.waiting:
        return [Hindrance(reason=Reason.NOTHING_WAITS, message="no job waits")]
    if not facts.ready:
        blocked = Hindrance(reason=Reason.BLOCKED_BY_KEY, message="every waiting job waits for its group's turn")
        return [*_hindrances(facts), blocked]
    return _hindrances(facts) or [Hindrance(reason=Reason.NEXT, message="nothing: free slots take the next jobs now")]


def why_job(job: JobFacts, queue: QueueFacts) -> list[Hindrance]:
    """What holds one job back; empty for one that neither waits nor is delayed."""
    if job.state is JobState.DELAYED:
        return [_delay(job, queue), *(found for found in _hindrances(queue) if _outlasts(found, job.run_at))]
    if job.state is not JobState.WAITING:
        return []
    found = _hindrances(queue)
    if job.group is not None:
        found.append(_group(job.group))
    elif job.ahead:
        found.append(Hindrance(reason=Reason.BEHIND, message=_ahead(job.ahead), ahead=job.ahead))
    return found or [Hindrance(reason=Reason.NEXT, message="nothing: a free slot takes it now", ahead=0)]


def _hindrances(facts: QueueFacts) -> list[Hindrance]:
    found = []
    if facts.paused:
        found.append(_pause(facts))
    if not facts.slots:
        found.append(Hindrance(reason=Reason.NO_WORKER, message="no live replica takes jobs of this queue"))
    elif facts.active >= facts.slots:
        found.append(Hindrance(reason=Reason.BUSY, message=f"all {facts.slots} slots are busy"))
    if facts.limited_until is not None and facts.limited_until > facts.now:
        message = f"the rate limit is used up until {_clock(facts.limited_until)}"
        found.append(Hindrance(reason=Reason.LIMITED, message=message, until=facts.limited_until))
    return found


def _pause(facts: QueueFacts) -> Hindrance:
    until = f"until {_clock(facts.paused_until)}" if facts.paused_until else "until somebody resumes it"
    why = f": {facts.pause_reason}" if facts.pause_reason else ""
    message = f"the queue is paused {until}{why}"
    return Hindrance(reason=Reason.PAUSED, message=message, since=facts.paused_at, until=facts.paused_until)


def _group(group: GroupFacts) -> Hindrance:
    """The first of what holds: the group's concurrency, its rate, the groups' fair share of the line."""
    name, until = f"group '{group.name}'", None
    turns = f"{group.running} {_jobs(group.running)} of its {name} run, {group.ready} are ready"
    if group.concurrency is not None and group.running + group.ready >= group.concurrency:
        message = f"{turns}, limit {group.concurrency}"
    elif group.rate is not None and group.starts + group.ready >= group.rate.max:
        until = group.opens_at if group.starts else None
        message = f"the rate limit of its {name} is used up" + (f" until {_clock(until)}" if until else "")
    elif group.ready:
        message = f"{turns}, and then other groups have their turn"
    else:
        message = f"the turn of its {name} comes within a second"
    if group.ahead:
        message += f"; {_ahead(group.ahead)} in its group"
    return Hindrance(reason=Reason.BLOCKED_BY_KEY, message=message, until=until, ahead=group.ahead)


def _jobs(number: int) -> str:
    return "job" if number == 1 else "jobs"


def _delay(job: JobFacts, queue: QueueFacts) -> Hindrance:
    if job.run_at <= queue.now:
        return Hindrance(reason=Reason.NEXT, message="it is due, and becomes waiting within seconds", until=job.run_at)
    when = _clock(job.run_at)
    match job.last:
        case None:
            return Hindrance(reason=Reason.SCHEDULED, message=f"it is scheduled for {when}", until=job.run_at)
        case "snoozed":
            return Hindrance(reason=Reason.SNOOZED, message=f"it was told to rest until {when}", until=job.run_at)
        case _:
            message = f"it failed and is tried again at {when}"
            return Hindrance(reason=Reason.BACK_OFF, message=message, until=job.run_at)


def _outlasts(found: Hindrance, run_at: datetime) -> bool:
    """Will it still be there when the job is due? Busy slots and a used-up limit tell nothing of that time."""
    if found.reason is Reason.PAUSED:
        return found.until is None or found.until > run_at
    return found.reason is Reason.NO_WORKER


def _ahead(number: int) -> str:
    if number >= AHEAD_MAX:
        return f"{AHEAD_MAX} or more jobs start before it"
    return "1 job starts before it" if number == 1 else f"{number} jobs start before it"


def _clock(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


class Waiting:
    """Reads the facts."""

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self._pool = pool

    async def of_queue(self, status: QueueStatus, replicas: Sequence[Replica]) -> list[Hindrance]:
        return why_queue(await self._facts(status, replicas))

    async def of_job(self, job: JobRecord, status: QueueStatus, replicas: Sequence[Replica]) -> list[Hindrance]:
        """``status``: of the job's queue."""
        waits = job.state is JobState.WAITING and not job.blocked
        ahead = await self._pool.fetchval(SQL["jobs_ahead"], job.id, AHEAD_MAX) if waits else 0
        last = job.errors[-1].kind if job.errors else None
        group = await self._group(job, status.policy)
        facts = JobFacts(state=job.state, run_at=job.run_at, last=last, ahead=ahead, group=group)
        return why_job(facts, await self._facts(status, replicas))

    async def _group(self, job: JobRecord, policy: QueuePolicy) -> GroupFacts | None:
        if job.group is None or not job.blocked:
            return None
        rate = policy.group_rate
        row = await self._pool.fetchrow(SQL["group_facts"], job.id, rate.duration_ms if rate else None, AHEAD_MAX)
        if row is None:  # it is gone
            return None
        return GroupFacts(name=job.group, concurrency=policy.group_concurrency, rate=rate, **dict(row))

    async def _facts(self, status: QueueStatus, replicas: Sequence[Replica]) -> QueueFacts:
        rate = status.policy.rate
        limit = (rate.max, rate.duration_ms) if rate else (None, None)
        row = await self._pool.fetchrow(SQL["waiting_facts"], status.name, *limit)
        if row is None:
            raise LookupError(f"queue {status.name!r} has no row: no replica that declares it has started")
        slots = sum(replica.slots[status.name]["slots"] for replica in replicas if takes_jobs(replica, status.name))
        return QueueFacts(waiting=status.counts.waiting, active=status.counts.active, slots=slots, **dict(row))


def takes_jobs(replica: Replica, queue: str) -> bool:
    return queue in replica.slots and not replica.draining
