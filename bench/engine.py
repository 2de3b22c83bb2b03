"""The engine alone: submit, drain, pick-up latency, cost by backlog, loss of Redis."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bench import contestant
from bench.cost import Measure, cost
from bench.rig import QUEUE, TASK, TEXT, Rig, job, rig
from bench.servers import Stores, fresh_ledger

_FILL = """
INSERT INTO jobs (id, queue, task, state, args, max_attempts)
SELECT gen_random_uuid(), $1, $2, 'waiting', jsonb_build_object('n', n, 'text', $3::text), 3
FROM generate_series(1, $4::int) AS n
"""


async def submit(on: Stores, *, mode: str, jobs: int) -> Measure:
    """Single submits, 50 in flight: each is a committed row when its call returns."""
    return await _submit(on, mode, jobs, lambda made: made.submit(jobs))


async def bulk(on: Stores, *, mode: str, jobs: int) -> Measure:
    """``submit_many`` of 500, one call after the other."""
    return await _submit(on, mode, jobs, lambda made: made.submit_bulk(jobs))


async def _submit(on: Stores, mode: str, jobs: int, calls: Callable[[Rig], Awaitable[None]]) -> Measure:
    async with rig(on, mode=mode) as made:
        await made.submit(200)  # connections open, statements are prepared
        with cost(on, jobs) as measured:
            await calls(made)
        return {"mode": mode, **measured}


async def drain(on: Stores, *, mode: str, concurrency: int, jobs: int) -> Measure:
    """From the first fetch to the last settlement, each job claimed and settled in the ledger."""
    async with rig(on, mode=mode, concurrency=concurrency) as made:
        await made.submit_bulk(jobs)
        with cost(on, jobs) as measured:
            await made.worker.start()
            await made.until(jobs)
        assert made.started == len(made.begun) == jobs
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return {"mode": mode, "concurrency": concurrency, **measured, "rss_mib": peak}


async def latency(on: Stores, *, mode: str, jobs: int) -> Measure:
    """From the call of submit to the first line of the task, one job each 10 ms, in milliseconds. In queue mode one
    process submits and another works; in direct mode one process does both (another would notice by polling)."""
    if mode == "queue":
        async with fresh_ledger(on) as url:
            return {"mode": mode, "processes": 2, **await contestant.paced(url, on.redis_url, jobs)}
    async with rig(on, mode=mode) as made:
        await made.worker.start()
        await made.submit_paced(jobs)
        await made.until(jobs)
        return {"mode": mode, "processes": 1, **contestant.waits(made.waits_ms)}


async def backlog(on: Stores, *, mode: str, small: int, large: int, jobs: int) -> Measure:
    """The same ``jobs`` drained with a small and with a large backlog behind them (invariant I)."""
    found: Measure = {"mode": mode, "small": small, "large": large}
    for name, size in (("small", small), ("large", large)):
        async with _filled(on, mode, size + 2 * jobs) as made:
            await made.worker.start()
            await made.until(jobs)  # connections, statements, caches
            already = made.settled
            with cost(on, jobs) as paid:
                await made.until(already + jobs)
            found[f"{name}_per_s"] = paid["per_s"]
            found[f"{name}_cpu_us"] = sum(value for key, value in paid.items() if key.endswith("_cpu_us"))
    found["ratio"] = round(found["small_per_s"] / found["large_per_s"], 2)
    found["cpu_ratio"] = round(found["large_cpu_us"] / max(1, found["small_cpu_us"]), 2)
    return found


@asynccontextmanager
async def _filled(on: Stores, mode: str, size: int) -> AsyncIterator[Rig]:
    """A rig before ``size`` waiting jobs: written by one statement, told to Redis as after a loss of Redis."""
    async with rig(on, mode=mode, concurrency=50) as made:
        await made.pool.execute(_FILL, QUEUE, TASK, TEXT, size, timeout=300)
        # What autovacuum and the checkpointer would do minutes after such a burst must not run beside the measure.
        await made.pool.execute("VACUUM (ANALYZE) jobs", timeout=300)
        await made.pool.execute("CHECKPOINT", timeout=300)
        if made.dispatcher.redis is not None:
            after = 0
            while page := await made.store.waiting_page(QUEUE, 0, after, 5000):
                await made.dispatcher.redis.offer(page)
                after = page[-1].seq
        yield made


async def failover(on: Stores) -> Measure:
    """One job each 10 ms throughout. Seconds until the next job starts after Redis was killed (or only stopped
    answering), and until Redis dispatches again after it is back."""
    found: Measure = {}
    for name in ("killed", "hung"):
        async with rig(on, mode="queue") as made:
            await made.worker.start()
            producer = asyncio.create_task(_endless(made))
            await made.until(20)
            (on.valkey.kill if name == "killed" else on.valkey.pause)()
            found[f"{name}_to_direct_s"] = round(await _next_start(made), 3)
            await made.until(made.settled + 20)
            back = time.perf_counter()
            if name == "killed":
                on.valkey.start(appendonly=True)
            else:
                on.valkey.resume()
            while made.engine.mode != "queue":
                await asyncio.sleep(0.005)
            found[f"{name}_back_to_queue_s"] = round(time.perf_counter() - back, 2)
            await made.until(made.settled + 20)
            producer.cancel()
            await asyncio.gather(producer, return_exceptions=True)
    return found


async def _endless(made: Rig) -> None:
    for n in range(1_000_000):
        await made.engine.submit(job(n))
        await asyncio.sleep(0.01)


async def _next_start(made: Rig) -> float:
    """Seconds from now until a job starts that was claimed after now, without Redis."""
    now = time.perf_counter()
    while made.engine.mode != "direct":
        await asyncio.sleep(0.001)
    started = made.started
    while made.started == started:
        await asyncio.sleep(0.001)
    return time.perf_counter() - now
