"""How queues went, by the minute, over all replicas; and the page that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from gateway.jobs.events import JobSettled, JobStalled
from gateway.jobs.history import BOUNDS, KEPT_S, History, quantile
from gateway.jobs.job import ClaimedJob, JobState
from gateway.web.dashboard.drawing import columns_of, lined, rounded_up, stacked
from tests.support.eventually import eventually
from tests.support.pages import PAGES, Dashboard, dashboard

EMAIL = "email-queue"


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Dashboard]:
    async with dashboard(database_url) as made:
        made.sign_in()
        yield made


def ended(kind: str, state: JobState | None, wait_s: float = 0.2, run_s: float = 2.0) -> JobSettled:
    now = datetime.now(UTC)
    job = ClaimedJob(
        id=uuid4(), queue=EMAIL, task="email.send", args={}, priority=0, attempt=1, max_attempts=3, fence=1, stalls=0,
        created_at=now, ready_at=now, claimed_at=now,
    )  # fmt: skip
    return JobSettled(job=job, kind=kind, state=state, wait_s=wait_s, run_s=run_s)


async def shown(history: History) -> dict[str, int]:
    """Of the last hour, in one sum: a minute may end while a test runs."""
    steps = (await history.steps([EMAIL], 3600, 60))[EMAIL]
    return {name: sum(getattr(step, name) for step in steps) for name in ("completed", "failed", "retried")} | {
        name: max(getattr(step, name) for step in steps) for name in ("waiting", "active", "delayed")
    }


async def test_replicas_add_to_the_same_minute(board: Dashboard) -> None:
    first, second = History(board.pool), History(board.pool)
    for history in (first, second):
        for _ in range(3):
            history.on_event(ended("completed", JobState.COMPLETED))
        history.on_event(ended("error", JobState.DELAYED))
        history.on_event(ended("fail", JobState.FAILED))
        history.on_event(ended("snoozed", JobState.DELAYED))  # nothing was tried
        history.on_event(ended("interrupted", JobState.WAITING))
        history.on_event(ended("lost", None))
        await history.add()
    assert await shown(first) == {"completed": 6, "failed": 2, "retried": 2, "waiting": 0, "active": 0, "delayed": 0}
    (times,) = {one.wait_p50 for one in await first.times(EMAIL, 3600, 3600)}
    assert times is not None
    assert 0.1 < times <= 0.25
    await first.add()  # nothing was seen since
    assert (await shown(first))["completed"] == 6


async def test_a_job_that_failed_because_its_processes_vanished_counts_as_failed(board: Dashboard) -> None:
    history = History(board.pool)
    for state in (JobState.WAITING, JobState.FAILED):
        history.on_event(JobStalled(job_id=str(uuid4()), queue=EMAIL, stalls=1, state=state, worker="a"))
    await history.add()
    seen = await shown(history)
    assert (seen["failed"], seen["completed"], seen["retried"]) == (1, 0, 0)


async def test_what_cannot_be_written_is_kept_for_the_next_time(board: Dashboard) -> None:
    history = History(board.pool)
    history.on_event(ended("completed", JobState.COMPLETED))
    await board.pool.execute("ALTER TABLE queue_history RENAME TO queue_history_away")
    await history.add()
    await board.pool.execute("ALTER TABLE queue_history_away RENAME TO queue_history")
    history.on_event(ended("completed", JobState.COMPLETED))
    await history.add()
    assert (await shown(history))["completed"] == 2


async def test_a_stop_waits_for_what_is_being_written(board: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.jobs.history.ADD_S", 0.01)
    history = History(board.pool)
    history.on_event(ended("completed", JobState.COMPLETED))
    async with board.pool.acquire() as slow, slow.transaction():
        await slow.execute("LOCK TABLE queue_history")
        await history.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'queue_history'::regclass AND NOT granted"
        await eventually(lambda: slow.fetchval(waiting))
        history.on_event(ended("fail", JobState.FAILED))
        stopping = asyncio.create_task(history.stop())
        await asyncio.sleep(0)
    await stopping
    seen = await shown(history)
    assert (seen["completed"], seen["failed"]) == (1, 1)


async def test_the_most_of_a_minute_is_kept(board: Dashboard) -> None:
    history = board.runtime.platform.inspector.history
    await board.runtime.engine.pause(EMAIL)
    jobs = [await board.submit() for _ in range(3)]
    await history.levels()
    await board.pool.execute("DELETE FROM jobs WHERE id = ANY ($1::uuid[])", jobs)
    await history.levels()
    assert (await shown(history))["waiting"] == 3


async def test_numbers_of_last_week_are_forgotten_and_those_before_the_range_not_shown(board: Dashboard) -> None:
    history = board.runtime.platform.inspector.history
    await board.pool.execute(
        "INSERT INTO queue_history (queue, minute, completed) "
        "SELECT $1, date_trunc('minute', now()) - age, 1 FROM unnest($2::interval[]) AS age",
        EMAIL,
        [timedelta(seconds=KEPT_S + 120), timedelta(seconds=KEPT_S - 3600), timedelta(hours=2)],
    )
    assert [len((await history.steps([EMAIL], back, 3600))[EMAIL]) for back in (3600.0, 10_800.0)] == [0, 1]
    await history.duty().run()  # or the leader's, which may have been first
    assert len((await history.steps([EMAIL], 2 * KEPT_S, 3600))[EMAIL]) == 2


async def test_the_page_shows_it_without_a_script(board: Dashboard) -> None:
    history = board.runtime.platform.inspector.history
    for _ in range(1234):
        history.on_event(ended("completed", JobState.COMPLETED))
    history.on_event(ended("fail", JobState.FAILED, run_s=50.0))
    await history.add()
    for query in ("", "?range=6h", "?range=24h&queue=email", "?range=7d"):
        page = await board.page(f"/metrics{query}")
        page.sound()
        assert "1,234 completed and 1 failed" in page.text
        assert "1,234 completed, 1 failed, 0 tried again" in page.text
    assert "p95" in page.text
    overview = await board.page()
    assert "1,234 completed and 1 failed in 1 hour" in str(overview.labels())
    data = (await board.http.get(f"{PAGES}/metrics", headers={"Accept": "application/json"})).json()["data"]
    steps = next(queue["steps"] for queue in data["queues"] if queue["name"] == EMAIL)
    assert sum(step["completed"] for step in steps) == 1234
    assert "range must be one of 1h, 6h, 24h, 7d" in (await board.page("/metrics?range=2h", 400)).text
    assert "unknown queue" in (await board.page("/metrics?queue=nothing", 404)).text


def test_a_quantile_lies_inside_of_its_class() -> None:
    numbers = [0] * (len(BOUNDS) + 1)
    assert quantile(numbers, 0.5) is None
    numbers[BOUNDS.index(1)] = 10  # between 0.5 and 1 s
    assert quantile(numbers, 0.5) == pytest.approx(0.75)
    assert quantile(numbers, 1.0) == pytest.approx(1.0)
    numbers[-1] = 1000  # longer than all bounds
    assert quantile(numbers, 0.95) == BOUNDS[-1]


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (1, 1), (1.2, 2), (3, 5), (6, 10), (10, 10), (11, 20), (21, 25), (0.03, 0.05), (999, 1000)],
)
def test_an_upper_edge_can_be_read_from(value: float, top: float) -> None:
    assert rounded_up(value) == pytest.approx(top)


def test_bars_stand_on_each_other_and_lines_are_interrupted() -> None:
    moments = [datetime(2026, 5, 1, 12, minute, tzinfo=UTC) for minute in range(3)]
    columns = columns_of(moments, ["a", "b", "c"])
    bars = stacked([("completed", [1, 0, 3]), ("failed", [1, 0, 2])], columns, "").bars
    assert [(bar.kind, bar.x, bar.y, bar.height) for bar in bars] == [
        ("completed", 0, 96, 24), ("failed", 0, 72, 24), ("completed", 400, 48, 72), ("failed", 400, 0, 48),
    ]  # fmt: skip
    ((_, parts),) = lined([("p50", [1.0, None, 0.5])], columns, "").lines
    assert parts == ["0.0,0.0 200.0,0.0", "400.0,60.0 600.0,60.0"]
