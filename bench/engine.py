"""The engine alone: submit, drain, pick-up latency, and cost by backlog. No-op task, arguments of about 200 bytes."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from bench.servers import Stores, fresh_ledger
from gateway.infra.postgres import open_pool
from gateway.infra.redis import blocking_client, command_client
from gateway.infra.uuid7 import uuid7
from gateway.jobs.direct_broker import DirectBroker
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.engine import Engine
from gateway.jobs.events import Event, Events, JobSettled
from gateway.jobs.executor import Executor
from gateway.jobs.job import NewJob
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.records import Records
from gateway.jobs.redis_broker import BLOCK_S, RedisBroker
from gateway.jobs.registry import Registry, Task, TaskContext
from gateway.jobs.store import Store
from gateway.jobs.unique import UniqueJobs
from gateway.jobs.worker import QueueWorker

QUEUE, TASK = "bench-queue", "bench.noop"
PAYLOAD = {"text": "x" * 170}
Measure = dict[str, Any]


class Rig:
    """An engine of one replica in this process; counts what settled and notes when each job began."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], concurrency: int) -> None:
        self.pool = pool
        self.settled = 0
        self.begun: dict[str, float] = {}
        self._target = 0
        self._reached = asyncio.Event()
        policy = QueuePolicy(
            name=QUEUE, concurrency=concurrency, rate=None, attempts=3, backoff_ms=60_000, timeout_s=30
        )
        registry = Registry()
        registry.add_queue(policy)
        registry.add_task(Task(TASK, QUEUE, dict, self._perform))
        events = Events()
        events.subscribe(self._count)
        self.store = Store(pool, "bench", 30_000)
        self.dispatcher = Dispatcher(DirectBroker(self.store), events)
        self.executor = Executor(registry, self.store, self.dispatcher, events)
        self.engine = Engine(registry, self.store, Records(pool), self.dispatcher, UniqueJobs(pool, self.store))
        self.worker = QueueWorker(policy, self.dispatcher, self.executor, events)

    async def _perform(self, args: dict[str, Any], context: TaskContext) -> None:
        self.begun[str(context.job.id)] = time.perf_counter()

    def _count(self, event: Event) -> None:
        if isinstance(event, JobSettled):
            self.settled += 1
            if self.settled >= self._target:
                self._reached.set()

    async def until(self, settled: int) -> None:
        self._target = settled
        self._reached.clear()
        if self.settled < settled:
            await self._reached.wait()


@asynccontextmanager
async def rig(on: Stores, *, mode: str, concurrency: int = 10) -> AsyncIterator[Rig]:
    async with fresh_ledger(on) as url:
        pool = await open_pool(url, min_size=10, max_size=10)
        clients = [command_client(on.redis_url), blocking_client(on.redis_url, BLOCK_S)] if mode == "queue" else []
        made = Rig(pool, concurrency)
        await made.store.ensure_queues([QUEUE])
        if clients:
            made.dispatcher.attach(RedisBroker(made.store, clients[0], clients[1], await made.store.ledger_id()))
        await made.dispatcher.start()
        try:
            yield made
        finally:
            await made.worker.stop()
            await made.dispatcher.stop()
            for client in clients:
                await client.aclose()
            await pool.close()


def _job() -> NewJob:
    return NewJob(id=uuid7(), queue=QUEUE, task=TASK, args=PAYLOAD)


async def _fill(made: Rig, jobs: int) -> None:
    for _ in range(0, jobs, 1000):
        await made.engine.submit_many([_job() for _ in range(1000)])


async def submit(on: Stores, *, mode: str = "queue", jobs: int = 5000) -> Measure:
    """Single submits, 50 in flight: each is a committed row when its call returns."""
    async with rig(on, mode=mode) as made:
        left = iter(range(jobs))

        async def producer() -> None:
            for _ in left:
                await made.engine.submit(_job())

        started = time.perf_counter()
        await asyncio.gather(*(producer() for _ in range(50)))
        return {"mode": mode, "jobs": jobs, "per_s": round(jobs / (time.perf_counter() - started))}


async def drain(on: Stores, *, mode: str = "queue", concurrency: int = 10, jobs: int = 10_000) -> Measure:
    """From the first start to the last settlement, each job claimed and settled in the ledger."""
    async with rig(on, mode=mode, concurrency=concurrency) as made:
        await _fill(made, jobs)
        cpu = time.process_time()
        started = time.perf_counter()
        await made.worker.start()
        await made.until(jobs)
        took, cpu = time.perf_counter() - started, time.process_time() - cpu
        assert len(made.begun) == jobs
        return {
            "mode": mode,
            "concurrency": concurrency,
            "jobs": jobs,
            "per_s": round(jobs / took),
            "worker_cpu_us": round(cpu / jobs * 1e6),
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


async def latency(on: Stores, *, mode: str = "queue", jobs: int = 300) -> Measure:
    """From the call of submit to the first line of the task, one job at a time on an idle queue, in milliseconds."""
    async with rig(on, mode=mode) as made:
        await made.worker.start()
        waits = []
        for done in range(1, jobs + 1):
            job, asked = _job(), time.perf_counter()
            await made.engine.submit(job)
            await made.until(done)
            waits.append((made.begun[str(job.id)] - asked) * 1000)
        waits.sort()
        return {"mode": mode, "p50_ms": round(waits[jobs // 2], 2), "p99_ms": round(waits[int(jobs * 0.99)], 2)}


async def backlog(on: Stores, *, mode: str = "queue", small: int = 1000, large: int = 100_000) -> Measure:
    """The same 1,000 jobs drained in front of a small and of a large backlog (invariant I): ratio of the times."""
    took = {}
    for size in (small, large):
        async with rig(on, mode=mode, concurrency=50) as made:
            await _fill(made, size + 1000)
            started = time.perf_counter()
            await made.worker.start()
            await made.until(1000)
            took[size] = time.perf_counter() - started
    return {
        "mode": mode,
        "small": small,
        "large": large,
        "small_per_s": round(1000 / took[small]),
        "large_per_s": round(1000 / took[large]),
        "ratio": round(took[large] / took[small], 2),
    }
