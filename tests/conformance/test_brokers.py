"""One suite for both brokers: what a queue promises holds with Redis and without (invariants B, D, E, F, H)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.jobs import attempt
from gateway.jobs.errors import Cancel, DuplicateJob, Fail, Retry, Snooze, WrongState
from gateway.jobs.job import Inserted, JobState, NewJob
from gateway.jobs.policy import StallPolicy
from gateway.jobs.unique import OnConflict, Unique
from tests.support.engine import QUEUE, TASK, Replica, Script, policy, rate, replica
from tests.support.eventually import eventually

Pool = asyncpg.Pool


class Make(Protocol):
    async def __call__(self, **options: Any) -> Replica: ...


@pytest.fixture(params=["queue", "direct"])
async def make(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[Make]:
    """Start replicas on one ledger, in queue mode or in direct mode."""
    url = request.getfixturevalue("redis_url") if request.param == "queue" else None
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Replica:
            made = await stack.enter_async_context(replica(pool, url, patience_s=5, **options))
            assert made.engine.mode == request.param
            return made

        yield start


async def test_a_job_runs_once_and_its_result_is_kept(make: Make) -> None:
    async def answer(args: dict[str, Any], _context: object) -> dict[str, Any]:
        return {"doubled": args["n"] * 2}

    one = await make(script=Script(behave=answer))
    await one.work()
    job_id = await one.submit(21)
    await eventually(lambda: one.settled("completed"))
    job = await one.engine.get(job_id)
    assert (job.state, job.result, job.attempts, job.error) == (JobState.COMPLETED, {"doubled": 42}, 1, None)
    assert one.script.names == [21]


async def test_E_priority_10_starts_first_and_equal_ones_in_order_of_arrival(make: Make) -> None:
    one = await make(queue=policy(concurrency=1))
    for n, priority in enumerate([0, 5, 10, 0, 10, 5]):
        await one.submit(n, priority=priority)
    await one.work()
    await eventually(lambda: len(one.settled("completed")) == 6)
    assert one.script.names == [2, 4, 1, 5, 0, 3]


async def test_E_a_late_priority_10_overtakes_a_backlog(make: Make) -> None:
    gate = asyncio.Event()

    async def hold_first(args: dict[str, Any], _context: object) -> None:
        if args["n"] == "first":
            await gate.wait()

    one = await make(queue=policy(concurrency=1), script=Script(behave=hold_first))
    await one.work()
    await one.submit("first")
    await eventually(lambda: one.script.names == ["first"])
    for n in range(20):
        await one.submit(n)
    await one.submit("urgent", priority=10)
    gate.set()
    await eventually(lambda: len(one.script.names) > 2)
    assert one.script.names[1] == "urgent"


async def test_jobs_are_shared_between_replicas_and_none_runs_twice(make: Make) -> None:
    script = Script()
    one = await make(script=script)
    two = await make(script=script, name="replica-2")
    await asyncio.gather(one.work(), two.work())
    jobs = [NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}) for n in range(300)]
    await asyncio.gather(*(one.engine.submit_many(jobs[start : start + 30]) for start in range(0, 300, 30)))
    await eventually(lambda: len(one.settled("completed")) + len(two.settled("completed")) == 300)
    assert Counter(script.names) == Counter(range(300))


async def test_D_a_rate_limit_holds_over_two_replicas(make: Make, pool: Pool) -> None:
    limited = policy(rate=rate(10, 400))
    script = Script()
    one = await make(queue=limited, script=script)
    two = await make(queue=limited, script=script, name="replica-2")
    await one.engine.submit_many([NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}) for n in range(45)])
    await asyncio.gather(one.work(), two.work())
    await eventually(lambda: len(script.started) == 45, timeout=20)
    starts = [row[0] for row in await pool.fetch("SELECT claimed_at FROM jobs ORDER BY claimed_at")]
    for first, eleventh in zip(starts, starts[10:], strict=False):
        assert eleventh - first >= timedelta(milliseconds=400), "more than 10 starts within 400 ms"
    waits = sorted(eleventh - first for first, eleventh in zip(starts, starts[10:], strict=False))
    assert waits[len(waits) // 4] < timedelta(milliseconds=800), "the limit starves the queue"


async def test_a_delayed_job_starts_when_due_and_not_before(make: Make, pool: Pool) -> None:
    one = await make()
    due = datetime.now(UTC) + timedelta(seconds=2)
    job_id = await one.submit(1, run_at=due)
    assert (await one.engine.get(job_id)).state is JobState.DELAYED
    await one.maintenance.start()
    await one.work()
    await eventually(lambda: one.settled("completed"))
    job = await one.engine.get(job_id)
    assert job.claimed_at is not None
    assert job.claimed_at >= due


async def test_a_date_in_the_past_is_now(make: Make) -> None:
    one = await make()
    await one.work()
    await one.submit(1, run_at=datetime.now(UTC) - timedelta(days=1))
    await eventually(lambda: one.settled("completed"))


async def test_F_failures_back_off_60_then_120_seconds_and_the_third_is_final(make: Make, pool: Pool) -> None:
    async def fail(_args: dict[str, Any], _context: object) -> None:
        raise RuntimeError("no luck")

    one = await make(script=Script(behave=fail))
    await one.work()
    job_id = await one.submit(1)
    for failures, delay in ((1, 60), (2, 120)):
        await eventually(lambda failures=failures: len(one.settled("error")) == failures)
        job = await one.engine.get(job_id)
        assert (job.state, job.attempts) == (JobState.DELAYED, failures)
        wait = await pool.fetchval("SELECT extract(epoch FROM run_at - now()) FROM jobs WHERE id = $1", job_id)
        assert delay - 5 < wait <= delay * 1.1
        await pool.execute("UPDATE jobs SET run_at = now() WHERE id = $1", job_id)
        await one.keeper.promote()
    await eventually(lambda: len(one.settled("error")) == 3)
    job = await one.engine.get(job_id)
    assert (job.state, job.attempts, job.error) == (JobState.FAILED, 3, "RuntimeError: no luck")
    assert [entry.attempt for entry in job.errors] == [1, 2, 3]


async def test_fail_is_final_at_once(make: Make) -> None:
    async def refuse(_args: dict[str, Any], _context: object) -> None:
        raise Fail("550 no such user")

    one = await make(script=Script(behave=refuse))
    await one.work()
    job_id = await one.submit(1)
    await eventually(lambda: one.settled("fail"))
    job = await one.engine.get(job_id)
    assert (job.state, job.attempts, job.error) == (JobState.FAILED, 1, "550 no such user")


async def test_retry_may_name_its_own_delay(make: Make) -> None:
    async def once(_args: dict[str, Any], context: Any) -> str:
        if context.job.attempt == 1:
            raise Retry("busy", after_s=0.05, uncertain=True)
        return "done"

    one = await make(script=Script(behave=once), maintain=True)
    await one.work()
    job_id = await one.submit(1)
    await eventually(lambda: one.settled("completed"))
    job = await one.engine.get(job_id)
    assert job.attempts == 2
    assert [(entry.kind, entry.uncertain) for entry in job.errors] == [("error", True)]


async def test_F_a_snooze_costs_nothing_and_may_pause_the_queue(make: Make) -> None:
    async def rest(_args: dict[str, Any], context: Any) -> str:
        if context.job.fence == 1:
            raise Snooze("421 too busy", after_s=2.5, pause_queue=True)
        return "done"

    one = await make(script=Script(behave=rest), maintain=True, queue=policy(concurrency=1))
    await one.work()
    job_id = await one.submit(1)
    await eventually(lambda: one.settled("snoozed"))
    status = await one.engine.queue_status(QUEUE)
    assert (status.paused, status.pause_reason) == (True, "421 too busy")
    await eventually(lambda: one.settled("completed"))
    assert (await one.engine.get(job_id)).attempts == 1


async def test_cancel_from_inside_ends_the_job(make: Make) -> None:
    async def unwanted(_args: dict[str, Any], _context: object) -> None:
        raise Cancel("the order was withdrawn")

    one = await make(script=Script(behave=unwanted))
    await one.work()
    job_id = await one.submit(1)
    await eventually(lambda: one.settled("cancelled"))
    assert (await one.engine.get(job_id)).state is JobState.CANCELLED


async def test_a_time_limit_cuts_an_attempt(make: Make) -> None:
    async def hang(_args: dict[str, Any], _context: object) -> None:
        await asyncio.Event().wait()

    one = await make(queue=policy(timeout_s=0.1), script=Script(behave=hang))
    await one.work()
    job_id = await one.submit(1)
    await eventually(lambda: one.settled("timeout"))
    job = await one.engine.get(job_id)
    assert (job.state, job.errors[0].kind) == (JobState.DELAYED, "timeout")


async def test_pause_holds_and_resume_frees(make: Make) -> None:
    one = await make()
    await one.work()
    await one.engine.pause(QUEUE, reason="provider is down")
    job_id = await one.submit(1)
    status = await one.engine.queue_status(QUEUE)
    assert (status.paused, status.pause_reason, status.counts.waiting) == (True, "provider is down", 1)
    await eventually(lambda: one.dispatcher.mode in ("queue", "direct"))
    assert (await one.engine.get(job_id)).state is JobState.WAITING
    await one.engine.resume(QUEUE)
    await eventually(lambda: one.settled("completed"), timeout=5)


async def test_cancelled_and_rescheduled_jobs(make: Make) -> None:
    one = await make()
    later = datetime.now(UTC) + timedelta(hours=1)
    job_id = await one.submit(1, run_at=later)
    moved = await one.engine.reschedule(job_id, later + timedelta(hours=1))
    assert moved.run_at == later + timedelta(hours=1)
    assert (await one.engine.cancel(job_id, "changed my mind")).state is JobState.CANCELLED
    with pytest.raises(WrongState):
        await one.engine.cancel(job_id, "again")
    await one.work()
    await one.submit(2)
    await eventually(lambda: one.settled("completed"))
    assert one.script.names == [2]


async def test_a_running_job_is_cancelled_and_its_cause_recorded(make: Make) -> None:
    ended = asyncio.Event()

    async def hang(_args: dict[str, Any], _context: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    one = await make(script=Script(behave=hang))
    await one.work()
    job_id = await one.submit(1)
    await eventually(lambda: one.script.started)
    with pytest.raises(WrongState):
        await one.engine.cancel(job_id, "only what has not started")
    await one.engine.cancel_running(job_id, "the order was withdrawn")
    await asyncio.wait_for(ended.wait(), 15)
    await eventually(lambda: one.settled("cancelled"))
    job = await one.engine.get(job_id)
    assert (job.state, job.error) == (JobState.CANCELLED, "the order was withdrawn")
    with pytest.raises(WrongState):
        await one.engine.cancel_running(job_id, "again")


async def test_a_job_that_fails_after_its_cancellation_was_asked_for_is_not_tried_again(make: Make, pool: Pool) -> None:
    go_on = asyncio.Event()

    async def fail(_args: dict[str, Any], context: Any) -> None:
        context.irrevocable()
        await go_on.wait()
        raise Retry("later")

    one = await make(script=Script(behave=fail))
    await one.work()
    job_id = await one.submit(1)
    await eventually(lambda: one.script.started)
    await one.engine.cancel_running(job_id, "not wanted")
    go_on.set()
    await eventually(lambda: one.settled("error"))
    job = await one.engine.get(job_id)
    assert (job.state, job.error, job.finished_at is not None) == (JobState.CANCELLED, "not wanted", True)


async def test_a_task_that_ignores_cancellation_costs_its_slot_only_the_grace(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "CANCEL_GRACE_S", 0.2)
    release = asyncio.Event()

    async def stubborn(args: dict[str, Any], _context: object) -> None:
        while args["n"] == "stubborn" and not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    one = await make(queue=policy(concurrency=1, timeout_s=0.2), script=Script(behave=stubborn))
    await one.work()
    job_id = await one.submit("stubborn")
    await one.submit("neighbour")
    await eventually(lambda: one.settled("completed"))
    assert one.script.names == ["stubborn", "neighbour"]
    assert (await one.engine.get(job_id)).errors[0].kind == "timeout"
    release.set()


async def test_retry_of_failed_jobs_one_and_all(make: Make) -> None:
    broken = True

    async def fail(_args: dict[str, Any], _context: object) -> None:
        if broken:
            raise Fail("broken")

    one = await make(script=Script(behave=fail))
    await one.work()
    ids = [await one.submit(n) for n in range(3)]
    await eventually(lambda: len(one.settled("fail")) == 3)
    broken = False
    await one.engine.retry(ids[0])
    await eventually(lambda: len(one.settled("completed")) == 1)
    with pytest.raises(WrongState):
        await one.engine.retry(ids[0])
    assert await one.engine.retry_all_failed(QUEUE) == 2
    await eventually(lambda: len(one.settled("completed")) == 3)
    job = await one.engine.get(ids[0])
    assert (job.attempts, len(job.errors)) == (1, 1)


async def test_a_dedupe_key_belongs_to_one_open_job(make: Make) -> None:
    one = await make()
    first = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={}, dedupe_key="batch:7")
    second = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={}, dedupe_key="batch:7")
    assert not (await one.engine.submit(first)).duplicate
    answer = await one.engine.submit(second)
    assert (answer.duplicate, answer.id) == (True, first.id)
    await one.work()
    await eventually(lambda: one.settled("completed"))
    assert not (await one.engine.submit(second)).duplicate


async def test_unique_jobs_keep_the_first_reject_or_replace(make: Make, pool: Pool) -> None:
    one = await make()

    def job(n: int) -> NewJob:
        return NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}, dedupe_key="batch:7")

    first = await one.engine.submit_unique(job(1), Unique(on_conflict=OnConflict.REPLACE))
    kept = await one.engine.submit_unique(job(2), Unique(on_conflict=OnConflict.KEEP_FIRST))
    assert (kept.duplicate, kept.id) == (True, first.id)
    with pytest.raises(DuplicateJob):
        await one.engine.submit_unique(job(3), Unique(on_conflict=OnConflict.REJECT))
    second = await one.engine.submit_unique(job(4), Unique(on_conflict=OnConflict.REPLACE))
    assert (await one.engine.get(first.id)).state is JobState.CANCELLED
    assert (await one.engine.get(first.id)).error == f"replaced by {second.id}"
    await one.work()
    await eventually(lambda: one.settled("completed"))
    assert one.script.names == [4]


async def test_a_key_is_taken_for_its_window_after_the_job_has_ended(make: Make, pool: Pool) -> None:
    one = await make()
    await one.work()
    hour = Unique(on_conflict=OnConflict.REJECT, window_s=3600)
    first = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": 1}, dedupe_key="daily")
    await one.engine.submit_unique(first, hour)
    await eventually(lambda: one.settled("completed"))
    again = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": 2}, dedupe_key="daily")
    with pytest.raises(DuplicateJob):
        await one.engine.submit_unique(again, hour)
    await pool.execute("UPDATE jobs SET created_at = now() - interval '2 hours'")
    await one.engine.submit_unique(again, hour)
    await eventually(lambda: one.script.names == [1, 2])


async def test_of_two_unique_jobs_at_the_same_moment_one_is_the_second(make: Make) -> None:
    one = await make()
    jobs = [NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}, dedupe_key="same") for n in range(8)]
    answers = await asyncio.gather(*(one.engine.submit_unique(job, Unique()) for job in jobs))
    assert sum(not answer.duplicate for answer in answers) == 1
    assert len({answer.id for answer in answers}) == 1


async def test_submits_of_one_moment_share_a_commit_and_not_their_mistakes(make: Make, pool: Pool) -> None:
    one = await make()
    jobs = [NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}) for n in range(40)]
    jobs[7] = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": "a\x00b"})
    jobs[20] = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": 20}, dedupe_key="same")
    jobs[30] = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": 30}, dedupe_key="same")
    answers = await asyncio.gather(*(one.engine.submit(job) for job in jobs), return_exceptions=True)
    assert [n for n, answer in enumerate(answers) if isinstance(answer, BaseException)] == [7]
    assert isinstance(answers[30], Inserted)
    assert (answers[30].duplicate, answers[30].id) == (True, jobs[20].id)
    commits = await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM jobs")
    assert commits < 15, "each job had a commit of its own"
    await one.work()
    await eventually(lambda: len(one.settled("completed")) == 38)


async def test_F_a_vanished_holder_is_a_stall_and_the_second_one_fails_the_job(make: Make, pool: Pool) -> None:
    one = await make(stalls=StallPolicy(lease_ms=30_000))
    job_id = await one.submit(1)
    claim_by_ghost = await one.dispatcher.fetch(policy(), 1)
    assert [job.id for job in claim_by_ghost.jobs] == [job_id]
    await pool.execute("UPDATE jobs SET lease_until = now() - interval '1 s'")
    await one.keeper.rescue(StallPolicy())
    job = await one.engine.get(job_id)
    assert (job.state, job.stalls, job.attempts) == (JobState.WAITING, 1, 0)
    assert (await one.dispatcher.fetch(policy(), 1)).jobs[0].fence == 2
    await pool.execute("UPDATE jobs SET lease_until = now() - interval '1 s'")
    await one.keeper.rescue(StallPolicy())
    job = await one.engine.get(job_id)
    assert (job.state, job.stalls, job.attempts) == (JobState.FAILED, 2, 0)
    assert [entry.kind for entry in job.errors] == ["stalled", "stalled"]


async def test_B_a_stale_holder_settles_nothing_and_its_task_is_cancelled(make: Make, pool: Pool) -> None:
    ended = asyncio.Event()

    async def hang(_args: dict[str, Any], _context: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    one = await make(script=Script(behave=hang))
    await one.work()
    job_id = await one.submit(1)
    await eventually(lambda: one.script.started)
    await pool.execute("UPDATE jobs SET lease_until = now() - interval '1 s'")
    await one.keeper.rescue(StallPolicy())
    assert one.script.contexts[0].still_held()
    await one.leases.renew()
    await asyncio.wait_for(ended.wait(), 5)
    await eventually(lambda: one.settled("lost"))
    assert not one.script.contexts[0].still_held()
    job = await one.engine.get(job_id)
    assert (job.stalls, job.result) == (1, None)


async def test_G_a_drain_finishes_what_runs_and_hands_the_rest_back_uncounted(make: Make) -> None:
    finish = asyncio.Event()

    async def behave(args: dict[str, Any], _context: object) -> str:
        await (finish.wait() if args["n"] == "short" else asyncio.Event().wait())
        return "done"

    one = await make(queue=policy(concurrency=2), script=Script(behave=behave))
    await one.work()
    short = await one.submit("short")
    endless = await one.submit("endless")
    await eventually(lambda: len(one.script.started) == 2)
    waiting = await one.submit("waiting")
    drain = asyncio.create_task(one.workers[0].drain(0.5))
    finish.set()
    await drain
    assert (await one.engine.get(short)).state is JobState.COMPLETED
    job = await one.engine.get(endless)
    assert (job.state, job.attempts, job.errors[0].kind) == (JobState.WAITING, 0, "interrupted")
    assert (await one.engine.get(waiting)).state is JobState.WAITING
    two = await make(queue=policy(concurrency=2), name="replica-2")
    await two.work()
    await eventually(lambda: len(two.settled("completed")) == 2)


async def test_counts_are_exact_and_survive_folding(make: Make, pool: Pool) -> None:
    one = await make()
    for n in range(7):
        await one.submit(n)
    await one.submit("later", run_at=datetime.now(UTC) + timedelta(hours=1))
    for _ in range(2):
        counts = await one.engine.counts(QUEUE)
        assert (counts.waiting, counts.delayed, counts.active, counts.completed) == (7, 1, 0, 0)
        await one.store.fold_counts()
    await one.work()
    await eventually(lambda: len(one.settled("completed")) == 7)
    counts = await one.engine.counts(QUEUE)
    assert (counts.waiting, counts.delayed, counts.active, counts.completed) == (0, 1, 0, 7)


async def test_a_result_with_nul_or_without_json_form_is_contained(make: Make) -> None:
    async def odd(args: dict[str, Any], _context: object) -> object:
        return {"text": "a\x00b"} if args["n"] == "nul" else object()

    one = await make(script=Script(behave=odd), queue=policy(attempts=1))
    await one.work()
    nul, unwritable = await one.submit("nul"), await one.submit("object")
    await eventually(lambda: one.settled("completed") and one.settled("error"))
    assert (await one.engine.get(nul)).result == {"text": "a\ufffdb"}
    job = await one.engine.get(unwritable)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert "object" in job.error
