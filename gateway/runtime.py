"""The composition root: builds the engine and the features, starts and stops them in order.

The HTTP server is up before the ledger is: until PostgreSQL answers and its schema is this version's, ``/health`` says
503 and why, and the boot goes on trying. Redis is never waited for, unless REDIS_REQUIRED says so.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from dataclasses import dataclass

import asyncpg
import structlog

from gateway.chores import common_chores
from gateway.feature import Feature, Platform
from gateway.infra.lifecycle import Component, StartError, end, stop_all
from gateway.infra.loop_lag import LoopLag
from gateway.infra.metrics import Metrics, Slots
from gateway.infra.migrate import migration_status
from gateway.infra.postgres import LEDGER_ERRORS, Pools, close_pool, is_unavailable, open_pools
from gateway.infra.tracing import exporter
from gateway.infra.vitals import vitals_of
from gateway.infra.watchdog import LoopWatchdog
from gateway.jobs.controls import Controls
from gateway.jobs.direct_broker import DirectBroker
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.duties import DutyBook
from gateway.jobs.engine import Engine
from gateway.jobs.events import Events
from gateway.jobs.executor import Executor
from gateway.jobs.gauges import Gauges
from gateway.jobs.groups import Groups
from gateway.jobs.inspector import Inspector
from gateway.jobs.leases import LeaseKeeper
from gateway.jobs.maintenance import Keeper, Maintenance
from gateway.jobs.policy import StallPolicy
from gateway.jobs.presence import Identity, Presence
from gateway.jobs.records import Records
from gateway.jobs.redis_link import RedisLink, RedisUse
from gateway.jobs.registry import Registry
from gateway.jobs.reporter import Reporter
from gateway.jobs.scheduler import Scheduler
from gateway.jobs.schedules import Schedules
from gateway.jobs.store import Store
from gateway.jobs.unique import UniqueJobs
from gateway.jobs.worker import QueueWorker
from gateway.llm import open_models
from gateway.realtime.service import Realtime
from gateway.services import conversations, email, orchestration
from gateway.services.email.caught import Inbox
from gateway.settings import Settings, shared_settings
from gateway.web.health import LedgerCheck, RedisState
from gateway.web.metrics import EventMetrics, MetricsRefresher

log = structlog.get_logger(__name__)

_LEDGER_RETRY_S = 1.0
_HAND_BACK_S = 8.0  # after the grace period: until a stubborn task was given up, and its job settled
_STOP_S = 5.0  # for all components together
_BOOT_S = 2.0  # until a boot has ended that is cancelled


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What only ``gateway dev`` gives: a bearer token that is no JWT, one click that signs in with it (``open_door``),
    answers without a model where no provider has a key, the inbox of caught mails, and further routes."""

    token: str | None = None
    open_door: bool = False
    demo_models: bool = False
    inbox: Inbox | None = None
    routes: tuple[object, ...] = ()


class Runtime:
    """One replica, and what it knows of its own health (``web.health.HealthSource``). Building it connects to nothing;
    ``start`` boots it in the background."""

    def __init__(self, settings: Settings, pools: Pools, dev: DevOptions | None = None) -> None:
        self.settings = settings
        self.dev = dev or DevOptions()
        self.pool, self._vital = pools.work, pools.vital
        pool = pools.work
        self.replica_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.metrics = Metrics()
        self.loop_lag = LoopLag(self.metrics.event_loop_lag, settings.ready_loop_lag_max_ms / 1000)
        self.events = Events()
        self.events.subscribe(EventMetrics(self.metrics).on_event)
        self._registry = Registry()
        self._stalls = StallPolicy(
            lease_ms=settings.lock_duration_ms,
            renew_ms=settings.lock_duration_ms // 3,
            interval_ms=settings.stalled_interval_ms,
            max_stalls=settings.max_stalled_count,
        )
        self._store = Store(pool, self.replica_id, self._stalls.lease_ms, self._vital)
        self.records = Records(pool)
        self._reporter = Reporter(pool, self.events)
        self._groups = Groups(pool, self._registry)
        self.dispatcher = Dispatcher(DirectBroker(self._store), self.events, self._groups)
        self.engine = Engine(self._registry, self._store, self.records, self.dispatcher, UniqueJobs(pool, self._store))
        inspector = Inspector(pool, self.engine, self._store, self.dispatcher)
        self.events.subscribe(inspector.history.on_event)
        self._models = open_models(settings, pool, self.metrics, demo=self.dev.demo_models)
        self.realtime = Realtime(settings, pool, self.dispatcher, self.events, self.metrics.realtime)
        schedules, told = Schedules(pool, self.engine), (self.realtime.publisher, self.realtime.hub)
        self.platform = Platform(settings, pool, self.engine, inspector, schedules, self._models, *told)
        self.features = self._features()
        self.workers = self._workers()
        self.controls = Controls(self._vital, self._registry, self.dispatcher)
        for worker in self.workers:
            self.controls.watch(worker.policy.name, worker.adopt)
        self.metrics.watch_slots(self._slots)
        self.gauges = Gauges(self._vital, self._registry)
        identity = Identity(self.replica_id, settings.gateway_role, shared_settings(settings))
        vitals = vitals_of(lambda: self.loop_lag.longest_s)
        self.presence = Presence(Records(self._vital), self.dispatcher, self.workers, identity, vitals)
        self.maintenance = self._maintenance()
        self._started: list[Component] = []
        self._boot: asyncio.Task[None] | None = None
        self._boot_problem: str | None = "starting: PostgreSQL has not answered yet"
        self._draining = False
        self._ledger_check = LedgerCheck(self._vital)

    @classmethod
    async def open(cls, settings: Settings, dev: DevOptions | None = None) -> Runtime:
        """Raises ``UnknownQueue`` when GATEWAY_QUEUES names one that is not declared."""
        return cls(settings, await open_pools(settings.database_url, settings.database_pool_size), dev)

    def _features(self) -> tuple[Feature, ...]:
        features = (
            email.feature(self.platform, count=self.metrics.email, inbox=self.dev.inbox),
            orchestration.feature(self.platform, watch_budgets=self.metrics.watch_budgets),
            *conversations.features(self.platform),
        )
        for feature in features:
            for policy in feature.queues:
                self._registry.add_queue(policy)
            for task in feature.tasks:
                self._registry.add_task(task)
            for schedule in feature.schedules:
                self.platform.schedules.declare(schedule)
        told = [policy.name for feature in features if feature.tells_job_ends for policy in feature.queues]
        self.realtime.tell_of(self._registry.queue_names, told)
        return features

    def _workers(self) -> tuple[QueueWorker, ...]:
        if not self.settings.runs_workers:
            return ()
        names = self.settings.queue_names
        policies = self._registry.queues if names is None else self._registry.queues_named(names)
        executor = self._executor = Executor(self._registry, self._store, self.dispatcher, self.events, self._reporter)
        return tuple(QueueWorker(policy, self.dispatcher, executor, self.events) for policy in policies)

    def _slots(self) -> dict[str, Slots]:
        return {
            worker.policy.name: Slots(busy=worker.busy, free=max(0, worker.slots - worker.busy))
            for worker in self.workers
        }

    @property
    def redis(self) -> RedisState:
        if self.settings.queue_redis is None:
            return RedisState.UNUSED
        return RedisState.CONNECTED if self.dispatcher.up else RedisState.DISCONNECTED

    @property
    def mode(self) -> str:
        return self.engine.mode

    @property
    def not_ready(self) -> str | None:
        """Why this replica wants no traffic now; None: it does."""
        if self._draining:
            return "draining: this replica is stopping"
        return self.presence.leaving or self._boot_problem or self.loop_lag.problem

    async def ledger_problem(self) -> str | None:
        return await self._ledger_check.problem()

    async def start(self) -> None:
        self._boot = asyncio.create_task(self._start(), name="boot")

    async def booted(self) -> None:
        """Returns when this replica is ready. Raises ``StartError`` when it never will be."""
        if self._boot is not None:
            await asyncio.shield(self._boot)

    async def _start(self) -> None:
        while True:
            await self._wait_for_ledger()
            try:
                await self._start_components()
                break
            except LEDGER_ERRORS as error:
                if not is_unavailable(error):
                    raise
                self._boot_problem = f"PostgreSQL went away during the start: {error}"
                log.warning("ledger_not_ready", reason=self._boot_problem)
                await stop_all(self._started, _STOP_S)
                await asyncio.sleep(_LEDGER_RETRY_S)
        self._boot_problem = None
        log.info("replica_ready", replica=self.replica_id, role=self.settings.gateway_role, mode=self.engine.mode)

    async def _start_components(self) -> None:
        await self._store.ensure_queues(self._registry.queue_names)
        await self.platform.schedules.ensure()
        for component in self._components():
            self._started.append(component)
            await component.start()

    async def _wait_for_ledger(self) -> None:
        said: str | None = None
        while True:
            try:
                async with self._vital.acquire() as connection:
                    reason = (await migration_status(connection)).problem()
            except LEDGER_ERRORS as error:
                if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError):
                    raise StartError(f"PostgreSQL refused DATABASE_URL: {error}") from error
                if not is_unavailable(error):
                    raise
                self.metrics.postgres(False)
                reason = f"PostgreSQL does not answer: {error}"
            if reason is None:
                return
            self._boot_problem = reason
            if reason != said:
                log.warning("ledger_not_ready", reason=reason)
                said = reason
            await asyncio.sleep(_LEDGER_RETRY_S)

    def _redis_link(self) -> list[Component]:
        target = self.settings.queue_redis
        if target is None:
            return []
        strict = self.settings.gateway_env == "production"
        use = RedisUse(target, self.settings.redis_required, strict, told=self.metrics.redis_seen)
        return [RedisLink(use, self.dispatcher, self._store, self._registry.queue_names)]

    def _components(self) -> list[Component]:
        """In the order of their start; they stop in the reverse order."""
        components: list[Component] = [
            *self._redis_link(),
            *self.realtime.components,
            self._groups,
            self.controls,
            self.engine.backlog,
            self.presence,
            self.platform.inspector.history,
            MetricsRefresher(self.metrics, self.gauges, self),
            self.loop_lag,
            LoopWatchdog(),
            *exporter(self.settings.otel_exporter_otlp_endpoint, self.replica_id),
            self._models,
        ]
        components.append(self.maintenance)
        components.append(Scheduler(self._vital, self.engine))
        if not self.workers:
            return components
        components += [component for feature in self.features for component in feature.components]
        components.append(self._reporter)  # stops after the workers: their last words
        components += [LeaseKeeper(self._executor, self._store, self.dispatcher, self._stalls), *self.workers]
        return components

    def _maintenance(self) -> Maintenance:
        keeper = Keeper(self._registry, self._store, self.records, self.dispatcher, self.events)
        common = common_chores(self.platform, self.records, self._groups, self.features)
        chores = (*keeper.chores(self._stalls), *common, self.realtime.chore)
        book = DutyBook(self._vital, self.replica_id)
        return Maintenance(Records(self._vital), book, self.replica_id, chores)

    async def drain(self, grace_s: float) -> None:
        """Not ready, take no further job, let the running ones end for ``grace_s`` seconds, hand the rest back."""
        if self._draining:
            return
        self._draining = True
        self.realtime.hub.drain()
        log.info("draining", replica=self.replica_id, busy=sum(worker.busy for worker in self.workers), grace_s=grace_s)
        try:
            async with asyncio.timeout(grace_s + _HAND_BACK_S):
                await asyncio.gather(self.presence.drain(), *(worker.drain(grace_s) for worker in self.workers))
        except TimeoutError:
            log.warning("drain_unfinished", busy=sum(worker.busy for worker in self.workers))

    async def hurry(self) -> None:
        """End a drain at once: what still runs is handed back."""
        await asyncio.gather(*(worker.drain(0) for worker in self.workers))

    async def stop(self) -> None:
        """Safe to call twice, and on a runtime that never started."""
        self._draining = True
        await end(self._boot, _BOOT_S)
        await stop_all(self._started, _STOP_S)
        await asyncio.gather(close_pool(self.pool), close_pool(self._vital))
        await end(self._boot, _BOOT_S)  # one that waited for a silent PostgreSQL
