"""How the end of an attempt becomes the job's next state. Pure.

Document 003's promises in one place: three attempts, back-off from the first delay doubled, at most 10 % jitter; what is
not the task's failure costs nothing (invariant F).
"""

from __future__ import annotations

from datetime import datetime

import msgspec

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


def completed(job: ClaimedJob, result: str) -> Ended:
    return Ended(
        kind="completed",
        settlement=Settlement(id=job.id, fence=job.fence, state=JobState.COMPLETED, result=result),
    )


def interrupted(job: ClaimedJob, moment: Moment, reason: str) -> Ended:
    """Handed back: ready at once for another replica, at the head of its priority, the attempt not counted."""
    return _uncounted(job, moment, "interrupted", reason, JobState.WAITING, 0.0)


def signalled(job: ClaimedJob, policy: QueuePolicy, moment: Moment, signal: Exception) -> Ended:
    """The attempt ended by one of the closed list of ``errors``, or by any other exception (an ordinary failure)."""
    match signal:
        case Snooze(reason=reason, after_s=after_s, pause_queue=pause_queue):
            ended = _uncounted(job, moment, "snoozed", reason, JobState.DELAYED, after_s)
            return msgspec.structs.replace(ended, pause_s=after_s) if pause_queue else ended
        case Cancel(reason=reason):
            return _final(job, moment, "cancelled", reason, JobState.CANCELLED)
        case Fail(reason=reason):
            return _final(job, moment, "fail", reason, JobState.FAILED)
        case Retry(reason=reason, after_s=after_s, uncertain=uncertain):
            return failed(job, policy, moment, "error", reason, after_s=after_s, uncertain=uncertain)
        case _:
            return failed(job, policy, moment, "error", f"{type(signal).__name__}: {signal}")


def failed(
    job: ClaimedJob,
    policy: QueuePolicy,
    moment: Moment,
    kind: str,
    reason: str,
    *,
    after_s: float | None = None,
    uncertain: bool = False,
) -> Ended:
    """A failure that costs its attempt: retried after the back-off while attempts are left, else final."""
    if job.attempt >= job.max_attempts:
        return _final(job, moment, kind, reason, JobState.FAILED, uncertain=uncertain)
    delay = backoff_s(policy.backoff_ms, job.attempt, moment.jitter) if after_s is None else after_s
    return Ended(
        kind=kind,
        error=reason,
        settlement=Settlement(
            id=job.id,
            fence=job.fence,
            state=JobState.DELAYED,
            error=_clean(reason),
            entry=_entry(job, moment, kind, reason, uncertain),
            delay_s=delay,
        ),
    )


def _final(
    job: ClaimedJob, moment: Moment, kind: str, reason: str, state: JobState, *, uncertain: bool = False
) -> Ended:
    return Ended(
        kind=kind,
        error=reason,
        settlement=Settlement(
            id=job.id,
            fence=job.fence,
            state=state,
            error=_clean(reason),
            entry=_entry(job, moment, kind, reason, uncertain),
        ),
    )


def _uncounted(
    job: ClaimedJob, moment: Moment, kind: str, reason: str, state: JobState, delay_s: float
) -> Ended:
    return Ended(
        kind=kind,
        error=reason,
        settlement=Settlement(
            id=job.id,
            fence=job.fence,
            state=state,
            error=_clean(reason),
            entry=_entry(job, moment, kind, reason, uncertain=False),
            delay_s=delay_s,
            refund=True,
        ),
    )


def _entry(job: ClaimedJob, moment: Moment, kind: str, reason: str, uncertain: bool) -> str:
    entry = AttemptError(
        attempt=job.attempt, kind=kind, error=_clean(reason), at=moment.now, worker=moment.worker, uncertain=uncertain
    )
    return msgspec.json.encode(entry).decode()


def _clean(text: str) -> str:
    """PostgreSQL stores neither NUL nor lone surrogates: an error text must never keep its own job from being settled."""
    return text[:_MAX_ERROR].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
