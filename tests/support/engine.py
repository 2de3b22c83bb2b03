"""A whole engine in this process, on real PostgreSQL and (in queue mode) real Valkey, with tasks that tests steer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from gateway.infra.redis import blocking_client, command_client
from gateway.infra.uuid7 import uuid7
from gateway.jobs.deadlines import EXPIRE_POLL_S, Deadlines
from gateway.jobs.direct_broker import DirectBroker
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.duties import DutyBook
from gateway.jobs.engine import Engine
from gateway.jobs.events import Event, Events, JobSettled
from gateway.jobs.executor import Executor
from gateway.jobs.groups import SWEEP_S, Groups
from gateway.jobs.inspector import Inspector
from gateway.jobs.job import NewJob
from gateway.jobs.leases import LeaseKeeper
from gateway.jobs.maintenance import Chore, Keeper, Maintenance
from gateway.jobs.operations import POLL_S
from gateway.jobs.policy import QueuePolicy, RateLimit, Retention, StallPolicy
from gateway.jobs.records import Records
from gateway.jobs.redis_broker import BLOCK_S, RedisBroker
from gateway.jobs.registry import Registry, Task, TaskContext
from gateway.jobs.reporter import Reporter
from gateway.jobs.store import Store
from gateway.jobs.unique import UniqueJobs
from gateway.jobs.worker import QueueWorker
from gateway.settings import RedisTarget, redis_target

QUEUE = "email-queue"
TASK = "test.task"


def policy(**changes: Any) -> QueuePolicy:
    """The e-mail queue's numbers without its limit, unless ``changes`` say otherwise."""
    values: dict[str, Any] = {
        "name": QUEUE,
        "concurrency": 5,
        "rate": None,
        "attempts": 3,
        "backoff_ms": 60_000,
        "timeout_s": 30,
        "retention": Retention(),
    }
    return QueuePolicy(**{**values, **changes})


def rate(most: int, duration_ms: int) -> RateLimit:
    return RateLimit(most, duration_ms)


@dataclass
class Script:
    """The task of the tests: what it does is set by the test, what it saw is read by it."""

    behave: Callable[[dict[str, Any], TaskContext], Awaitable[Any]] | None = None
    started: list[dict[str, Any]] = field(default_factory=list)
    contexts: list[TaskContext] = field(default_factory=list)

    async def perform(self, args: dict[str, Any], context: TaskContext) -> Any:
        self.started.append(args)
        self.contexts.append(context)
        return None if self.behave is None else await self.behave(args, context)

    @property
    def names(self) -> list[Any]:
        return [args.get("n") for args in self.started]


@dataclass
class Replica:
    """One replica's engine. ``events`` are those it published."""

    engine: Engine
    inspector: Inspector
    store: Store
    records: Records
    dispatcher: Dispatcher
    executor: Executor
    reporter: Reporter
    leases: LeaseKeeper
    keeper: Keeper
    groups: Groups
    maintenance: Maintenance
    workers: list[QueueWorker]
    events: list[Event]
    script: Script

    async def work(self) -> None:
        """Start the slots."""
        for worker in self.workers:
            await worker.start()

    async def submit(self, n: Any = 0, **changes: Any) -> UUID:
        job = NewJob(id=uuid7(), queue=QUEUE, task=TASK, args={"n": n}, **changes)
        return (await self.engine.submit(job)).id

    def settled(self, kind: str) -> list[JobSettled]:
        return [event for event in self.events if isinstance(event, JobSettled) and event.kind == kind]


@asynccontextmanager
async def replica(
    pool: asyncpg.Pool[asyncpg.Record],
    redis: RedisTarget | str | None,
    *,
    queue: QueuePolicy | None = None,
    stalls: StallPolicy | None = None,
    name: str = "replica-1",
    script: Script | None = None,
    maintain: bool = False,
    patience_s: float | None = None,  # with Redis, where no outage is the subject: a busy machine is none
) -> AsyncIterator[Replica]:
    queue, stalls, script = queue or policy(), stalls or StallPolicy(), script or Script()
    registry = Registry()
    registry.add_queue(queue)
    registry.add_task(Task(TASK, queue.name, dict, script.perform))
    seen: list[Event] = []
    events = Events()
    events.subscribe(seen.append)
    store, records = Store(pool, name, stalls.lease_ms), Records(pool)
    groups = Groups(pool, registry)
    dispatcher = Dispatcher(DirectBroker(store), events, groups)
    target = redis_target(redis) if isinstance(redis, str) else redis
    clients = [command_client(target, patience_s=patience_s), blocking_client(target, BLOCK_S)] if target else []
    await store.ensure_queues(registry.queue_names)
    if clients:
        dispatcher.attach(RedisBroker(store, *clients, await store.ledger_id(), registry.queue_names))
    await dispatcher.start()
    reporter = Reporter(pool, events)
    executor = Executor(registry, store, dispatcher, events, reporter)
    keeper = Keeper(registry, store, records, dispatcher, events)
    engine = Engine(registry, store, records, dispatcher, UniqueJobs(pool, store))
    inspector = Inspector(pool, engine, store, dispatcher)
    operations = Chore("operations", POLL_S, inspector.operations.work)
    sweep = Chore("groups", SWEEP_S, groups.sweep)
    expire = Chore("expire", EXPIRE_POLL_S, Deadlines(pool).expire)
    made = Replica(
        engine=engine,
        inspector=inspector,
        store=store,
        records=records,
        dispatcher=dispatcher,
        executor=executor,
        reporter=reporter,
        leases=LeaseKeeper(executor, store, dispatcher, stalls),
        keeper=keeper,
        groups=groups,
        maintenance=Maintenance(
            records, DutyBook(pool, name), name, (*keeper.chores(stalls), operations, expire, sweep)
        ),
        workers=[QueueWorker(queue, dispatcher, executor, events)],
        events=seen,
        script=script,
    )
    await made.leases.start()
    await reporter.start()
    if maintain:
        await made.maintenance.start()
    try:
        yield made
    finally:
        await asyncio.gather(*(worker.stop() for worker in made.workers))
        await made.maintenance.stop()
        await made.leases.stop()
        await reporter.stop()
        await groups.stop()
        await dispatcher.stop()
        for client in clients:
            await client.aclose()
