"""Changing queues and replicas while they run, in both modes (invariant H)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.jobs.controls import LOOK_S, Controls
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.errors import QueueFull
from gateway.jobs.job import JobState, NewJob
from gateway.jobs.presence import HAND_BACK_S, Identity, Presence
from gateway.jobs.waiting import Reason, Waiting
from tests.support.engine import QUEUE, TASK, Replica, Script, policy, rate, replica
from tests.support.eventually import eventually

Pool = asyncpg.Pool
PROMISED_S = 5.0  # until all replicas go by a change
ADOPTED_S = 20.0  # the same on a busy machine: what keeps the promise is how often they look


_CONTROLS: WeakKeyDictionary[Dispatcher, Controls] = WeakKeyDictionary()


class Make(Protocol):
    async def __call__(self, **options: Any) -> Replica: ...


@pytest.fixture(params=["queue", "direct"])
async def make(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[Make]:
    """Start replicas on one ledger that read the controls, in queue mode or in direct mode."""
    url = request.getfixturevalue("redis_url") if request.param == "queue" else None
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Replica:
            made = await stack.enter_async_context(replica(pool, url, patience_s=5, **options))
            controls = controls_of(made, pool)
            await controls.start()
            stack.push_async_callback(controls.stop)
            return made

        yield start


def controls_of(one: Replica, pool: Pool) -> Controls:
    """The replica's own: of two that read for themselves the one that read first may apply it last."""
    controls = _CONTROLS.get(one.dispatcher)
    if controls is None:
        controls = _CONTROLS[one.dispatcher] = Controls(pool, one.engine.registry, one.dispatcher)
        for worker in one.workers:
            controls.watch(worker.policy.name, worker.adopt)
    return controls


class Gate:
    """A task that is held until the test lets it go, and counts how many run at once."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.running = 0
        self.most = 0

    async def __call__(self, _args: dict[str, Any], _context: object) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
        finally:
            self.running -= 1


def jobs(number: int) -> list[NewJob]:
    return [NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}) for n in range(number)]


async def change(one: Replica, pool: Pool, **changes: int | None) -> None:
    """As a replica that is asked for it: it goes by it at once."""
    await controls_of(one, pool).change(QUEUE, changes)


async def no_claim_under_way(one: Replica) -> None:
    """What was begun before a change goes by what was: it may still bring jobs that come now."""
    await eventually(lambda: one.dispatcher.fetching_s == 0)


def test_replicas_look_often_enough_to_keep_the_promise() -> None:
    assert 2 * LOOK_S < PROMISED_S


async def test_more_slots_open_on_all_replicas_within_five_seconds(make: Make, pool: Pool) -> None:
    gates = [Gate(), Gate()]
    one = await make(queue=policy(concurrency=1), script=Script(behave=gates[0]))
    two = await make(queue=policy(concurrency=1), script=Script(behave=gates[1]), name="replica-2")
    await asyncio.gather(one.work(), two.work())
    await one.engine.submit_many(jobs(20))
    await eventually(lambda: [gate.running for gate in gates] == [1, 1])
    await pool.execute("INSERT INTO queue_overrides (queue, changes) VALUES ($1, $2)", QUEUE, {"concurrency": 4})
    await eventually(lambda: [gate.running for gate in gates] == [4, 4], timeout=ADOPTED_S)
    for gate in gates:
        gate.open.set()
    await eventually(lambda: len(one.settled("completed")) + len(two.settled("completed")) == 20)


async def test_fewer_slots_kill_no_job_and_are_not_refilled(make: Make, pool: Pool) -> None:
    gate = Gate()
    one = await make(queue=policy(concurrency=5), script=Script(behave=gate))
    await one.work()
    await one.engine.submit_many(jobs(12))
    await eventually(lambda: gate.running == 5)
    await change(one, pool, concurrency=2)
    assert one.workers[0].slots == 2
    assert gate.running == 5
    later = Gate()
    one.script.behave = later
    gate.open.set()
    await eventually(lambda: gate.running == 0 and later.running == 2)
    later.open.set()
    await eventually(lambda: len(one.settled("completed")) == 12)
    assert later.most == 2
    assert not one.settled("interrupted")


async def test_free_slots_beyond_the_new_number_close_and_open_again(make: Make, pool: Pool) -> None:
    gate = Gate()
    one = await make(queue=policy(concurrency=5), script=Script(behave=gate))
    await one.work()
    slots = one.workers[0]._worker.tasks
    await change(one, pool, concurrency=1)
    await eventually(lambda: len(slots) == 1)  # a claim under way has its slots until it comes back empty
    await one.engine.submit_many(jobs(8))
    await eventually(lambda: gate.running == 1)
    await change(one, pool, concurrency=3)
    await eventually(lambda: gate.running == 3)
    await change(one, pool, concurrency=None)
    await eventually(lambda: gate.running == 5)
    assert gate.most == 5
    gate.open.set()
    await eventually(lambda: len(one.settled("completed")) == 8)


async def test_D_a_raised_rate_limit_starts_held_jobs_within_five_seconds(make: Make, pool: Pool) -> None:
    limited = policy(rate=rate(1, 60_000), concurrency=20)
    script = Script()
    one = await make(queue=limited, script=script)
    two = await make(queue=limited, script=script, name="replica-2")
    await asyncio.gather(one.work(), two.work())
    await one.engine.submit_many(jobs(15))
    await eventually(lambda: len(script.started) == 1)
    overrides = {"rate_max": 10, "rate_duration_ms": 60_000}
    await pool.execute("INSERT INTO queue_overrides (queue, changes) VALUES ($1, $2)", QUEUE, overrides)
    await eventually(lambda: len(script.started) == 10, timeout=ADOPTED_S)
    await change(one, pool, rate_max=12)
    await eventually(lambda: len(script.started) == 12, timeout=ADOPTED_S)
    counts = await one.engine.counts(QUEUE)
    assert (counts.completed + counts.active, counts.waiting) == (12, 3)


async def test_D_a_lowered_rate_limit_holds_at_the_next_claim(make: Make, pool: Pool) -> None:
    script = Script()
    one = await make(queue=policy(rate=rate(100, 60_000)), script=script)
    await one.work()
    await change(one, pool, rate_max=3, rate_duration_ms=60_000)
    await no_claim_under_way(one)
    await one.engine.submit_many(jobs(10))
    await eventually(lambda: len(script.started) == 3)
    status = await one.engine.queue_status(QUEUE)
    assert status.policy.rate == rate(3, 60_000)
    no_worker, limited = await Waiting(pool).of_queue(status, [])
    assert (no_worker.reason, limited.reason) == (Reason.NO_WORKER, Reason.LIMITED)
    first = await pool.fetchval("SELECT min(claimed_at) FROM jobs")
    assert limited.until is not None
    assert timedelta(seconds=60) <= limited.until - first < timedelta(seconds=61)
    assert len(script.started) == 3


def presence_of(one: Replica, name: str) -> Presence:
    return Presence(one.records, one.dispatcher, one.workers, Identity(name, "all", {}))


async def test_attempts_and_back_off_of_new_jobs_follow_the_change(make: Make, pool: Pool) -> None:
    async def fail(_args: dict[str, Any], _context: object) -> None:
        raise RuntimeError("no luck")

    one = await make(script=Script(behave=fail))
    await change(one, pool, attempts=2, backoff_ms=10_000)
    await one.work()
    job_id = await one.submit(1)
    await eventually(lambda: one.settled("error"))
    job = await one.engine.get(job_id)
    assert (job.state, job.max_attempts) == (JobState.DELAYED, 2)
    wait = await pool.fetchval("SELECT extract(epoch FROM run_at - now()) FROM jobs WHERE id = $1", job_id)
    assert 5 < wait <= 11


async def test_retention_follows_the_change(make: Make, pool: Pool) -> None:
    one = await make()
    await one.work()
    await one.engine.submit_many(jobs(6))
    await eventually(lambda: len(one.settled("completed")) == 6)
    await change(one, pool, completed_retention_count=2)
    await one.keeper.prune()
    assert (await one.engine.counts(QUEUE)).completed == 2


async def test_a_change_is_there_after_a_restart_and_null_takes_it_back(make: Make, pool: Pool) -> None:
    one = await make(queue=policy(concurrency=5))
    await change(one, pool, concurrency=7, attempts=9)
    await change(one, pool, attempts=None)
    two = await make(queue=policy(concurrency=5), name="replica-2")
    await two.work()
    assert (two.workers[0].slots, two.engine.registry.queue(QUEUE).attempts) == (7, 3)
    assert two.engine.registry.declared(QUEUE).concurrency == 5
    await change(two, pool, concurrency=None)
    assert two.engine.registry.queue(QUEUE) == policy(concurrency=5)


async def test_an_override_that_makes_no_sense_changes_nothing(make: Make, pool: Pool) -> None:
    one = await make()
    await pool.execute("INSERT INTO queue_overrides (queue, changes) VALUES ($1, $2)", QUEUE, {"concurrency": 0})
    await controls_of(one, pool).refresh()
    assert one.engine.registry.queue(QUEUE).concurrency == 5
    await change(one, pool, concurrency=6)
    assert one.engine.registry.queue(QUEUE).concurrency == 6


async def test_a_pause_ends_by_itself_on_all_replicas(make: Make, pool: Pool) -> None:
    gates = [Gate(), Gate()]
    one = await make(queue=policy(concurrency=2), script=Script(behave=gates[0]))
    two = await make(queue=policy(concurrency=2), script=Script(behave=gates[1]), name="replica-2")
    await asyncio.gather(one.work(), two.work())
    until = datetime.now(UTC) + timedelta(seconds=3)
    status = await one.engine.pause(QUEUE, until=until, reason="the provider rests")
    assert (status.paused, status.paused_until) == (True, until)
    await one.engine.submit_many(jobs(4))
    [why, _] = await Waiting(pool).of_queue(await one.engine.queue_status(QUEUE), [])
    assert (why.reason, why.until) == (Reason.PAUSED, until)
    await eventually(lambda: [gate.running for gate in gates] == [2, 2], timeout=ADOPTED_S)
    first = await pool.fetchval("SELECT min(claimed_at) FROM jobs")
    assert until <= first < until + timedelta(seconds=10)
    assert not (await one.engine.queue_status(QUEUE)).paused
    for gate in gates:
        gate.open.set()
    await eventually(lambda: len(one.settled("completed")) + len(two.settled("completed")) == 4)


async def test_a_drained_replica_takes_no_job_and_finishes_its_own(make: Make, pool: Pool) -> None:
    gate = Gate()
    one = await make(queue=policy(concurrency=2), script=Script(behave=gate))
    await one.work()
    presence = presence_of(one, "replica-1")
    await presence.start()
    try:
        running = await one.submit("mine")
        await eventually(lambda: gate.running == 1)
        controls = controls_of(one, pool)
        assert not await controls.request_drain("nobody")
        assert await controls.request_drain("replica-1")
        assert [found.draining for found in await one.engine.replicas()] == [True]
        await eventually(lambda: presence.draining and one.workers[0].slots == 0)
        await no_claim_under_way(one)
        left = await one.submit("another's")
        gate.open.set()
        await eventually(lambda: one.settled("completed"))
        assert (await one.engine.get(running)).state is JobState.COMPLETED
        assert (await one.engine.get(left)).state is JobState.WAITING
        reasons = await Waiting(pool).of_queue(await one.engine.queue_status(QUEUE), await one.engine.replicas())
        assert [why.reason for why in reasons] == [Reason.NO_WORKER]
        two = await make(name="replica-2")
        await two.work()
        await eventually(lambda: two.settled("completed"))
    finally:
        await presence.stop()


async def test_a_replica_that_must_go_hands_back_what_cannot_end_in_time(
    make: Make, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.presence.BEAT_S", 0.05)
    gate = Gate()
    one = await make(queue=policy(concurrency=2), script=Script(behave=gate))
    await one.work()
    presence = presence_of(one, "replica-1")
    await presence.start()
    try:
        job_id = await one.submit("slow")
        await eventually(lambda: gate.running == 1)
        controls = controls_of(one, pool)
        assert await controls.request_drain("replica-1", 3600)
        await eventually(lambda: presence.leaving is not None)
        assert gate.running == 1, "it may still end"
        assert await controls.request_drain("replica-1", HAND_BACK_S)
        await eventually(lambda: gate.running == 0)
        await eventually(lambda: one.settled("interrupted"))
        job = await one.engine.get(job_id)
        assert (job.state, job.attempts, job.stalls) == (JobState.WAITING, 0, 0)
        gate.open.set()
        two = await make(name="replica-2")
        await two.work()
        await eventually(lambda: two.settled("completed"))
    finally:
        await presence.stop()


async def test_a_full_queue_refuses_until_there_is_room(make: Make) -> None:
    one = await make(queue=policy(max_waiting=3, rate=rate(100, 7000)))
    await one.engine.backlog.start()
    try:
        await one.submit("later", run_at=datetime.now(UTC) + timedelta(hours=1))
        await one.engine.submit_many(jobs(2))
        with pytest.raises(QueueFull) as refused:
            await one.submit("too many")
        assert (refused.value.most, refused.value.retry_after_s) == (3, 7)
        await one.engine.backlog.refresh()
        with pytest.raises(QueueFull):
            await one.engine.submit_many(jobs(1))
        await one.work()
        await eventually(lambda: len(one.settled("completed")) == 2)
        await eventually(lambda: _is_admitted(one), timeout=10)
    finally:
        await one.engine.backlog.stop()


async def _is_admitted(one: Replica) -> bool:
    try:
        await one.submit("room")
    except QueueFull:
        return False
    return True


async def test_why_a_job_waits(make: Make, pool: Pool) -> None:
    gate = Gate()
    one = await make(queue=policy(concurrency=1), script=Script(behave=gate))
    await one.work()
    presence = presence_of(one, "replica-1")
    await presence.start()
    try:
        await one.submit("running")
        await eventually(lambda: gate.running == 1)
        first, urgent = await one.submit("first"), await one.submit("urgent", priority=10)
        last = await one.submit("last")
        later = await one.submit("later", run_at=datetime.now(UTC) + timedelta(hours=1))
        status, replicas = await one.engine.queue_status(QUEUE), await one.engine.replicas()

        async def why(job_id: Any) -> list[tuple[Reason, int | None]]:
            job = await one.engine.get(job_id)
            return [(each.reason, each.ahead) for each in await Waiting(pool).of_job(job, status, replicas)]

        assert await why(urgent) == [(Reason.BUSY, None)]
        assert await why(first) == [(Reason.BUSY, None), (Reason.BEHIND, 1)]
        assert await why(last) == [(Reason.BUSY, None), (Reason.BEHIND, 2)]
        assert await why(later) == [(Reason.SCHEDULED, None)]
    finally:
        gate.open.set()
        await presence.stop()
