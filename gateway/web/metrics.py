"""``GET /metrics``, and what feeds it: job events as they happen, whole queues every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

import structlog
from litestar import Response, get
from litestar.di import NamedDependency

from gateway.access import PUBLIC
from gateway.infra.job_metrics import FAILURES, STALLED, AttemptEnd
from gateway.infra.loops import Loop
from gateway.infra.metrics import CONTENT_TYPE, Metrics, QueueReading, Readings
from gateway.infra.postgres import is_unavailable
from gateway.jobs.demand import Work, demand_slots, rate_limited, useful_replicas
from gateway.jobs.events import BrokerChanged, Event, JobSettled, JobStalled, RateLimited
from gateway.jobs.fleet import Oddity, oddities
from gateway.jobs.gauges import Gauges, Lately, QueueGauge
from gateway.jobs.job import JobState
from gateway.web.health import HealthSource, RedisState

log = structlog.get_logger(__name__)

REFRESH_S: Final = 5.0  # document 001 allows 10 s
_READ_TIMEOUT_S: Final = 3.0  # for all of a reading's queries, also while PostgreSQL is busy
_READINGS: Final = 12  # of a minute
_ENDED: Final = frozenset({JobState.COMPLETED, JobState.FAILED})


@get("/metrics", opt={"access": PUBLIC}, summary="Prometheus metrics", tags=["operations"], media_type=CONTENT_TYPE)
async def metrics_route(metrics: NamedDependency[Metrics]) -> Response[bytes]:
    # As a media type it would get a second charset.
    return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})


class EventMetrics:
    """Turns job events into counters. Subscribe ``on_event``."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._jobs = metrics.jobs

    def on_event(self, event: Event) -> None:
        match event:
            case JobSettled():
                self._jobs.attempt_ended(_end_of(event))
            case JobStalled(queue=queue):
                self._jobs.stalled(queue)
                if event.state is JobState.FAILED:
                    self._jobs.failed(queue, STALLED)
            case RateLimited(queue=queue, wait_s=wait_s):
                self._jobs.rate_limited(queue, wait_s)
            case BrokerChanged(mode=mode):
                self._metrics.fallback(mode == "direct")
                self._metrics.redis(mode == "queue")  # at once, so that the two never contradict each other


def _end_of(event: JobSettled) -> AttemptEnd:
    job = event.job
    waited_s = (job.claimed_at - job.created_at).total_seconds()
    return AttemptEnd(
        queue=job.queue,
        task=job.task,
        outcome=event.kind,
        wait_s=event.wait_s,
        run_s=event.run_s,
        total_s=max(0.0, waited_s) + event.run_s if event.state in _ENDED else None,
        retried=event.kind in FAILURES and event.state not in _ENDED,
    )


class MetricsRefresher:
    """A component: reads the whole queues into memory, and how far this machine's clock is from the ledger's."""

    name = "metrics"

    def __init__(self, metrics: Metrics, gauges: Gauges, health: HealthSource) -> None:
        self._metrics = metrics
        self._gauges = gauges
        self._health = health
        self._lately: dict[str, Lately] = {}
        self._loop = Loop("metrics refresh", self._refresh)

    async def start(self) -> None:
        registry = self._gauges.registry
        for queue in registry.queue_names:
            tasks = [name for name in registry.task_names if registry.task(name).queue == queue]
            self._metrics.jobs.declare(queue, tasks)
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()

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
                self._metrics.clock_skew(await self._clock_skew_s())
        except Exception as error:
            if not is_unavailable(error):
                raise
            log.debug("metrics_wait_for_ledger", error=str(error))
            self._metrics.postgres(await self._health.ledger_problem() is None)
            self._metrics.clock_skew(None)
        else:
            self._metrics.postgres(True)

    async def _readings(self) -> Readings:
        queues = {name: self._reading(gauge) for name, gauge in (await self._gauges.queues()).items()}
        replicas = await self._gauges.replicas()
        roles = Counter(replica.role for replica in replicas)
        odd = {each.kind for each in oddities(replicas)}
        return Readings(queues=queues, replicas=dict(roles), odd={kind.value: kind in odd for kind in Oddity})

    def _reading(self, gauge: QueueGauge) -> QueueReading:
        policy, counts, job_s = gauge.policy, gauge.counts, gauge.job_s
        lately = self._lately.setdefault(policy.name, Lately(_READINGS))
        lately.see(gauge)
        work = Work(waiting=counts.waiting, active=lately.active, job_s=job_s, paused=gauge.paused)
        return QueueReading(
            states={state.value: getattr(counts, state) for state in JobState},
            oldest_waiting_s=gauge.oldest_s or 0.0,
            startable_s=lately.startable_s(gauge.oldest_s),
            rate_per_s=policy.rate.per_second if policy.rate is not None else None,
            rate_used=lately.limit_used,
            rate_limited=rate_limited(policy, work),
            demand_slots=demand_slots(policy, work),
            useful_replicas=useful_replicas(policy, job_s),
            paused=gauge.paused,
        )

    async def _clock_skew_s(self) -> float:
        asked = time.time()
        ledger = await self._gauges.ledger_time()
        # It looked at its clock about half way between the question and the answer.
        return (asked + time.time()) / 2 - ledger.timestamp()
