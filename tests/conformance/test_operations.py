"""Changing jobs one by one and many at once, with Redis and without (invariant H): what is moved runs, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.jobs.errors import JobNotFound, WrongState
from gateway.jobs.inspector import InvalidArgs, NotReplayable
from gateway.jobs.job import JobState, NewJob
from gateway.jobs.operations import CHUNK, Action, Operation, Selection
from gateway.jobs.search import JobFilter
from tests.support.engine import QUEUE, TASK, Replica, Script, replica
from tests.support.eventually import eventually

Pool = asyncpg.Pool
TOMORROW = timedelta(days=1)


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


async def submitted(one: Replica, count: int, **changes: Any) -> list[UUID]:
    jobs = [NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}, **changes) for n in range(count)]
    return [
        done.id for start in range(0, count, 500) for done in await one.engine.submit_many(jobs[start : start + 500])
    ]


async def fail(pool: Pool, *ids: UUID, error: str = "no luck") -> None:
    await pool.execute(
        "UPDATE jobs SET state = 'failed', attempts = 3, error = $2, finished_at = now() WHERE id = ANY ($1)",
        list(ids),
        error,
    )


async def finished(one: Replica, operation: Operation) -> Operation:
    async def ended() -> Operation | None:
        now = await one.inspector.operations.get(operation.id)
        return now if now.state != "running" else None

    return await eventually(ended, 30)


def by(action: Action, **fields: Any) -> tuple[Action, Selection]:
    return action, Selection(queue=QUEUE, filter=JobFilter(**fields))


async def test_a_promoted_job_starts_now(make: Make) -> None:
    one = await make()
    await one.work()
    job_id = await one.submit(1, run_at=datetime.now(UTC) + TOMORROW)
    assert (await one.inspector.promote(job_id)).state in (JobState.WAITING, JobState.ACTIVE, JobState.COMPLETED)
    await eventually(lambda: one.settled("completed"))
    with pytest.raises(WrongState, match="only a delayed job"):
        await one.inspector.promote(job_id)
    with pytest.raises(JobNotFound):
        await one.inspector.promote(uuid7())


async def test_a_deleted_job_never_starts(make: Make) -> None:
    one = await make()
    gone = (await submitted(one, 2))[0]
    await one.inspector.delete(gone, "not wanted")
    await one.work()
    await eventually(lambda: one.settled("completed"))
    assert one.script.names == [1]
    with pytest.raises(JobNotFound):
        await one.engine.get(gone)
    assert (await one.engine.counts(QUEUE)).completed == 1


async def test_a_running_job_is_not_deleted(make: Make, pool: Pool) -> None:
    one = await make()
    job_id = await one.submit(1)
    await pool.execute("UPDATE jobs SET state = 'active', lease_until = now() + interval '1 minute'")
    with pytest.raises(WrongState, match="a job that runs"):
        await one.inspector.delete(job_id, "not wanted")
    assert (await one.engine.get(job_id)).state is JobState.ACTIVE


async def test_a_replay_runs_with_the_new_argument_and_the_old_job_keeps_its_errors(make: Make, pool: Pool) -> None:
    one = await make()
    old = await one.submit(1, priority=7)
    await fail(pool, old)
    entry = {"attempt": 1, "kind": "error", "error": "no luck", "at": "2026-01-01T00:00:00Z"}
    await pool.execute("UPDATE jobs SET errors = $1", [entry])
    new = await one.inspector.replay(old, {"n": 2})
    await one.work()
    await eventually(lambda: one.settled("completed"))
    assert one.script.names == [2]
    assert (new.priority, new.max_attempts) == (7, 3)
    kept = await one.engine.get(old)
    assert (kept.state, kept.args, len(kept.errors)) == (JobState.FAILED, {"n": 1}, 1)
    assert (await one.inspector.links(new.id)).replay_of == old
    assert (await one.inspector.links(old)).replays == [new.id]
    with pytest.raises(WrongState, match="only a failed or cancelled job"):
        await one.inspector.replay(new.id, {"n": 3})


async def test_a_replay_is_refused_where_it_can_do_no_good(make: Make, pool: Pool) -> None:
    one = await make()
    job_id = await one.submit(1, dedupe_key="order-1")
    await fail(pool, job_id)
    await one.submit(2, dedupe_key="order-1")
    with pytest.raises(WrongState, match="dedupe key"):
        await one.inspector.replay(job_id, {"n": 1})
    with pytest.raises(InvalidArgs):
        await one.inspector.replay(job_id, ["not", "an", "object"])  # type: ignore[arg-type]
    await pool.execute("UPDATE jobs SET task = 'gone.task' WHERE id = $1", job_id)
    with pytest.raises(NotReplayable, match="no task"):
        await one.inspector.replay(job_id, {"n": 1})
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 2


async def test_many_failed_jobs_run_again_once_each_and_only_those_that_match(make: Make, pool: Pool) -> None:
    one = await make(maintain=True)
    ids = await submitted(one, CHUNK * 2 + 50)
    await fail(pool, *ids, error="TimeoutError: 30 s")
    await fail(pool, *ids[:3], error="550 no such user")
    await one.work()
    asked = by(Action.RETRY, error="timeout")
    assert await one.inspector.operations.count(*asked) == CHUNK * 2 + 47
    operation = await one.inspector.operations.start(*asked, "ann", None)
    assert (operation.state, operation.total) == ("running", CHUNK * 2 + 47)
    ended = await finished(one, operation)
    assert (ended.state, ended.done, ended.failed) == ("completed", CHUNK * 2 + 47, 0)
    await eventually(lambda: len(one.settled("completed")) == CHUNK * 2 + 47, 30)
    assert Counter(one.script.names) == Counter(range(3, CHUNK * 2 + 50))


async def test_delayed_jobs_are_promoted_together(make: Make) -> None:
    one = await make(maintain=True)
    await submitted(one, 20, run_at=datetime.now(UTC) + TOMORROW)
    await one.work()
    await one.inspector.operations.start(*by(Action.PROMOTE, states=(JobState.DELAYED,)), "ann", None)
    await eventually(lambda: len(one.settled("completed")) == 20)


async def test_jobs_are_cancelled_together_running_ones_too(make: Make, pool: Pool) -> None:
    async def for_ever(_args: dict[str, Any], context: Any) -> None:
        await eventually(lambda: False, timeout=60)

    one = await make(maintain=True, script=Script(behave=for_ever))
    await submitted(one, 7)
    await one.work()
    await eventually(lambda: len(one.script.started) == 5)
    asked = by(Action.CANCEL, states=(JobState.WAITING, JobState.ACTIVE))
    ended = await finished(one, await one.inspector.operations.start(*asked, "ann", "wrong list"))
    assert (ended.done, ended.failed) == (7, 0)

    async def all_cancelled() -> bool:
        return (await one.engine.counts(QUEUE)).cancelled == 7

    await eventually(all_cancelled)
    assert {row["error"] for row in await pool.fetch("SELECT error FROM jobs")} == {"wrong list"}


async def test_jobs_are_deleted_together_but_never_a_running_one(make: Make, pool: Pool) -> None:
    one = await make(maintain=True)
    ids = await submitted(one, 10)
    await fail(pool, *ids[:4])
    await pool.execute("UPDATE jobs SET state = 'active', lease_until = now() + interval '1 h' WHERE id = $1", ids[9])
    operation = await one.inspector.operations.start(
        Action.DELETE, Selection(queue=QUEUE, ids=(*ids, uuid7())), "ann", None
    )
    ended = await finished(one, operation)
    assert (ended.total, ended.done, ended.failed) == (11, 9, 2)
    assert [row["id"] for row in await pool.fetch("SELECT id FROM jobs")] == [ids[9]]


async def test_A_an_operation_outlives_the_leader_and_counts_nothing_twice(make: Make, pool: Pool) -> None:
    one = await make()
    ids = await submitted(one, CHUNK + 100)
    await fail(pool, *ids)
    operation = await one.inspector.operations.start(*by(Action.RETRY, states=(JobState.FAILED,)), "ann", None)
    row = await pool.fetchrow("SELECT * FROM operations")
    await one.inspector.operations._advance(row)  # the first chunk of a leader that dies then
    halfway = await one.inspector.operations.get(operation.id)
    assert (halfway.state, halfway.done) == ("running", CHUNK)
    await one.inspector.operations._advance(row)  # and of one that froze and does not know that it was done
    assert (await one.inspector.operations.get(operation.id)).done == CHUNK
    two = await make(name="replica-2", maintain=True)
    ended = await finished(two, operation)
    assert (ended.state, ended.done, ended.failed) == ("completed", CHUNK + 100, 0)
    assert (await two.engine.counts(QUEUE)).waiting == CHUNK + 100


async def test_two_workers_on_one_operation_do_nothing_twice(make: Make, pool: Pool) -> None:
    one = await make(maintain=True)
    two = await make(name="replica-2")
    await fail(pool, *await submitted(one, CHUNK * 3))
    operation = await one.inspector.operations.start(*by(Action.DELETE, states=(JobState.FAILED,)), "ann", None)
    while (now := await two.inspector.operations.get(operation.id)).state == "running":
        await two.inspector.operations.work()
    assert (now.done, now.failed) == (CHUNK * 3, 0)


async def test_a_cancelled_operation_leaves_the_rest_alone(make: Make, pool: Pool) -> None:
    one = await make()
    await fail(pool, *await submitted(one, CHUNK + 1))
    operations = one.inspector.operations
    operation = await operations.start(*by(Action.RETRY, states=(JobState.FAILED,)), "ann", None)
    await operations._advance(await pool.fetchrow("SELECT * FROM operations"))
    stopped = await operations.cancel(operation.id)
    assert stopped is not None
    assert (stopped.state, stopped.done) == ("cancelled", CHUNK)
    assert await operations.cancel(operation.id) is None
    await operations.work()
    assert (await one.engine.counts(QUEUE)).failed == 1


async def test_of_failed_jobs_with_one_key_only_the_newest_runs_again(make: Make, pool: Pool) -> None:
    one = await make(maintain=True)
    for n in range(3):
        await fail(pool, await one.submit(n, dedupe_key="order-1"))
    await fail(pool, await one.submit(3, dedupe_key="order-2"))
    await one.submit(4, dedupe_key="order-2", run_at=datetime.now(UTC) + TOMORROW)
    operation = await one.inspector.operations.start(*by(Action.RETRY, states=(JobState.FAILED,)), "ann", None)
    ended = await finished(one, operation)
    assert (ended.total, ended.done, ended.failed) == (4, 1, 3)
    assert [row["n"] for row in await pool.fetch("SELECT args->>'n' AS n FROM jobs WHERE state = 'waiting'")] == ["2"]


async def test_a_key_taken_meanwhile_costs_one_job_and_not_the_operation(make: Make, pool: Pool) -> None:
    one = await make()
    ids = [await one.submit(n, dedupe_key=f"order-{n}") for n in range(5)]
    await fail(pool, *ids)
    # What a submit between look and leap does: the statement meets the unique index.
    await pool.execute(
        """CREATE FUNCTION take_key() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW.dedupe_key = 'order-2' AND NEW.state = 'waiting' THEN RAISE unique_violation; END IF;
          RETURN NEW;
        END $$"""
    )
    await pool.execute("CREATE TRIGGER take BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION take_key()")
    operation = await one.inspector.operations.start(*by(Action.RETRY, states=(JobState.FAILED,)), "ann", None)
    await one.inspector.operations.work()
    ended = await one.inspector.operations.get(operation.id)
    assert (ended.state, ended.done, ended.failed) == ("completed", 4, 1)


async def test_an_operation_that_cannot_go_on_says_why_and_lets_others_work(make: Make, pool: Pool) -> None:
    one = await make()
    ids = await submitted(one, 2)
    await fail(pool, *ids)
    await pool.execute("ALTER TABLE jobs ADD CONSTRAINT never CHECK (state <> 'cancelled')")
    await pool.execute("UPDATE jobs SET state = 'delayed' WHERE id = $1", ids[0])
    operations = one.inspector.operations
    stuck = await operations.start(*by(Action.CANCEL, states=(JobState.DELAYED,)), "ann", None)
    other = await operations.start(*by(Action.RETRY, states=(JobState.FAILED,)), "ann", None)
    await operations.work()
    failed = await operations.get(stuck.id)
    assert (failed.state, "never" in (failed.error or "")) == ("failed", True)
    assert (await operations.get(other.id)).state == "completed"


async def test_cleaning_keeps_one_age_per_state_and_counts_both(make: Make, pool: Pool) -> None:
    one = await make()
    ids = await submitted(one, 6)
    await fail(pool, *ids[:3])
    await pool.execute("UPDATE jobs SET state = 'completed', finished_at = now() WHERE id = ANY ($1)", ids[3:5])
    await pool.execute("UPDATE jobs SET finished_at = now() - interval '2 days' WHERE id = ANY ($1)", ids[1:4])
    both = (JobState.COMPLETED, JobState.FAILED)
    assert await one.inspector.clean(QUEUE, 86_400, both, 2) == {JobState.COMPLETED: 1, JobState.FAILED: 1}
    assert await one.inspector.clean(QUEUE, 86_400, both, 100) == {JobState.COMPLETED: 0, JobState.FAILED: 1}
    left = [row["id"] for row in await pool.fetch("SELECT id FROM jobs ORDER BY id")]
    assert left == [ids[0], ids[4], ids[5]]
