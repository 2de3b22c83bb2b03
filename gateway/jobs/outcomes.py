"""How the end of an attempt becomes the job's next state. Pure.

Document 003's promises in one place: three attempts, back-off from the first delay doubled, at most 10 % jitter; what
is not the task's failure costs nothing (invariant F).
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from gateway.infra.log import without_secrets
from gateway.infra.postgres import storable_text
from gateway.jobs.errors import Cancel, Fail, Retry, Snooze
from gateway.jobs.job import AttemptError, ClaimedJob, JobState
from gateway.jobs.policy import QueuePolicy, backoff_s
from gateway.jobs.store import Settlement

_MAX_ERROR = 4000  # characters kept of one attempt's error: enough for a reason and the end of a traceback


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """``kind`` as in ``events.JobSettled``; ``pause_s``: the queue shall rest as long (a provider asked for it)."""

    kind: str
    settlement: Settlement
    error: str | None = None
    pause_s: float | None = None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What an ending needs from outside: the time, a random number in [0, 1], and who ran the attempt."""

    now: datetime
    jitter: float
    worker: str


class Cause(msgspec.Struct, frozen=True):
    """Why an attempt did not complete. ``after_s`` replaces the back-off; ``uncertain``: the work may be done."""

    kind: str
    reason: str
    after_s: float | None = None
    uncertain: bool = False


def completed(job: ClaimedJob, result: str) -> Ended:
    settlement = Settlement(id=job.id, fence=job.fence, state=JobState.COMPLETED, result=result)
    return Ended(kind="completed", settlement=settlement)


def interrupted(job: ClaimedJob, moment: Moment, reason: str) -> Ended:
    """Handed back: ready at once for another replica, at the head of its priority, the attempt not counted."""
    return _ended(job, moment, Cause("interrupted", reason), JobState.WAITING, refund=True)


def not_begun(ended: Ended) -> Ended:
    """The same, of an attempt whose task was never started: the job keeps its deadline."""
    return msgspec.structs.replace(ended, settlement=msgspec.structs.replace(ended.settlement, begun=False))


def signalled(job: ClaimedJob, policy: QueuePolicy, moment: Moment, signal: Exception) -> Ended:
    """The attempt ended by one of the closed list of ``errors``, or by any other exception (an ordinary failure)."""
    match signal:
        case Snooze(reason=reason, after_s=after_s, pause_queue=pause_queue):
            if pause_queue:  # the pause is what holds it back: who resumes the queue early gets it at once
                ended = _ended(job, moment, Cause("snoozed", reason), JobState.WAITING, refund=True)
                return msgspec.structs.replace(ended, pause_s=after_s)
            return _ended(job, moment, Cause("snoozed", reason, after_s), JobState.DELAYED, refund=True)
        case Cancel(reason=reason):
            return _ended(job, moment, Cause("cancelled", reason), JobState.CANCELLED)
        case Fail(reason=reason):
            return _ended(job, moment, Cause("fail", reason), JobState.FAILED)
        case Retry(reason=reason, after_s=after_s, uncertain=uncertain):
            return failed(job, policy, moment, Cause("error", reason, after_s, uncertain))
        case _:
            return failed(job, policy, moment, Cause("error", f"{type(signal).__name__}: {signal}"))


def failed(job: ClaimedJob, policy: QueuePolicy, moment: Moment, cause: Cause) -> Ended:
    """A failure that costs its attempt: retried after the back-off while attempts are left, else final."""
    if job.attempt >= job.max_attempts:
        return _ended(job, moment, cause, JobState.FAILED)
    if cause.after_s is None:
        cause = msgspec.structs.replace(cause, after_s=backoff_s(policy.backoff_ms, job.attempt, moment.jitter))
    return _ended(job, moment, cause, JobState.DELAYED)


def _ended(job: ClaimedJob, moment: Moment, cause: Cause, state: JobState, *, refund: bool = False) -> Ended:
    settlement = Settlement(
        id=job.id,
        fence=job.fence,
        state=state,
        error=_clean(cause.reason),
        entry=_entry(job, moment, cause),
        delay_s=cause.after_s or 0.0,
        refund=refund,
    )
    return Ended(kind=cause.kind, settlement=settlement, error=cause.reason)


def _entry(job: ClaimedJob, moment: Moment, cause: Cause) -> str:
    entry = AttemptError(
        attempt=job.attempt,
        kind=cause.kind,
        error=_clean(cause.reason),
        at=moment.now,
        worker=moment.worker,
        uncertain=cause.uncertain,
        started_at=job.claimed_at,
    )
    return msgspec.json.encode(entry).decode()


def _clean(text: str) -> str:
    """An error's text must not keep its job from being settled. Who may read it may not know the secrets that libraries
    put into theirs."""
    return storable_text(without_secrets(text[:_MAX_ERROR]))
