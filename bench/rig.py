"""One replica of the engine in this process, with a task that does nothing and arguments of about 200 bytes."""

from __future__ import annotations

import asyncio
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
from gateway.jobs.leases import LeaseKeeper
from gateway.jobs.policy import QueuePolicy, StallPolicy
from gateway.jobs.records import Records
from gateway.jobs.redis_broker import BLOCK_S, RedisBroker
from gateway.jobs.registry import Registry, Task, TaskContext
from gateway.jobs.reporter import Reporter
from gateway.jobs.store import Store
from gateway.jobs.unique import UniqueJobs
from gateway.jobs.worker import QueueWorker
from gateway.settings import redis_target

QUEUE, TASK = "bench-queue", "bench.noop"
TEXT = "x" * 170


class Rig:
    """Counts what started and settled, and how long jobs waited that say when they were ``asked`` for.

    ``begun``: Unix seconds of each job's start, by ``n`` of its arguments.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], concurrency: int) -> None:
        self.pool = pool
        self.started = self.settled = 0
        self.begun: dict[int, float] = {}
        self.waits_ms: list[float] = []
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
        stalls = StallPolicy()
        self.store = Store(pool, "bench", stalls.lease_ms)
        self.dispatcher = Dispatcher(DirectBroker(self.store), events)
        self.executor = Executor(registry, self.store, self.dispatcher, events, Reporter(pool, events))
        self.leases = LeaseKeeper(self.executor, self.store, self.dispatcher, stalls)
        self.engine = Engine(registry, self.store, Records(pool), self.dispatcher, UniqueJobs(pool, self.store))
        self.worker = QueueWorker(policy, self.dispatcher, self.executor, events)

    async def _perform(self, args: dict[str, Any], context: TaskContext) -> None:
        now = time.time()
        self.started += 1
        self.begun[args["n"]] = now
        if "asked" in args:
            self.waits_ms.append((now - args["asked"]) * 1000)

    def _count(self, event: Event) -> None:
        if isinstance(event, JobSettled):
            self.settled += 1
            if self.settled >= self._target:
                self._reached.set()

    async def until(self, settled: int) -> None:
        """Returns when that many jobs are settled since the start."""
        self._target = settled
        self._reached.clear()
        if self.settled < settled:
            await self._reached.wait()

    async def submit(self, jobs: int, in_flight: int = 50) -> None:
        """One by one, so many calls at a time."""
        numbers = iter(range(jobs))

        async def producer() -> None:
            for n in numbers:
                await self.engine.submit(job(n))

        await asyncio.gather(*(producer() for _ in range(in_flight)))

    async def submit_bulk(self, jobs: int, at_once: int = 500) -> None:
        for first in range(0, jobs, at_once):
            await self.engine.submit_many([job(n) for n in range(first, min(jobs, first + at_once))])

    async def submit_paced(self, jobs: int, every_s: float = 0.01) -> None:
        """One job each ``every_s``, with the time at which it was asked for in its arguments."""
        loop, calls = asyncio.get_running_loop(), set[asyncio.Task[Any]]()
        start = loop.time()
        for n in range(jobs):
            await asyncio.sleep(start + n * every_s - loop.time())
            calls.add(asyncio.create_task(self.engine.submit(job(n, asked=time.time()))))
        await asyncio.gather(*calls)


def job(n: int, **args: Any) -> NewJob:
    return NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n, "text": TEXT, **args})


@asynccontextmanager
async def connected(postgres_url: str, redis_url: str | None, *, concurrency: int = 10) -> AsyncIterator[Rig]:
    """On a migrated ledger; without ``redis_url`` in direct mode."""
    pool = await open_pool(postgres_url, min_size=10, max_size=10)
    target = redis_target(redis_url) if redis_url else None
    clients = [command_client(target), blocking_client(target, BLOCK_S)] if target else []
    made = Rig(pool, concurrency)
    await made.store.ensure_queues([QUEUE])
    if clients:
        made.dispatcher.attach(RedisBroker(made.store, clients[0], clients[1], await made.store.ledger_id()))
    await made.dispatcher.start()
    await made.leases.start()
    try:
        yield made
    finally:
        await made.worker.stop()
        await made.leases.stop()
        await made.dispatcher.stop()
        for client in clients:
            await client.aclose()
        await pool.close()


@asynccontextmanager
async def rig(on: Stores, *, mode: str, concurrency: int = 10) -> AsyncIterator[Rig]:
    async with (
        fresh_ledger(on) as url,
        connected(url, on.redis_url if mode == "queue" else None, concurrency=concurrency) as made,
    ):
        yield made
