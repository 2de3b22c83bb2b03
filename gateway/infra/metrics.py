"""What Prometheus reads. Answers come from memory: a scrape never waits for PostgreSQL or Redis.

Numbers of whole queues are read in the background and put here as ``Readings``; once they are old they are absent,
never stale, 0 or NaN, because a controller would believe them. Labels are bounded words, never ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from gateway.infra.http_metrics import HttpMetrics
from gateway.infra.job_metrics import JobMetrics
from gateway.infra.model_metrics import ModelMetrics
from gateway.infra.realtime_metrics import RealtimeMetrics
from gateway.infra.redis_check import RedisFitness

STALE_S: Final = 30.0
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_EMAIL_OUTCOMES: Final = ("sent", "retry", "rejected", "paused", "unknown")


class QueueReading(msgspec.Struct, frozen=True, kw_only=True):
    """One whole queue: jobs by state word. ``oldest_waiting_s`` is 0 when none waits; ``startable_s``: for so long of
    that time nothing but workers was missing; ``rate_per_s`` None: no limit; ``rate_used``: how much of it, as a mean.

    ``rate_limited``: waiting jobs that only the rate limit holds back; ``demand_slots``: worker slots that the queue
    can use, None: not known; ``useful_replicas``: the most that the limit can feed, None: no limit, or not known.
    """

    states: dict[str, int]
    oldest_waiting_s: float
    rate_per_s: float | None
    startable_s: float = 0.0
    rate_used: float | None = None
    rate_limited: int = 0
    demand_slots: float | None = None
    useful_replicas: int | None = None
    paused: bool = False


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """Queues by name, how many live replicas have each role, and by kind whether they are odd together."""

    queues: dict[str, QueueReading]
    replicas: dict[str, int]
    odd: dict[str, bool] = {}


class Slots(msgspec.Struct, frozen=True):
    """Workers of one queue in this process."""

    busy: int
    free: int


class Metrics:
    """All metrics of one process, in a registry of their own.

    ``watch_slots`` is asked at each scrape for this process's slots by queue. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # Without it each counter has a second line, which nothing here asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        self._gauges = _QueueGauges(clock)
        self._registry.register(self._gauges)
        self.http = HttpMetrics(self._registry)
        self.jobs = JobMetrics(self._registry)
        self._emails = Counter(
            "gateway_emails",
            "E-mails handed to a transport, by outcome.",
            ["transport", "outcome"],
            registry=self._registry,
        )
        self._transports: set[str] = set()
        models = ModelMetrics(self._registry)
        self.model_call, self.model_spent, self.model_misfit = models.call, models.spent, models.misfit
        self._switches()
        self.realtime = RealtimeMetrics(self._registry)

    def _switches(self) -> None:
        into = self._registry
        self._fallback = Gauge(
            "gateway_fallback_active", "1 while Redis is set but jobs are taken from PostgreSQL.", registry=into
        )
        self._lag = Gauge(
            "gateway_event_loop_lag_seconds", "Longest delay of the event loop in the last 15 s.", registry=into
        )

    def email(self, transport: str, outcome: str) -> None:
        if transport not in self._transports:
            self._transports.add(transport)
            for possible in _EMAIL_OUTCOMES:  # from 0, so that the first refusal is seen as an increase
                self._emails.labels(transport, possible)
        self._emails.labels(transport, outcome).inc()

    def fallback(self, active: bool) -> None:
        self._fallback.set(active)

    def redis(self, up: bool | None) -> None:
        """None: no Redis is set, so there is nothing to say."""
        self._gauges.redis_up = up

    def redis_seen(self, fitness: RedisFitness) -> None:
        self._gauges.fitness = fitness

    def clock_skew(self, seconds: float | None) -> None:
        """This machine's clock minus the ledger's; None: not known."""
        self._gauges.clock_skew = seconds

    def postgres(self, up: bool) -> None:
        self._gauges.postgres_up = up

    def event_loop_lag(self, seconds: float) -> None:
        self._lag.set(seconds)

    def watch_slots(self, source: Callable[[], Mapping[str, Slots]]) -> None:
        self._gauges.slots = source

    def watch_budgets(self, source: Callable[[], Mapping[str, int]]) -> None:
        """``source`` is asked at each scrape how many projects have each state of their budget; nothing: not known."""
        self._gauges.budgets = source

    def read(self, readings: Readings) -> None:
        """Numbers of the whole queues, as of now."""
        self._gauges.put(readings)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _QueueGauges(Collector):
    """Gauges that may be absent."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._readings: Readings | None = None
        self._read_at = 0.0
        self.postgres_up: bool | None = None  # written by Metrics.postgres
        self.redis_up: bool | None = None  # written by Metrics.redis
        self.fitness: RedisFitness | None = None  # written by Metrics.redis_seen
        self.clock_skew: float | None = None  # written by Metrics.clock_skew
        self.slots: Callable[[], Mapping[str, Slots]] = dict  # written by Metrics.watch_slots
        self.budgets: Callable[[], Mapping[str, int]] = dict  # written by Metrics.watch_budgets

    def put(self, readings: Readings) -> None:
        self._readings, self._read_at = readings, self._clock()

    def collect(self) -> Iterable[Metric]:
        yield self._slots()
        if self.postgres_up is not None:
            yield _gauge("gateway_postgres_up", "1 while PostgreSQL answers.", [], [((), float(self.postgres_up))])
        if self.redis_up is not None:
            yield _gauge("gateway_redis_up", "1 while Redis answers.", [], [((), float(self.redis_up))])
        if self.fitness is not None and self.redis_up is not False:
            yield from _of_redis(self.fitness)
        if self.clock_skew is not None:
            meaning = "This machine's clock minus the ledger's."
            yield _gauge("gateway_clock_skew_seconds", meaning, [], [((), self.clock_skew)])
        if budgets := self.budgets():
            rows = [((state,), float(number)) for state, number in budgets.items()]
            yield _gauge("gateway_project_budgets", "Projects with a monthly budget, by its state.", ["state"], rows)
        if self._readings is not None and self._clock() - self._read_at <= STALE_S:
            yield from _of_queues(self._readings)

    def _slots(self) -> Metric:
        rows = [
            ((queue, state), float(number))
            for queue, slots in self.slots().items()
            for state, number in (("busy", slots.busy), ("free", slots.free))
        ]
        return _gauge("gateway_worker_slots", "Job slots of this process.", ["queue", "state"], rows)


def _of_redis(seen: RedisFitness) -> Iterable[Metric]:
    meaning = "1 while Redis may hold jobs: noeviction, a known version, the kind that the settings say."
    yield _gauge("gateway_redis_fit", meaning, [], [((), float(not seen.faults))])
    if seen.evicts is not None:
        meaning = "1 while Redis' policy (maxmemory-policy) may drop jobs."
        yield _gauge("gateway_redis_evicts", meaning, [], [((), float(seen.evicts))])
    if seen.memory is not None:
        used, limit = seen.memory
        yield _gauge("gateway_redis_memory_used_ratio", "Memory used, of maxmemory.", [], [((), used / limit)])


def _of_queues(readings: Readings) -> Iterable[Metric]:
    queues = readings.queues.items()
    # All replicas' shares add up to the whole queue; their average is what an autoscaler compares with its target.
    replicas = max(1, sum(readings.replicas.values()))
    waiting = [((name,), (queue.states.get("waiting", 0) - queue.rate_limited) / replicas) for name, queue in queues]
    open_jobs = [
        ((name,), float(queue.states.get("waiting", 0) + queue.states.get("active", 0))) for name, queue in queues
    ]
    rates = [((name,), queue.rate_per_s) for name, queue in queues if queue.rate_per_s is not None]
    depth = [((name, state), float(n)) for name, queue in queues for state, n in queue.states.items()]
    oldest = [((name,), queue.oldest_waiting_s) for name, queue in queues]
    yield _gauge(
        "queue_waiting_jobs", "Jobs waiting for a worker: this replica's share of the queue.", ["queue"], waiting
    )
    yield _gauge("queue_open_jobs", "Waiting and active jobs of the whole queue.", ["queue"], open_jobs)
    yield _gauge("queue_rate_limit_per_second", "Starts that the queue's limit allows.", ["queue"], rates)
    yield _gauge("gateway_queue_depth", "Jobs of the whole queue by state.", ["queue", "state"], depth)
    yield _gauge("gateway_queue_oldest_waiting_seconds", "Age of the job that is ready longest.", ["queue"], oldest)
    meaning = "For how long of its age neither a pause nor the rate limit held that job back."
    startable = [((name,), queue.startable_s) for name, queue in queues]
    yield _gauge("gateway_queue_startable_seconds", meaning, ["queue"], startable)
    yield from _for_autoscalers(readings.queues)
    workers = [((role,), float(n)) for role, n in readings.replicas.items()]
    yield _gauge("gateway_workers", "Live replicas by role.", ["role"], workers)
    odd = [((kind,), float(seen)) for kind, seen in readings.odd.items()]
    yield _gauge("gateway_replicas_odd", "1 while the live replicas are odd together, by how.", ["kind"], odd)


def _for_autoscalers(queues: Mapping[str, QueueReading]) -> Iterable[Metric]:
    slots = [((name,), queue.demand_slots) for name, queue in queues.items() if queue.demand_slots is not None]
    yield _gauge("queue_demand_slots", "Worker slots that the whole queue can use now.", ["queue"], slots)
    held = [((name,), float(queue.rate_limited)) for name, queue in queues.items()]
    yield _gauge("queue_rate_limited_jobs", "Waiting jobs that only the rate limit holds back.", ["queue"], held)
    used = [((name,), queue.rate_used) for name, queue in queues.items() if queue.rate_used is not None]
    meaning = "How much of the starts that the rate limit allows is used: the mean of a minute."
    yield _gauge("queue_rate_limit_used_ratio", meaning, ["queue"], used)
    useful = [((name,), float(q.useful_replicas)) for name, q in queues.items() if q.useful_replicas is not None]
    yield _gauge("queue_useful_replicas", "The most replicas that the queue's rate limit can feed.", ["queue"], useful)
    paused = [((name,), float(queue.paused)) for name, queue in queues.items()]
    yield _gauge("queue_paused", "1 while the queue is paused.", ["queue"], paused)


def _gauge(name: str, meaning: str, labels: list[str], rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, number in rows:
        family.add_metric(list(values), number)
    return family
