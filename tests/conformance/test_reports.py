"""What running jobs report of themselves, progress and lines of a log, in both modes (O18, O19)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.jobs.errors import Fail, Retry
from gateway.jobs.events import Events, JobReported
from gateway.jobs.job import ClaimedJob, JobRecord, JobState, NewJob
from gateway.jobs.registry import Task, TaskContext
from gateway.jobs.report import ATTEMPTS_KEPT, LINE_MAX, LINES_KEPT, Report
from gateway.jobs.reporter import LINES_SHOWN, WRITE_EVERY_S, JobReport, Reporter
from tests.support.engine import QUEUE, Replica, policy, replica
from tests.support.eventually import eventually

Pool = asyncpg.Pool


@pytest.fixture(params=["queue", "direct"])
async def one(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[Replica]:
    url = request.getfixturevalue("redis_url") if request.param == "queue" else None
    async with replica(pool, url, queue=policy(concurrency=2, backoff_ms=1)) as made:
        yield made


def claimed(job: JobRecord, fence: int) -> ClaimedJob:
    return ClaimedJob(
        id=job.id,
        queue=job.queue,
        task=job.task,
        args=job.args,
        priority=job.priority,
        attempt=1,
        max_attempts=job.max_attempts,
        fence=fence,
        stalls=0,
        created_at=job.created_at,
        ready_at=job.run_at,
        claimed_at=job.run_at,
    )


async def has_state(one: Replica, job_id: Any, state: JobState) -> JobRecord:
    job = await one.engine.get(job_id)
    assert job.state is state, job
    return job


async def reported(one: Replica, job_id: Any, percent: int | None, lines: list[str]) -> JobReport:
    report = await one.inspector.report(job_id)
    assert report.progress is not None, report
    assert (report.progress.percent, [line.text for line in report.lines]) == (percent, lines)
    return report


async def test_what_a_job_reports_is_read_while_it_runs_and_after_it(one: Replica) -> None:
    go_on = asyncio.Event()

    async def behave(_args: dict[str, Any], context: TaskContext) -> str:
        await context.progress(45, "literature_search")
        context.log("12 sources found")
        await go_on.wait()
        context.log("written")
        await context.progress(100, "done")
        return "result"

    one.script.behave = behave
    job_id = await one.submit()
    await one.work()
    report = await eventually(lambda: reported(one, job_id, 45, ["12 sources found"]), 10)
    assert report.progress is not None
    assert (report.progress.stage, report.progress.attempt) == ("literature_search", 1)
    await has_state(one, job_id, JobState.ACTIVE)
    go_on.set()
    report = await eventually(lambda: reported(one, job_id, 100, ["12 sources found", "written"]), 10)
    await eventually(lambda: has_state(one, job_id, JobState.COMPLETED), 10)
    assert (report.dropped, [line.attempt for line in report.lines]) == (0, [1, 1])


async def test_however_often_a_task_reports_it_costs_few_commits(one: Replica) -> None:
    async def behave(_args: dict[str, Any], context: TaskContext) -> None:
        for number in range(1000):
            await context.progress(number / 10, f"part {number}")

    one.script.behave = behave
    job_id = await one.submit()
    began = time.monotonic()
    await one.work()
    await eventually(lambda: reported(one, job_id, 99, []), 10)
    writes = await eventually(lambda: len([event for event in one.events if isinstance(event, JobReported)]))
    assert writes <= 2 + (time.monotonic() - began) / WRITE_EVERY_S


async def test_a_job_that_reports_nothing_leaves_nothing(one: Replica, pool: Pool) -> None:
    job_id = await one.submit()
    await one.work()
    await eventually(lambda: has_state(one, job_id, JobState.COMPLETED), 10)
    assert await one.inspector.report(job_id) == JobReport(progress=None, lines=[], dropped=0)
    assert await pool.fetchval("SELECT count(*) FROM job_reports") == 0
    assert not [event for event in one.events if isinstance(event, JobReported)]


async def test_each_attempt_keeps_its_own_report(one: Replica) -> None:
    async def behave(_args: dict[str, Any], context: TaskContext) -> None:
        attempt = context.job.attempt
        context.log(f"try {attempt}")
        if attempt == 1:
            await context.progress(80, "far")
            raise Retry("not yet")
        raise Fail("never")

    one.script.behave = behave
    job_id = await one.submit(max_attempts=3)
    await one.maintenance.start()
    await one.work()
    report = await eventually(lambda: reported(one, job_id, 80, ["try 1", "try 2"]), 10)
    assert [line.attempt for line in report.lines] == [1, 2]
    assert report.progress is not None
    assert report.progress.attempt == 1


async def test_lines_are_bounded_and_what_is_missing_is_said(one: Replica) -> None:
    async def behave(_args: dict[str, Any], context: TaskContext) -> None:
        for number in range(LINES_KEPT + 50):
            context.log(f"line {number}")
        context.log("x" * (LINE_MAX + 7))
        await context.progress(1)

    one.script.behave = behave
    job_id = await one.submit()
    await one.work()

    async def there() -> JobReport:
        report = await one.inspector.report(job_id)
        assert len(report.lines) == LINES_KEPT
        return report

    report = await eventually(there, 10)
    assert report.dropped == 51
    assert report.lines[0].text == "line 51"
    assert report.lines[-1].text == "x" * LINE_MAX + "… (7 more characters)"


@pytest.mark.parametrize(("succeeds", "rows"), [(True, 0), (False, 1)], ids=["completed", "failed"])
async def test_short_attempts_of_frequent_tasks_leave_a_report_only_if_they_do_not_complete(
    one: Replica, pool: Pool, succeeds: bool, rows: int
) -> None:
    async def perform(_args: dict[str, Any], context: TaskContext) -> None:
        await context.progress(1, "sends")
        context.log("sent")
        if not succeeds:
            raise Fail("550")

    one.engine.registry.add_task(Task("test.frequent", QUEUE, dict, perform, report_after_s=60))
    job = NewJob(id=uuid7(), queue=QUEUE, task="test.frequent", args={})
    await one.engine.submit(job)
    await one.work()
    await eventually(lambda: has_state(one, job.id, JobState.COMPLETED if succeeds else JobState.FAILED), 10)
    await eventually(lambda: one.settled("completed" if succeeds else "fail"), 10)
    await one.reporter.stop()  # writes what is left
    assert await pool.fetchval("SELECT count(*) FROM job_reports") == rows
    assert await pool.fetchval("SELECT count(*) FROM job_log_lines") == rows


async def test_secrets_are_masked_and_no_text_is_refused(one: Replica) -> None:
    async def behave(_args: dict[str, Any], context: TaskContext) -> None:
        context.log("connects to postgres://user:hunter2@db/app\x00 \ud800")
        await context.progress(None, "with Bearer abcdefghijkl")

    one.script.behave = behave
    job_id = await one.submit()
    await one.work()
    report = await eventually(
        lambda: reported(one, job_id, None, ["connects to postgres://user:•••@db/app\ufffd ?"]), 10
    )
    assert report.progress is not None
    assert report.progress.stage == "with Bearer •••"


async def test_an_attempt_that_lost_its_job_writes_over_nobody(one: Replica, pool: Pool) -> None:
    """It reports once it holds the job no more; the new holder's report stays, and of the old one nothing comes."""
    told: list[ClaimedJob] = []
    go_on = asyncio.Event()

    async def behave(_args: dict[str, Any], context: TaskContext) -> None:
        told.append(context.job)
        await context.progress(10, "mine")
        await go_on.wait()

    one.script.behave = behave
    job_id = await one.submit()
    await one.work()
    await eventually(lambda: reported(one, job_id, 10, []), 10)
    await pool.execute("UPDATE jobs SET fence = fence + 1 WHERE id = $1", job_id)  # another replica claims it
    stale = Report(told[0])
    stale.reach(99, "stale")
    stale.log("stale")
    other = Reporter(pool, Events())
    other.changed(stale)
    await other.stop()  # writes what is left
    await reported(one, job_id, 10, [])
    go_on.set()


async def test_what_an_attempt_said_last_is_written_although_the_next_one_has_begun(one: Replica, pool: Pool) -> None:
    job_id = await one.submit()
    await pool.execute("UPDATE jobs SET fence = 3 WHERE id = $1", job_id)
    report = Report(claimed(await one.engine.get(job_id), fence=2))
    report.log("my last word")
    report.reach(50, None)
    other = Reporter(pool, Events())
    other.close(report, held=True, needless=False)
    await other.stop()
    await reported(one, job_id, 50, ["my last word"])


async def test_an_attempt_that_ends_while_its_first_report_is_written_does_not_stay_in_the_middle(
    one: Replica, pool: Pool
) -> None:
    job_id = await one.submit()
    report = Report(claimed(await one.engine.get(job_id), fence=0))
    report.reach(10, "connects")
    other = Reporter(pool, Events())
    async with pool.acquire() as connection, connection.transaction():  # the write waits for it
        await connection.execute("SELECT FROM jobs WHERE id = $1 FOR UPDATE", job_id)
        other.changed(report)
        await other.start()
        await eventually(lambda: is_waited_for(pool), 10)
        report.reach(100, "done")
        other.close(report, held=True, needless=True)
    await eventually(lambda: reported(one, job_id, 100, []), 10)
    await other.stop()


async def is_waited_for(pool: Pool) -> bool:
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await pool.fetchval(f"SELECT EXISTS ({waiting})"))


async def test_of_a_job_with_many_attempts_the_newest_reports_are_kept(one: Replica, pool: Pool) -> None:
    job_id = await one.submit()
    for fence in range(1, ATTEMPTS_KEPT + 4):
        await pool.execute("UPDATE jobs SET fence = $2 WHERE id = $1", job_id, fence)
        report = Report(claimed(await one.engine.get(job_id), fence=fence))
        report.log(f"attempt {fence}")
        other = Reporter(pool, Events())
        other.changed(report)
        await other.stop()
    lines = (await one.inspector.report(job_id)).lines
    assert [line.text for line in lines] == [f"attempt {fence}" for fence in range(4, ATTEMPTS_KEPT + 4)]
    assert await pool.fetchval("SELECT count(*) FROM job_log_lines") == ATTEMPTS_KEPT <= LINES_SHOWN


async def test_reports_go_with_their_job(one: Replica, pool: Pool) -> None:
    async def behave(_args: dict[str, Any], context: TaskContext) -> None:
        context.log("here")
        await context.progress(5)

    one.script.behave = behave
    job_id = await one.submit()
    await one.work()
    await eventually(lambda: reported(one, job_id, 5, ["here"]), 10)
    await eventually(lambda: has_state(one, job_id, JobState.COMPLETED), 10)
    await pool.execute("UPDATE jobs SET finished_at = now() - interval '1 hour' WHERE id = $1", job_id)
    assert await eventually(lambda: one.store.prune_by_age(policy().name, JobState.COMPLETED, 60)) == 1
    assert await pool.fetchval("SELECT count(*) FROM job_reports") == 0
    assert await pool.fetchval("SELECT count(*) FROM job_log_lines") == 0
