"""Why is it waiting: the decisions, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.jobs.job import JobState
from gateway.jobs.policy import RateLimit
from gateway.jobs.waiting import AHEAD_MAX, GroupFacts, JobFacts, QueueFacts, Reason, why_job, why_queue

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
SOON, LATER = NOW + timedelta(minutes=1), NOW + timedelta(hours=1)
PAUSED = {"paused_at": NOW - timedelta(minutes=5)}


def facts(**changes: Any) -> QueueFacts:
    return QueueFacts(**({"now": NOW, "waiting": 7, "active": 1, "slots": 5} | changes))


def job(state: JobState = JobState.WAITING, **changes: Any) -> JobFacts:
    return JobFacts(**({"state": state, "run_at": NOW} | changes))


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, [Reason.NEXT]),
        ({"waiting": 0}, [Reason.NOTHING_WAITS]),
        ({"waiting": 0, **PAUSED}, [Reason.NOTHING_WAITS]),
        (PAUSED, [Reason.PAUSED]),
        (PAUSED | {"paused_until": SOON}, [Reason.PAUSED]),
        (PAUSED | {"paused_until": NOW}, [Reason.NEXT]),
        ({"slots": 0}, [Reason.NO_WORKER]),
        ({"slots": 0, "active": 0}, [Reason.NO_WORKER]),
        ({"active": 5}, [Reason.BUSY]),
        ({"active": 6}, [Reason.BUSY]),
        ({"limited_until": SOON}, [Reason.LIMITED]),
        ({"limited_until": NOW}, [Reason.NEXT]),
        ({"slots": 0, "limited_until": SOON, **PAUSED}, [Reason.PAUSED, Reason.NO_WORKER, Reason.LIMITED]),
        ({"active": 5, "limited_until": SOON}, [Reason.BUSY, Reason.LIMITED]),
        ({"ready": False}, [Reason.BLOCKED_BY_KEY]),
        ({"ready": False, **PAUSED}, [Reason.PAUSED, Reason.BLOCKED_BY_KEY]),
    ],
)
def test_of_a_queue(changes: dict[str, Any], reasons: list[Reason]) -> None:
    assert [why.reason for why in why_queue(facts(**changes))] == reasons


@pytest.mark.parametrize(
    ("wanted", "queue", "reasons"),
    [
        (job(), {}, [Reason.NEXT]),
        (job(ahead=3), {}, [Reason.BEHIND]),
        (job(), PAUSED, [Reason.PAUSED]),
        (job(ahead=3), PAUSED | {"limited_until": SOON}, [Reason.PAUSED, Reason.LIMITED, Reason.BEHIND]),
        (job(), {"slots": 0, "waiting": 1}, [Reason.NO_WORKER]),
        (job(JobState.DELAYED, run_at=LATER), {}, [Reason.SCHEDULED]),
        (job(JobState.DELAYED, run_at=LATER, last="error"), {}, [Reason.BACK_OFF]),
        (job(JobState.DELAYED, run_at=LATER, last="timeout"), {}, [Reason.BACK_OFF]),
        (job(JobState.DELAYED, run_at=LATER, last="snoozed"), {}, [Reason.SNOOZED]),
        (job(JobState.DELAYED, run_at=NOW, last="error"), {}, [Reason.NEXT]),
        (job(JobState.DELAYED, run_at=LATER), {"active": 5, "limited_until": SOON}, [Reason.SCHEDULED]),
        (job(JobState.DELAYED, run_at=LATER), PAUSED, [Reason.SCHEDULED, Reason.PAUSED]),
        (job(JobState.DELAYED, run_at=LATER), PAUSED | {"paused_until": SOON}, [Reason.SCHEDULED]),
        (job(JobState.DELAYED, run_at=LATER), {"slots": 0}, [Reason.SCHEDULED, Reason.NO_WORKER]),
        (job(JobState.ACTIVE), PAUSED, []),
        (job(JobState.COMPLETED), {}, []),
        (job(JobState.FAILED), {}, []),
        (job(JobState.CANCELLED), {"slots": 0}, []),
    ],
)
def test_of_a_job(wanted: JobFacts, queue: dict[str, Any], reasons: list[Reason]) -> None:
    assert [why.reason for why in why_job(wanted, facts(**queue))] == reasons


def test_a_pause_is_told_with_its_times_and_its_reason() -> None:
    [why] = why_queue(facts(**PAUSED, paused_until=SOON, pause_reason="421 too busy"))
    assert (why.since, why.until) == (PAUSED["paused_at"], SOON)
    assert why.message == "the queue is paused until 2026-05-01T12:01:00Z: 421 too busy"
    [endless] = why_queue(facts(**PAUSED))
    assert (endless.until, endless.message) == (None, "the queue is paused until somebody resumes it")


@pytest.mark.parametrize(
    ("ahead", "message"),
    [
        (1, "1 job starts before it"),
        (2, "2 jobs start before it"),
        (AHEAD_MAX, "1000 or more jobs start before it"),
    ],
)
def test_the_place_in_the_line(ahead: int, message: str) -> None:
    [why] = why_job(job(ahead=ahead), facts())
    assert (why.ahead, why.message) == (ahead, message)


def group(**changes: Any) -> GroupFacts:
    nothing = {"running": 0, "ready": 0, "starts": 0, "opens_at": None, "ahead": 0, "concurrency": None, "rate": None}
    return GroupFacts(**({"name": "acme"} | nothing | changes))


@pytest.mark.parametrize(
    ("facts_of_group", "message"),
    [
        (group(running=1, concurrency=1), "1 job of its group 'acme' run, 0 are ready, limit 1"),
        (
            group(running=2, ready=1, concurrency=3, ahead=4),
            "2 jobs of its group 'acme' run, 1 are ready, limit 3; 4 jobs start before it in its group",
        ),
        (
            group(running=1, starts=5, opens_at=SOON, rate=RateLimit(5, 60_000)),
            "the rate limit of its group 'acme' is used up until 2026-05-01T12:01:00Z",
        ),
        (group(ready=5, rate=RateLimit(5, 60_000)), "the rate limit of its group 'acme' is used up"),
        (
            group(running=2, ready=18),
            "2 jobs of its group 'acme' run, 18 are ready, and then other groups have their turn",
        ),
        (group(), "the turn of its group 'acme' comes within a second"),
    ],
)
def test_a_blocked_job_names_what_its_group_waits_for(facts_of_group: GroupFacts, message: str) -> None:
    [why] = why_job(job(group=facts_of_group), facts())
    assert (why.reason, why.message, why.ahead) == (Reason.BLOCKED_BY_KEY, message, facts_of_group.ahead)


def test_back_off_and_schedule_name_their_time() -> None:
    [scheduled] = why_job(job(JobState.DELAYED, run_at=LATER), facts())
    [back_off] = why_job(job(JobState.DELAYED, run_at=LATER, last="error"), facts())
    assert scheduled.until == back_off.until == LATER
    assert scheduled.message == "it is scheduled for 2026-05-01T13:00:00Z"
    assert back_off.message == "it failed and is tried again at 2026-05-01T13:00:00Z"
