"""Groups take turns: limits of each group, and fair order among them, in both modes (invariant H)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import asyncpg
import msgspec
import pytest
import redis.asyncio as redis_client
from structlog.testing import capture_logs

from gateway.infra.uuid7 import uuid7
from gateway.jobs.controls import LOOK_S, Controls
from gateway.jobs.errors import Fail, Retry, Snooze
from gateway.jobs.groups import LEAST_HEADS
from gateway.jobs.job import Inserted, JobState, NewJob
from gateway.jobs.operations import Action, Selection
from gateway.jobs.policy import StallPolicy
from gateway.jobs.search import JobFilter
from gateway.jobs.store import Settlement
from tests.support.engine import QUEUE, TASK, Replica, Script, policy, rate, replica
from tests.support.eventually import eventually

Pool = asyncpg.Pool


class Make(Protocol):
    async def __call__(self, **options: Any) -> Replica: ...


@pytest.fixture(params=["queue", "direct"])
async def make(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[Make]:
    url = request.getfixturevalue("redis_url") if request.param == "queue" else None
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Replica:
            return await stack.enter_async_context(replica(pool, url, patience_s=5, **options))

        yield start


class Watch:
    """A task that counts how many of each group run at once, and holds them until the test lets them go."""

    def __init__(self, *, held: bool = False) -> None:
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.started: list[tuple[str, int]] = []
        self.open = asyncio.Event()
        if not held:
            self.open.set()

    async def __call__(self, args: dict[str, Any], _context: object) -> None:
        group = args["group"]
        self.running[group] += 1
        self.most[group] = max(self.most[group], self.running[group])
        self.started.append((group, args["n"]))
        try:
            await self.open.wait()
            await asyncio.sleep(0.001)
        finally:
            self.running[group] -= 1


def jobs(group: str | None, number: int, **more: Any) -> list[NewJob]:
    return [
        NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"group": group, "n": n}, group=group, **more)
        for n in range(number)
    ]


async def turns(pool: Pool, group: str) -> tuple[int, int, int]:
    """How many of a group's jobs run, are ready, and are blocked."""
    (row,) = await pool.fetch(
        "SELECT count(*) FILTER (WHERE state = 'active') AS running, count(*) FILTER (WHERE state = 'waiting' AND NOT"
        " blocked) AS ready, count(*) FILTER (WHERE blocked) AS blocked FROM jobs WHERE group_key = $1",
        group,
    )
    return row["running"], row["ready"], row["blocked"]


async def at_rest(pool: Pool, group: str, running: int, ready: int, blocked: int) -> None:
    found: list[tuple[int, int, int]] = []

    async def same() -> bool:
        found.append(await turns(pool, group))
        return found[-1] == (running, ready, blocked)

    await eventually(same, 20)


async def test_no_group_runs_more_than_its_concurrency_on_three_replicas(make: Make) -> None:
    limited = policy(concurrency=6, group_concurrency=2)
    watch = Watch()
    replicas = [await make(queue=limited, script=Script(behave=watch), name=f"replica-{n}") for n in range(3)]
    await asyncio.gather(*(one.work() for one in replicas))
    await asyncio.gather(*(one.engine.submit_many(jobs(name, 40)) for one, name in zip(replicas, "abc", strict=True)))
    await asyncio.gather(*(replicas[0].engine.submit(job) for job in jobs("a", 20)))
    await eventually(lambda: len(watch.started) == 140, timeout=30)
    assert watch.most == {"a": 2, "b": 2, "c": 2}


async def test_jobs_without_a_group_are_not_held(make: Make, pool: Pool) -> None:
    watch = Watch(held=True)
    one = await make(queue=policy(concurrency=5, group_concurrency=1), script=Script(behave=watch))
    await one.work()
    await one.engine.submit_many([*jobs("a", 5), *jobs(None, 4)])
    await eventually(lambda: sum(watch.running.values()) == 5)
    assert watch.running == {"a": 1, None: 4}
    await at_rest(pool, "a", 1, 0, 4)
    watch.open.set()
    await eventually(lambda: len(watch.started) == 9)


async def test_a_killed_holder_s_place_is_free_only_after_its_rescue(make: Make, pool: Pool) -> None:
    stalls = StallPolicy(interval_ms=500)
    limited = policy(concurrency=3, group_concurrency=2)
    watch = Watch()
    dead = await make(queue=limited, stalls=stalls, name="dead")
    await dead.engine.submit_many(jobs("a", 8))
    await at_rest(pool, "a", 0, 2, 6)
    claimed = (await dead.store.claim_due(limited, 5)).jobs
    assert len(claimed) == 2
    one = await make(queue=limited, stalls=stalls, script=Script(behave=watch), maintain=True)
    await one.work()
    assert await turns(pool, "a") == (2, 0, 6)
    ids = [job.id for job in claimed]
    await pool.execute("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE id = ANY ($1)", ids)
    await eventually(lambda: len(one.settled("completed")) == 8, timeout=20)
    assert watch.most["a"] <= 2
    assert watch.started[0][1] in (0, 1)  # rescued ones keep their place in the group


async def test_a_late_group_s_job_waits_for_a_bounded_number_of_heads(make: Make, pool: Pool) -> None:
    watch = Watch()
    one = await make(queue=policy(concurrency=2), script=Script(behave=watch))
    await one.engine.submit_many(jobs("big", 2000))
    await at_rest(pool, "big", 0, LEAST_HEADS, 2000 - LEAST_HEADS)
    await one.engine.submit_many(jobs("small", 1))
    await at_rest(pool, "small", 0, 1, 0)
    await one.work()
    await eventually(lambda: ("small", 0) in watch.started)
    assert watch.started.index(("small", 0)) <= LEAST_HEADS + 2
    await one.engine.submit_many(jobs("late", 1))
    before = len(watch.started)
    await eventually(lambda: ("late", 0) in watch.started)
    assert watch.started.index(("late", 0)) <= before + LEAST_HEADS + 10


async def test_groups_take_turns_and_none_starves(make: Make, pool: Pool) -> None:
    watch = Watch()
    one = await make(queue=policy(concurrency=4), script=Script(behave=watch))
    for name in "abc":
        await one.engine.submit_many(jobs(name, 200))
        await at_rest(pool, name, 0, LEAST_HEADS, 200 - LEAST_HEADS)
    await one.work()
    await eventually(lambda: len(watch.started) == 600, timeout=30)
    middle = Counter(group for group, _ in watch.started[100:500])
    assert max(middle.values()) - min(middle.values()) <= 2 * LEAST_HEADS
    for name in "abc":
        order = [n for group, n in watch.started if group == name]
        # Slots overtake each other by a little. One that a busy machine holds up is overtaken by more: once for each.
        assert sum(abs(n - place) > 8 for place, n in enumerate(order)) <= one.workers[0].slots


async def test_priority_decides_inside_a_group_also_over_jobs_that_are_ready(make: Make, pool: Pool) -> None:
    watch = Watch(held=True)
    one = await make(queue=policy(concurrency=1, group_concurrency=2), script=Script(behave=watch))
    await one.work()
    await one.engine.submit_many(jobs("a", 4))
    await at_rest(pool, "a", 1, 1, 2)
    urgent = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"group": "a", "n": 10}, group="a", priority=9)
    await one.engine.submit(urgent)

    async def ready() -> bool:
        return bool(await pool.fetchval("SELECT NOT blocked FROM jobs WHERE id = $1", urgent.id))

    await eventually(ready)
    await at_rest(pool, "a", 1, 1, 3)
    watch.open.set()
    await eventually(lambda: len(watch.started) == 5)
    assert [n for _, n in watch.started] == [0, 10, 1, 2, 3]


async def test_D_a_group_s_rate_holds_over_two_replicas_and_goes_on_by_itself(make: Make, pool: Pool) -> None:
    limited = policy(concurrency=5, group_rate=rate(4, 700))
    script = Script()
    one = await make(queue=limited, script=script)
    two = await make(queue=limited, script=script, name="replica-2")
    await asyncio.gather(one.work(), two.work())
    await asyncio.gather(
        one.engine.submit_many(jobs("a", 12)),
        two.engine.submit_many(jobs("b", 9)),
        two.engine.submit_many(jobs("a", 2)),
    )
    await eventually(lambda: len(script.started) == 23, timeout=20)
    for group in "ab":
        starts = [
            row[0] for row in await pool.fetch("SELECT claimed_at FROM jobs WHERE group_key = $1 ORDER BY 1", group)
        ]
        for at, start in enumerate(starts[:-4]):
            assert starts[at + 4] - start > timedelta(milliseconds=700)


async def test_a_group_that_nobody_was_told_of_is_found_by_the_sweep(make: Make, pool: Pool) -> None:
    script = Script()
    one = await make(queue=policy(group_concurrency=1), script=script, maintain=True)
    await one.work()
    await pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts, group_key) SELECT gen_random_uuid(), $1, $2,"
        " 'waiting', '{}', 3, 'g' || n % 3 FROM generate_series(1, 9) n",
        QUEUE,
        TASK,
    )
    await eventually(lambda: len(script.started) == 9, timeout=15)


async def test_a_queue_with_many_groups_does_not_keep_another_s_waiting(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, asked = (await make()).groups, []
    many = [
        Inserted(id=uuid7(), queue="a", state=JobState.WAITING, priority=0, seq=n, group=f"g{n}") for n in range(300)
    ]

    async def give(queue: str, _keys: object) -> int:
        asked.append(queue)
        if len(asked) < 20:
            groups.moved(many)  # there are always more
        return 0

    monkeypatch.setattr(groups, "give", give)
    groups.moved([*many, msgspec.structs.replace(many[0], queue="b")])
    await eventually(lambda: "b" in asked)
    assert asked.index("b") == 1


async def test_a_sweep_comes_to_every_group_page_by_page(make: Make, pool: Pool) -> None:
    """Nobody was told of these jobs. Groups whose places are taken must not keep a sweep busy."""
    one = await make(queue=policy(group_concurrency=1))
    await pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts, group_key) SELECT gen_random_uuid(), $1, $2,"
        " 'waiting', '{}', 3, 'g' || 1000 + n % 1100 FROM generate_series(1, 2200) n",
        QUEUE,
        TASK,
    )
    await one.groups.sweep()
    assert await pool.fetchval("SELECT count(*) FROM jobs WHERE NOT blocked") == 1100, "all at once: each has its turn"
    await pool.execute("UPDATE jobs SET state = 'completed' WHERE group_key IN ('g1600', 'g2099') AND NOT blocked")
    for swept in (1098, 1099, 1100):  # 500 groups each time
        await one.groups.sweep()
        assert await pool.fetchval("SELECT count(*) FROM jobs WHERE NOT blocked AND state = 'waiting'") == swept


async def test_what_comes_back_goes_through_the_gate_again(make: Make, pool: Pool) -> None:
    """Retried, snoozed, handed back, delayed and promoted, retried by hand, alone and many, rescheduled, replayed."""
    one = await make(queue=policy(concurrency=5, group_concurrency=1, backoff_ms=1, attempts=1), maintain=True)
    endings = [Retry("again", after_s=0.05), Snooze("rest", after_s=0.05), Fail("no"), None]
    seen: Counter[int] = Counter()
    watch = Watch()

    async def behave(args: dict[str, Any], context: Any) -> None:
        await watch(args, context)
        end = endings[args["n"] % 4]
        seen[args["n"]] += 1
        if end is not None and seen[args["n"]] == 1:
            raise end

    one.script.behave = behave
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    await one.engine.submit_many([*jobs("a", 8, max_attempts=3), *jobs("a", 2, run_at=soon)])
    await one.work()
    assert one.engine.registry.queue(QUEUE).group_concurrency == 1

    async def states() -> dict[str, int]:
        rows = await pool.fetch("SELECT state, count(*) AS n FROM jobs GROUP BY 1")
        return {row["state"]: row["n"] for row in rows}

    async def ended() -> bool:
        found = await states()
        return found.get("failed", 0) + found.get("completed", 0) == 10

    await eventually(ended, timeout=20)
    failed = [job.id for job in await one.engine.failed(QUEUE, 10)]
    await one.engine.retry(failed[0])
    await one.inspector.operations.start(
        Action.RETRY, Selection(queue=QUEUE, filter=JobFilter(states=(JobState.FAILED,))), "test", None
    )
    await eventually(ended, timeout=20)
    later = (await one.engine.submit_many(jobs("a", 3, run_at=datetime.now(UTC) + timedelta(hours=1))))[0]
    await one.inspector.promote(later.id)
    await one.inspector.operations.start(
        Action.PROMOTE, Selection(queue=QUEUE, filter=JobFilter(states=(JobState.DELAYED,))), "test", None
    )

    async def all_completed() -> bool:
        return await states() == {"completed": 13}

    await eventually(all_completed, timeout=20)
    assert watch.most == {"a": 1}


async def test_replayed_handed_back_and_rescheduled_jobs_are_blocked_until_their_turn(make: Make, pool: Pool) -> None:
    limited = policy(group_concurrency=1)
    one = await make(queue=limited)
    first, second = await one.engine.submit_many(jobs("a", 2))
    await at_rest(pool, "a", 0, 1, 1)
    later = datetime.now(UTC) + timedelta(hours=1)
    await one.engine.reschedule(first.id, later)
    await at_rest(pool, "a", 0, 1, 0)  # its turn went to the second
    await one.engine.reschedule(first.id, datetime.now(UTC))
    await at_rest(pool, "a", 0, 1, 1)
    (job,) = (await one.store.claim_due(limited, 5)).jobs
    assert job.id == second.id
    await one.executor.hand_back([job])
    await at_rest(pool, "a", 0, 1, 1)
    (job,) = (await one.store.claim_due(limited, 5)).jobs
    assert job.id == first.id  # the second waits in its place of the group again, behind the first
    await one.store.settle([Settlement(id=job.id, fence=job.fence, state=JobState.FAILED, error="no")])
    again = await one.inspector.replay(first.id, {"group": "a", "n": 0})
    assert again.group == "a"
    await at_rest(pool, "a", 0, 1, 1)


async def test_a_cancelled_ready_job_s_turn_goes_to_the_next(make: Make, pool: Pool) -> None:
    one = await make(queue=policy(group_concurrency=1))
    first, second, third = await one.engine.submit_many(jobs("a", 3))
    await at_rest(pool, "a", 0, 1, 2)
    await one.engine.cancel(first.id, "not wanted")
    await at_rest(pool, "a", 0, 1, 1)
    await one.engine.cancel(third.id, "not wanted")
    assert (await one.engine.get(third.id)).blocked is False
    assert (await one.engine.get(second.id)).blocked is False
    await at_rest(pool, "a", 0, 1, 0)


async def test_a_changed_limit_holds_within_five_seconds_also_for_what_is_ready(make: Make, pool: Pool) -> None:
    watch = Watch(held=True)
    one = await make(queue=policy(concurrency=2), script=Script(behave=watch), maintain=True)
    controls = Controls(pool, one.engine.registry, one.dispatcher)
    await controls.start()
    await one.engine.submit_many(jobs("a", 10))
    await at_rest(pool, "a", 0, 10, 0)
    await pool.execute("INSERT INTO queue_overrides (queue, changes) VALUES ($1, $2)", QUEUE, {"group_concurrency": 1})
    assert 2 * LOOK_S < 5, "what keeps the promise is how often they look; a busy machine may need longer"
    await at_rest(pool, "a", 0, 1, 9)
    await one.work()
    await eventually(lambda: watch.running["a"] == 1)
    await at_rest(pool, "a", 1, 0, 9)
    await controls.change(QUEUE, {"group_concurrency": 2})
    await eventually(lambda: watch.running["a"] == 2)
    await controls.change(QUEUE, {"group_concurrency": 0})
    await at_rest(pool, "a", 2, 8, 0)
    watch.open.set()
    await eventually(lambda: len(watch.started) == 10)
    assert watch.most["a"] == 2
    await controls.stop()


async def test_a_flush_of_redis_loses_no_turn(pool: Pool, redis_url: str) -> None:
    watch = Watch(held=True)
    limited = policy(concurrency=2, group_concurrency=2)
    async with replica(pool, redis_url, patience_s=5, queue=limited, script=Script(behave=watch), maintain=True) as one:
        await one.work()
        await one.engine.submit_many([*jobs("a", 6), *jobs("b", 6)])
        await eventually(lambda: sum(watch.running.values()) == 2)
        async with redis_client.Redis.from_url(redis_url) as client:
            await client.flushall()
        watch.open.set()
        await eventually(lambda: len(watch.started) == 12, timeout=20)
        assert max(watch.most.values()) <= 2


async def test_redis_hears_of_ready_jobs_only(pool: Pool, redis_url: str) -> None:
    async with replica(pool, redis_url, patience_s=5, queue=policy(group_concurrency=3)) as one:
        await one.engine.submit_many(jobs("a", 50))
        await at_rest(pool, "a", 0, 3, 47)
        broker = one.dispatcher.redis
        assert broker is not None

        async def told() -> bool:
            return (await broker.ready(QUEUE))[0] == 3

        await eventually(told)
        await one.engine.rebuild(QUEUE)
        await one.keeper.relay()
        assert await told()


async def test_blocked_jobs_do_not_have_redis_told_everything_again_and_lost_ones_do(
    pool: Pool, redis_url: str
) -> None:
    """Redis knows fewer jobs than wait, for good; telling it a long queue every six seconds would help nobody."""
    async with replica(pool, redis_url, patience_s=5, queue=policy(group_concurrency=1)) as one:
        await one.engine.submit_many(jobs(None, 2500))
        await one.engine.submit_many(jobs("a", 1500))
        await at_rest(pool, "a", 0, 1, 1499)
        await one.keeper.relay()  # for the first time: it was never told the whole queue
        with capture_logs() as lines:
            for _ in range(7):
                await one.keeper.relay()
        assert not lines
        client = redis_client.Redis.from_url(redis_url)
        assert one.dispatcher.redis is not None
        await client.delete(one.dispatcher.redis.key(QUEUE, "ready"))
        await client.aclose()
        await one.keeper.relay()
        assert (await one.dispatcher.redis.ready(QUEUE))[0] == 2501


async def test_blocked_jobs_count_as_waiting(make: Make, pool: Pool) -> None:
    one = await make(queue=policy(group_concurrency=1))
    await one.engine.submit_many(jobs("a", 7))
    await at_rest(pool, "a", 0, 1, 6)
    assert (await one.engine.counts(QUEUE)).waiting == 7
