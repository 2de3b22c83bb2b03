"""Repeatable jobs, with Redis and without (invariant H): one job for each tick, whoever runs, dies or freezes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.infra.postgres import open_pool
from gateway.infra.uuid7 import uuid7
from gateway.jobs.job import JobState
from gateway.jobs.registry import Task
from gateway.jobs.schedule import (
    InvalidSchedule,
    NewSchedule,
    Overlap,
    Schedule,
    ScheduleBusy,
    ScheduleDeclared,
    ScheduleExists,
    ScheduleNotFound,
)
from gateway.jobs.scheduler import Scheduler
from gateway.jobs.schedules import Schedules
from gateway.jobs.store import SQL
from gateway.jobs.ticks import Missed
from tests.support.engine import QUEUE, TASK, Replica, replica
from tests.support.eventually import eventually
from tests.support.proxy import Proxy

Pool = asyncpg.Pool
HOURLY = NewSchedule(name="hourly", task=TASK, args={"n": 1}, cron="0 * * * *")


class Make(Protocol):
    async def __call__(self, **options: Any) -> Replica: ...


@pytest.fixture(params=["queue", "direct"])
async def make(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[Make]:
    """Start replicas on one ledger, in queue mode or in direct mode."""
    url = request.getfixturevalue("redis_url") if request.param == "queue" else None
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Replica:
            return await stack.enter_async_context(replica(pool, url, patience_s=5, **options))

        yield start


@pytest.fixture(autouse=True)
async def not_at_the_turn_of_the_hour() -> None:
    """Nearly all count in hours: one that begins in the last seconds of one waits for the next."""
    left_s = 3600 - time.time() % 3600
    if left_s < 20:
        await asyncio.sleep(left_s)


def schedules_of(one: Replica, pool: Pool) -> tuple[Schedules, Scheduler]:
    return Schedules(pool, one.engine), Scheduler(pool, one.engine)


async def came_due(pool: Pool, name: str, ago: timedelta) -> datetime:
    """Move the next tick to the last whole hour that lies ``ago`` back; answers it."""
    due: datetime = await pool.fetchval(
        "UPDATE schedules SET next_at = date_trunc('hour', now() - $2::interval) WHERE name = $1 RETURNING next_at",
        name,
        ago,
    )
    return due


async def keys(pool: Pool) -> list[str]:
    """Ticks that have a job, as their dedupe keys say, in the order of the jobs."""
    return [row["dedupe_key"] for row in await pool.fetch("SELECT dedupe_key FROM jobs ORDER BY seq")]


def key(name: str, tick: datetime) -> str:
    return f"schedule:{name}:{tick:%Y-%m-%dT%H:%M:%SZ}"


async def test_a_job_starts_at_its_tick_and_knows_it(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    new = NewSchedule(name="often", task=TASK, args={"n": 7}, every_s=1, tick_arg="tick", priority=9, missed=Missed.ALL)
    made = await schedules.create(new)
    await one.work()
    await scheduler.start()
    try:
        await eventually(lambda: len(one.settled("completed")) >= 3)
    finally:
        await scheduler.stop()
    first, second = one.script.started[:2]
    assert made.next_at is not None
    assert first == {"n": 7, "tick": f"{made.next_at:%Y-%m-%dT%H:%M:%SZ}"}
    assert datetime.fromisoformat(second["tick"]) - made.next_at == timedelta(seconds=1)
    job = await one.engine.get(one.script.contexts[0].job.id)
    assert (job.priority, job.max_attempts, job.tags) == (9, 3, ["schedule:often"])
    assert job.dedupe_key == key("often", made.next_at)
    late = []
    for context in one.script.contexts:
        job = await one.engine.get(context.job.id)
        late.append(job.created_at - datetime.fromisoformat(job.args["tick"]))
    assert min(late) < timedelta(seconds=1.5), "a busy machine may hold up some"
    shown = await schedules.get("often")
    assert shown.last_job_id is not None and shown.last_tick_at is not None and shown.next_at is not None
    assert shown.next_at - shown.last_tick_at == timedelta(seconds=1)


async def test_H_three_schedulers_make_one_job_for_each_tick(make: Make, pool: Pool) -> None:
    replicas = [await make(name=f"replica-{n}") for n in range(3)]
    pairs = [schedules_of(one, pool) for one in replicas]
    names = [f"s{n}" for n in range(20)]
    for name in names:
        await pairs[0][0].create(msgspec.structs.replace(HOURLY, name=name, missed=Missed.ALL))
    expected = []
    for _ in range(4):
        expected += [key(name, await came_due(pool, name, timedelta(0))) for name in names]
        await asyncio.gather(*(scheduler.tick() for _, scheduler in pairs))
        await pool.execute("UPDATE jobs SET state = 'completed', finished_at = now()")  # frees the keys
    assert Counter(await keys(pool)) == Counter(expected)
    assert len(expected) == 80


async def test_a_frozen_scheduler_changes_nothing_when_it_wakes(make: Make, pool: Pool) -> None:
    one, two = await make(), await make(name="replica-2")
    schedules, scheduler = schedules_of(one, pool)
    await schedules.create(HOURLY)
    due = await came_due(pool, "hourly", timedelta(0))
    read = await pool.fetchrow("SELECT *, now() AS seen_at FROM schedules")
    assert read is not None
    await schedules_of(two, pool)[1].tick()
    await pool.execute("UPDATE jobs SET state = 'completed', finished_at = now()")
    await scheduler._tick_one(read, read["seen_at"])  # what it was about to do when it froze
    assert await keys(pool) == [key("hourly", due)]


async def test_a_change_between_look_and_leap_is_not_overwritten(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    await schedules.create(HOURLY)
    due = await came_due(pool, "hourly", timedelta(0))
    read = await pool.fetchrow("SELECT *, now() AS seen_at FROM schedules")
    assert read is not None
    await schedules.change("hourly", lambda old: msgspec.structs.replace(old, args={"n": 2}))
    await scheduler._tick_one(read, read["seen_at"])
    assert await keys(pool) == []
    await scheduler.tick()
    assert await keys(pool) == [key("hourly", due)]
    assert await pool.fetchval("SELECT args FROM jobs") == {"n": 2}


@pytest.mark.parametrize("missed", list(Missed))
async def test_missed_ticks_by_policy(make: Make, pool: Pool, missed: Missed) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    await schedules.create(msgspec.structs.replace(HOURLY, missed=missed, missed_max=3))
    minute: datetime = await pool.fetchval("SELECT date_trunc('minute', now())")
    due = minute - timedelta(hours=5, minutes=30)
    cron = f"{(minute.minute + 30) % 60} * * * *"
    await pool.execute("UPDATE schedules SET cron = $1, next_at = $2", cron, due)
    hour = timedelta(hours=1)
    await scheduler.tick()
    expected = {
        Missed.SKIP: [],
        Missed.ONCE: [due + 5 * hour],
        Missed.ALL: [due, due + hour, due + 2 * hour],
    }[missed]
    assert await keys(pool) == [key("hourly", tick) for tick in expected]
    shown = await schedules.get("hourly")
    assert shown.next_at == due + 6 * hour
    assert shown.last_tick_at == (expected[-1] if expected else None)
    assert shown.skipped_at is not None and shown.skip_reason is not None and "ticks from" in shown.skip_reason
    await scheduler.tick()
    assert len(await keys(pool)) == len(expected), "nothing comes twice"


async def test_a_tick_seen_at_once_is_not_missed(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    await schedules.create(NewSchedule(name="often", task=TASK, every_s=30, missed=Missed.SKIP))
    await pool.execute("UPDATE schedules SET next_at = anchor_at - interval '30 s'")
    await scheduler.tick()
    assert len(await keys(pool)) == 1


async def test_overlap_skips_while_the_job_before_is_open(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    careful = msgspec.structs.replace(HOURLY, overlap=Overlap.SKIP, missed=Missed.ALL)
    await schedules.create(careful)
    due = await came_due(pool, "hourly", timedelta(hours=2))
    await scheduler.tick()
    assert await keys(pool) == [key("hourly", due)], "the second tick finds the job of the first"
    await came_due(pool, "hourly", timedelta(0))
    await scheduler.tick()
    assert len(await keys(pool)) == 1
    shown = await schedules.get("hourly")
    assert shown.skip_reason == "the job of the tick before was still open"
    with pytest.raises(ScheduleBusy):
        await schedules.run("hourly")
    await one.work()
    await eventually(lambda: one.settled("completed"))
    now = await came_due(pool, "hourly", timedelta(0))
    await scheduler.tick()
    assert (await keys(pool))[1:] == [key("hourly", now)]


async def test_a_paused_schedule_has_no_ticks_and_goes_on_with_the_next(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    await schedules.create(msgspec.structs.replace(HOURLY, missed=Missed.ALL))
    paused = await schedules.pause("hourly", "holidays")
    assert (paused.enabled, paused.disabled_reason) == (False, "holidays")
    assert schedules.preview(paused) == []
    await came_due(pool, "hourly", timedelta(hours=3))
    await scheduler.tick()
    assert await keys(pool) == []
    resumed = await schedules.resume("hourly")
    assert (resumed.enabled, resumed.disabled_reason) == (True, None)
    assert resumed.next_at is not None and resumed.next_at > datetime.now(UTC) - timedelta(seconds=5)
    await scheduler.tick()
    assert await keys(pool) == []


async def test_resuming_what_runs_loses_no_tick(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    await schedules.create(HOURLY)
    due = await came_due(pool, "hourly", timedelta(0))
    await schedules.resume("hourly")
    await scheduler.tick()
    assert await keys(pool) == [key("hourly", due)]


async def test_run_now_leaves_the_ticks_as_they_are(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, _ = schedules_of(one, pool)
    made = await schedules.create(HOURLY)
    await schedules.pause("hourly", "not now")
    ran = await schedules.run("hourly")
    await one.work()
    await eventually(lambda: one.settled("completed"))
    job = await one.engine.get(ran.id)
    assert (job.state, job.args, job.tags) == (JobState.COMPLETED, {"n": 1}, ["schedule:hourly"])
    shown = await schedules.get("hourly")
    assert (shown.next_at, shown.last_job_id, shown.last_tick_at) == (made.next_at, ran.id, None)
    with pytest.raises(ScheduleNotFound):
        await schedules.run("weekly")


async def test_declared_schedules_follow_the_code_and_keep_what_people_did(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    schedules.declare(HOURLY)
    await schedules.ensure()
    await schedules.pause("hourly", "not now")
    await schedules.ensure()
    assert (await schedules.get("hourly")).revision == 2, "what is the same is not written"
    later, _ = schedules_of(one, pool)
    later.declare(msgspec.structs.replace(HOURLY, args={"n": 5}))
    await later.ensure()
    changed = await later.get("hourly")
    assert (changed.args, changed.enabled, changed.disabled_reason) == ({"n": 5}, False, "not now")
    await later.resume("hourly")
    due = await came_due(pool, "hourly", timedelta(0))
    await later.ensure()
    await scheduler.tick()
    assert await keys(pool) == [key("hourly", due)], "a start does not lose the tick that is due"
    for refused in (later.delete("hourly"), later.put(HOURLY), later.change("hourly", lambda old: old)):
        with pytest.raises(ScheduleDeclared):
            await refused
    with pytest.raises(ValueError, match="declared twice"):
        later.declare(HOURLY)


async def test_changes_join_the_callers_transaction(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, _ = schedules_of(one, pool)
    await schedules.create(HOURLY)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await schedules.create(msgspec.structs.replace(HOURLY, name="project:1"), connection)
        await schedules.put(msgspec.structs.replace(HOURLY, cron="5 * * * *"), connection)
        await schedules.pause("hourly", "x", connection)
        await schedules.delete("hourly", connection)
        await transaction.rollback()
    [kept] = await schedules.page("", None, 10)
    assert kept.definition == msgspec.structs.replace(HOURLY, queue=QUEUE)
    assert kept.enabled


async def test_new_times_begin_anew_and_other_changes_do_not(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, _ = schedules_of(one, pool)
    await schedules.create(HOURLY)
    due = await came_due(pool, "hourly", timedelta(hours=1))
    other = await schedules.change("hourly", lambda old: msgspec.structs.replace(old, priority=3))
    assert (other.next_at, other.priority) == (due, 3)
    retimed, created = await schedules.put(NewSchedule(name="hourly", task=TASK, every_s=86_400))
    assert not created
    assert retimed.next_at == retimed.anchor_at + timedelta(days=1)
    with pytest.raises(ScheduleExists):
        await schedules.create(HOURLY)
    await schedules.delete("hourly")
    with pytest.raises(ScheduleNotFound):
        await schedules.delete("hourly")


async def test_a_task_of_another_version_disturbs_nobody(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    for name in ("newer", "ours"):
        await schedules.create(msgspec.structs.replace(HOURLY, name=name))
        await came_due(pool, name, timedelta(0))
    await pool.execute("UPDATE schedules SET task = 'task.of.tomorrow' WHERE name = 'newer'")
    await scheduler.tick()
    assert [made.partition(":2")[0] for made in await keys(pool)] == ["schedule:ours"]
    newer = await schedules.get("newer")
    assert newer.enabled and newer.next_at is not None and newer.next_at < datetime.now(UTC), "it waits for a replica"
    two = await make(name="replica-2")
    two.engine.registry.add_task(Task("task.of.tomorrow", QUEUE, dict, two.script.perform))
    await schedules_of(two, pool)[1].tick()
    assert len(await keys(pool)) == 2


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("cron = '61 * * * *'", "cannot be computed: BadTiming: cron is no cron expression: bad minute"),
        ("time_zone = 'Europe/Atlantis'", "cannot be computed: BadTiming: time_zone is no name"),
    ],
)
async def test_what_cannot_be_computed_is_disabled_and_says_why(make: Make, pool: Pool, harm: str, said: str) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    for name in ("broken", "sound"):
        await schedules.create(msgspec.structs.replace(HOURLY, name=name))
        await came_due(pool, name, timedelta(0))
    await pool.execute(f"UPDATE schedules SET {harm} WHERE name = 'broken'")
    await scheduler.tick()
    assert len([made for made in await keys(pool) if made.startswith("schedule:sound:")]) == 1
    broken = await schedules.get("broken")
    assert not broken.enabled
    assert broken.disabled_reason is not None and broken.disabled_reason.startswith(said)
    assert await scheduler.tick() > 0
    with pytest.raises(InvalidSchedule):
        await schedules.resume("broken")


async def test_what_cannot_be_inserted_is_disabled_and_says_why(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    await schedules.create(HOURLY)
    await came_due(pool, "hourly", timedelta(0))
    await pool.execute("ALTER TABLE jobs ADD CONSTRAINT no_tags CHECK (tags = '{}')")
    await scheduler.tick()
    broken = await schedules.get("hourly")
    assert broken.disabled_reason is not None
    assert broken.disabled_reason.startswith("cannot be inserted: CheckViolationError")
    assert await keys(pool) == []


@pytest.mark.parametrize("code", ["54000", "P0001"], ids=["never", "unknown"])
async def test_a_fault_of_one_schedule_keeps_no_other_waiting(make: Make, pool: Pool, code: str) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    due = {}
    for name, ago in (("broken", timedelta(hours=1)), ("sound", timedelta(0))):  # the broken one comes first
        await schedules.create(msgspec.structs.replace(HOURLY, name=name))
        due[name] = await came_due(pool, name, ago)
    await pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{code}'; END $$"
    )
    await pool.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON jobs FOR EACH ROW WHEN (NEW.dedupe_key LIKE '%broken%')"
        " EXECUTE FUNCTION refuse()"
    )
    with capture_logs() as lines:
        for _ in range(2):
            assert await _next_look(scheduler) > 0.9
    assert await keys(pool) == [key("sound", due["sound"])]
    broken = await schedules.get("broken")
    if code == "54000":
        assert str(broken.disabled_reason).startswith("cannot be inserted: ProgramLimitExceededError")
        return
    faults = [line["schedule"] for line in lines if line["event"] == "schedule_failed"]
    assert faults == ["broken"], "once, not each round"
    assert broken.enabled
    await pool.execute("DROP TRIGGER refuse ON jobs")
    await scheduler.tick()
    assert len(await keys(pool)) == 2


async def test_it_ends_when_it_is_to_end(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    end = datetime.now(UTC) + timedelta(hours=1)
    await schedules.create(msgspec.structs.replace(HOURLY, end_at=end))
    await pool.execute("UPDATE schedules SET end_at = now()")
    due = await came_due(pool, "hourly", timedelta(0))
    await scheduler.tick()
    ended = await schedules.get("hourly")
    assert (await keys(pool), ended.next_at, ended.enabled) == ([key("hourly", due)], None, True)
    assert schedules.preview(ended) == []
    with pytest.raises(InvalidSchedule, match="would never run"):
        await schedules.put(msgspec.structs.replace(HOURLY, end_at=datetime.now(UTC) - timedelta(days=1)))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"task": "email.sent"}, "task"),
        ({"queue": "email"}, "queue"),
        ({"priority": 11}, "priority"),
        ({"missed_max": 0}, "missed_max"),
        ({"missed_max": 1001}, "missed_max"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "* " * 5000}, "cron"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"every_s": 5}, "cron"),
        ({"start_at": datetime.fromisoformat("2026-01-01T00:00")}, "start_at"),
        ({"end_at": datetime(9999, 12, 31, tzinfo=UTC)}, "end_at"),
    ],
)
async def test_what_is_wrong_is_refused_and_named(pool: Pool, changes: dict[str, Any], field: str) -> None:
    async with replica(pool, None) as one:
        schedules, _ = schedules_of(one, pool)
        with pytest.raises(InvalidSchedule) as raised:
            await schedules.create(msgspec.structs.replace(HOURLY, **changes))
    assert raised.value.field == field
    assert await pool.fetchval("SELECT count(*) FROM schedules") == 0


async def test_pages_are_by_name_and_prefix(pool: Pool) -> None:
    async with replica(pool, None) as one:
        schedules, _ = schedules_of(one, pool)
        for name in ("b", "project:2", "project:1", "a"):
            await schedules.create(msgspec.structs.replace(HOURLY, name=name))

        async def names(prefix: str, after: str | None, limit: int) -> list[str]:
            return [found.name for found in await schedules.page(prefix, after, limit)]

        assert await names("", None, 3) == ["a", "b", "project:1"]
        assert await names("", "project:1", 3) == ["project:2"]
        assert await names("project:", None, 9) == ["project:1", "project:2"]


async def test_A_ticks_survive_an_outage_of_the_ledger(make: Make, pool: Pool, database_url: str) -> None:
    one = await make()
    server = urlsplit(database_url)
    async with Proxy(str(server.hostname), server.port or 5432) as proxy:
        through = urlunsplit(server._replace(netloc=f"{server.username}@127.0.0.1:{proxy.port}"))
        behind = await open_pool(through, min_size=0, max_size=2, command_timeout_s=2)
        try:
            schedules, _ = schedules_of(one, pool)
            scheduler = Scheduler(behind, one.engine)
            made = await schedules.create(NewSchedule(name="often", task=TASK, every_s=1, missed=Missed.ALL))
            await scheduler.start()
            await eventually(lambda: _count(pool, 1))
            await proxy.down()
            before: Schedule = await schedules.get("often")
            await eventually(lambda: _behind(schedules, timedelta(seconds=2)))
            await proxy.up()
            await eventually(lambda: _past(schedules, before, timedelta(seconds=3)), 20)
            await scheduler.stop()
        finally:
            behind.terminate()
    found = await keys(pool)
    assert made.next_at is not None
    assert found == [key("often", made.next_at + timedelta(seconds=n)) for n in range(len(found))]


async def test_A_redis_may_be_down_when_a_tick_comes(pool: Pool, own_valkey: Any) -> None:
    server = own_valkey()
    async with replica(pool, server.url, maintain=True) as one:
        schedules, scheduler = schedules_of(one, pool)
        await schedules.create(HOURLY)
        await one.work()
        server.stop()
        due = await came_due(pool, "hourly", timedelta(0))
        await scheduler.tick()
        await eventually(lambda: one.settled("completed"))
        assert await keys(pool) == [key("hourly", due)]


async def test_I_a_look_costs_one_query_whatever_waits(pool: Pool) -> None:
    """Schedules that are not due are not read."""
    async with replica(pool, None) as one:
        schedules, scheduler = schedules_of(one, pool)
        await schedules.create(HOURLY)
        await pool.execute(
            """INSERT INTO schedules (name, queue, task, args, every_s, missed, missed_max, overlap, anchor_at, next_at)
            SELECT 'later' || n, $1, $2, '{}', 60, 'once', 1, 'skip', now(), now() + interval '1 day'
            FROM generate_series(1, 5000) n""",
            QUEUE,
            TASK,
        )
        await pool.execute("ANALYZE schedules")
        due = SQL["schedules_due"]
        plan = "\n".join(row[0] for row in await pool.fetch(f"EXPLAIN {due}", [TASK], [QUEUE], 100))
        assert "schedules_next" in plan and "Seq Scan" not in plan
        assert await scheduler.tick() <= 1.0


async def test_more_than_one_look_are_made_at_once_and_none_is_waited_for_in_haste(pool: Pool) -> None:
    async with replica(pool, None) as one:
        _, scheduler = schedules_of(one, pool)
        await pool.execute(
            """INSERT INTO schedules (name, queue, task, args, every_s, missed, missed_max, overlap, anchor_at, next_at)
            SELECT 's' || n, $1, $2, '{}', 3600, 'once', 1, 'enqueue', now(), now() + interval '20 s'
            FROM generate_series(1, 150) n""",
            QUEUE,
            TASK,
        )
        assert await _next_look(scheduler) > 0.9
        await pool.execute("UPDATE schedules SET next_at = date_trunc('second', now())")
        assert await scheduler.tick() < 0.1
        assert await _next_look(scheduler) > 0.9
        assert len(set(await keys(pool))) == len(await keys(pool)) == 150


async def test_a_schedule_that_a_frozen_process_holds_keeps_no_other_waiting(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, scheduler = schedules_of(one, pool)
    due = {}
    for name in ("held", "other"):
        await schedules.create(msgspec.structs.replace(HOURLY, name=name))
        due[name] = await came_due(pool, name, timedelta(0))
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM schedules WHERE name = 'held' FOR UPDATE")
        async with asyncio.timeout(20):
            await scheduler.tick()
        assert await keys(pool) == [key("other", due["other"])]
    await scheduler.tick()
    assert await keys(pool) == [key("other", due["other"]), key("held", due["held"])]


async def test_two_that_run_it_at_once_do_not_overlap(make: Make, pool: Pool) -> None:
    one = await make()
    schedules, _ = schedules_of(one, pool)
    await schedules.create(msgspec.structs.replace(HOURLY, overlap=Overlap.SKIP))
    async with pool.acquire() as connection, connection.transaction():
        first = await connection.fetchrow(SQL["schedule_run"], "hourly", uuid7(), 3, "now", None)
        assert first is not None
        second = asyncio.create_task(schedules.run("hourly"))
        await eventually(lambda: _waits_for_a_lock(pool))
    with pytest.raises(ScheduleBusy):
        await second
    assert len(await keys(pool)) == 1


async def _next_look(scheduler: Scheduler) -> float:
    """Counted from this one's beginning: one that took long leaves less to wait."""
    began = time.monotonic()
    return await scheduler.tick() + time.monotonic() - began


async def _waits_for_a_lock(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def _count(pool: Pool, least: int) -> bool:
    return len(await keys(pool)) >= least


async def _behind(schedules: Schedules, by: timedelta) -> bool:
    shown = await schedules.get("often")
    return shown.next_at is not None and datetime.now(UTC) - shown.next_at > by


async def _past(schedules: Schedules, before: Schedule, by: timedelta) -> bool:
    shown = await schedules.get("often")
    return shown.next_at is not None and before.next_at is not None and shown.next_at > before.next_at + by
