"""``GET /metrics``, and what feeds it: job events as they happen, whole queues every few seconds."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from statistics import fmean
from typing import Final

import structlog
from litestar import Response, get
from litestar.di import NamedDependency

from gateway.access import PUBLIC
from gateway.infra.loops import Loop
from gateway.infra.metrics import CONTENT_TYPE, Metrics, QueueReading, Readings
from gateway.infra.postgres import is_unavailable
from gateway.jobs.demand import Work, demand_slots, rate_limited, useful_replicas
from gateway.jobs.engine import Engine
from gateway.jobs.events import BrokerChanged, Event, JobSettled, JobStalled, RateLimited
from gateway.jobs.job import JobState
from gateway.jobs.records import QueueStatus
from gateway.web.health import HealthSource, RedisState

log = structlog.get_logger(__name__)

REFRESH_S: Final = 5.0  # document 001 allows 10 s
_READ_TIMEOUT_S: Final = 1.0
_LAG_SAMPLE_S: Final = 0.25
_ACTIVE_SAMPLES: Final = 12  # a minute of readings
# How an attempt may end (JobSettled.kind). The first three are failures.
FAILURES: Final = ("error", "fail", "timeout")
OUTCOMES: Final = ("completed", *FAILURES, "interrupted", "snoozed", "cancelled", "lost")


@get("/metrics", opt={"access": PUBLIC}, summary="Prometheus metrics", tags=["operations"], media_type=CONTENT_TYPE)
async def metrics_route(metrics: NamedDependency[Metrics]) -> Response[bytes]:
    # As a media type it would get a second charset.
    return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})


class EventMetrics:
    """Turns job events into counters. Subscribe ``on_event``."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def on_event(self, event: Event) -> None:
        match event:
            case JobSettled(job=job, kind=kind):
                self._metrics.attempt_ended(job.queue, kind, wait_s=event.wait_s, run_s=event.run_s)
                if kind in FAILURES:
                    self._metrics.attempt_failed(job.queue, kind)
            case JobStalled(queue=queue):
                self._metrics.job_stalled(queue)
                if event.state is JobState.FAILED:
                    self._metrics.attempt_failed(queue, "stalled")
            case RateLimited(queue=queue, wait_s=wait_s):
                self._metrics.rate_limited(queue, wait_s)
            case BrokerChanged(mode=mode):
                self._metrics.fallback(mode == "direct")
                self._metrics.redis(mode == "queue")  # at once, so that the two never contradict each other


class MetricsRefresher:
    """A component: reads the whole queues into memory, and measures how late the event loop is."""

    name = "metrics"

    def __init__(self, metrics: Metrics, engine: Engine, health: HealthSource) -> None:
        self._metrics = metrics
        self._engine = engine
        self._health = health
        self._longest_lag, self._lag_shown_at = 0.0, 0.0
        self._active: dict[str, deque[int]] = {}
        self._loops = (Loop("metrics refresh", self._refresh), Loop("metrics lag", self._measure_lag))

    async def start(self) -> None:
        for queue in self._engine.registry.queue_names:
            self._metrics.declare_queue(queue, OUTCOMES, (*FAILURES, "stalled"))
        for loop in self._loops:
            await loop.start()

    async def stop(self) -> None:
        for loop in self._loops:
            await loop.stop()

    async def _refresh(self) -> float:
        await self.refresh()
        return REFRESH_S

    async def refresh(self) -> None:
        """Read once. Without an answer in time the old readings stay, until they are too old to be shown."""
        redis = self._health.redis
        self._metrics.redis(None if redis is RedisState.UNUSED else redis is RedisState.CONNECTED)
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                self._metrics.read(await self._readings())
        except Exception as error:
            if not is_unavailable(error):
                raise
            log.debug("metrics_wait_for_ledger", error=str(error))
            self._metrics.postgres(False)
        else:
            self._metrics.postgres(True)

    async def _readings(self) -> Readings:
        queues = {}
        for name in self._engine.registry.queue_names:
            queues[name] = self._reading(await self._engine.queue_status(name), await self._engine.job_seconds(name))
        roles = Counter(replica.role for replica in await self._engine.replicas())
        return Readings(queues=queues, replicas=dict(roles))

    def _reading(self, status: QueueStatus, job_s: float | None) -> QueueReading:
        policy, counts = status.policy, status.counts
        # A moment's number of short jobs says little: the mean of a minute.
        active = self._active.setdefault(policy.name, deque(maxlen=_ACTIVE_SAMPLES))
        active.append(counts.active)
        work = Work(waiting=counts.waiting, active=fmean(active), job_s=job_s, paused=status.paused)
        return QueueReading(
            states={state.value: getattr(counts, state) for state in JobState},
            oldest_waiting_s=status.oldest_waiting_s or 0.0,
            rate_per_s=policy.rate.per_second if policy.rate is not None else None,
            rate_limited=rate_limited(policy, work),
            demand_slots=demand_slots(policy, work),
            useful_replicas=useful_replicas(policy, job_s),
            paused=status.paused,
        )

    async def _measure_lag(self) -> float:
        loop = asyncio.get_running_loop()
        due = loop.time() + _LAG_SAMPLE_S
        await asyncio.sleep(_LAG_SAMPLE_S)
        self._longest_lag = max(self._longest_lag, loop.time() - due)
        if loop.time() - self._lag_shown_at >= REFRESH_S:
            self._metrics.event_loop_lag(self._longest_lag)
            self._longest_lag, self._lag_shown_at = 0.0, loop.time()
        return 0.0
