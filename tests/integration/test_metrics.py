"""Metrics: the names of the documents, the whole queue's numbers, and absence instead of lies."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import httpx
import redis
from prometheus_client.parser import text_string_to_metric_families

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.metrics import STALE_S, Metrics, QueueReading, Readings, Slots
from gateway.infra.migrate import migrate
from gateway.jobs.events import BrokerChanged, JobSettled, JobStalled, RateLimited
from gateway.jobs.gauges import Lately, QueueGauge
from gateway.jobs.job import ClaimedJob, JobState, NewJob, QueueCounts
from gateway.jobs.policy import QueuePolicy
from gateway.runtime import Runtime
from gateway.web.metrics import EventMetrics, MetricsRefresher
from tests.support.eventually import eventually
from tests.support.web import serving, settings_for

Pool = asyncpg.Pool  # generic for type checkers only
Samples = dict[tuple[str, tuple[str, ...]], float]
OFF = {"gateway_role": "api"}  # no workers: jobs stay where they are


def parsed(text: str) -> Samples:
    """Values by name and label values, in the order of the labels' names."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(client: httpx.AsyncClient) -> Samples:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers.get_list("content-type") == ["text/plain; version=1.0.0; charset=utf-8"]
    return parsed(answer.text)


def job(queue: str = "email-queue") -> ClaimedJob:
    now = datetime.now(UTC)
    return ClaimedJob(
        id=uuid4(), queue=queue, task="email.send", args={}, priority=0, attempt=1, max_attempts=3, fence=1, stalls=0,
        created_at=now, ready_at=now, claimed_at=now,
    )  # fmt: skip


async def submitted(runtime: Runtime, number: int, *, later: bool = False) -> None:
    run_at = datetime(2999, 1, 1, tzinfo=UTC) if later else None
    await runtime.engine.submit_many(
        [NewJob(id=uuid4(), queue="email-queue", task="email.send", args={}, run_at=run_at) for _ in range(number)]
    )


async def reading(runtime: Runtime) -> Samples:
    """One of its own: the runtime's may have begun before what the test has done, and end later."""
    metrics = Metrics()
    await MetricsRefresher(metrics, runtime.gauges, runtime).refresh()
    return parsed(metrics.text().decode())


async def test_every_documented_name_is_there(database_url: str) -> None:
    async with serving(settings_for(database_url)) as (client, runtime):
        await MetricsRefresher(runtime.metrics, runtime.gauges, runtime).refresh()
        samples = await scrape(client)
        runtime.metrics.email("smtp", "sent")
        text = (await client.get("/metrics")).text
    names = {name for name, _ in samples}
    for name in (
        "queue_waiting_jobs", "queue_open_jobs", "queue_rate_limit_per_second", "gateway_queue_depth",
        "gateway_queue_oldest_waiting_seconds", "gateway_jobs_total", "gateway_job_failures_total",
        "gateway_job_duration_seconds_bucket", "gateway_job_attempts_total", "gateway_job_stalled_total",
        "gateway_job_rate_limit_wait_seconds_count", "gateway_worker_slots", "gateway_workers",
        "gateway_fallback_active", "gateway_postgres_up", "gateway_event_loop_lag_seconds",
    ):  # fmt: skip
        assert name in names, name
    assert not [name for name in names if name.endswith("_created")]
    assert 'gateway_emails_total{outcome="sent",transport="smtp"} 1.0' in text
    assert 'gateway_emails_total{outcome="rejected",transport="smtp"} 0.0' in text
    assert samples["gateway_postgres_up", ()] == 1
    assert samples["queue_rate_limit_per_second", ("email-queue",)] == 10
    assert samples["gateway_worker_slots", ("email-queue", "free")] == 5
    assert ("gateway_redis_up", ()) not in samples  # no Redis is set


async def test_numbers_are_those_of_the_whole_queue(database_url: str, pool: Pool) -> None:
    async with serving(settings_for(database_url, **OFF)) as (_, runtime):
        await submitted(runtime, 3)
        await submitted(runtime, 2, later=True)
        await pool.execute("UPDATE jobs SET run_at = now() - interval '90 s' WHERE state = 'waiting'")
        samples = await reading(runtime)
    assert samples["queue_waiting_jobs", ("email-queue",)] == 3
    assert samples["queue_open_jobs", ("email-queue",)] == 3
    assert samples["gateway_queue_depth", ("email-queue", "waiting")] == 3
    assert samples["gateway_queue_depth", ("email-queue", "delayed")] == 2
    assert samples["gateway_queue_depth", ("email-queue", "failed")] == 0
    assert 89 < samples["gateway_queue_oldest_waiting_seconds", ("email-queue",)] < 120
    assert samples["gateway_queue_oldest_waiting_seconds", ("orchestration-queue",)] == 0
    assert samples["gateway_workers", ("api",)] == 1


async def test_the_shares_of_two_replicas_add_up_to_the_queue(database_url: str) -> None:
    settings = settings_for(database_url, **OFF)
    async with serving(settings) as (_, first), serving(settings) as (_, second):
        await submitted(first, 5)
        shares = []
        for runtime in (first, second):
            samples = await reading(runtime)
            shares.append(samples["queue_waiting_jobs", ("email-queue",)])
            assert samples["queue_open_jobs", ("email-queue",)] == 5
    assert shares == [2.5, 2.5]


async def test_a_process_that_has_never_reached_postgres_says_so(
    own_postgres: Callable[[], EmbeddedPostgres],
) -> None:
    server = own_postgres()
    server.stop()
    async with serving(settings_for(server.dsn, **OFF), wait=False) as (_, runtime):
        await eventually(lambda: b"gateway_postgres_up 0.0" in runtime.metrics.text(), 30)


async def test_without_postgres_the_scrape_answers_at_once(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    server = own_postgres()
    await migrate(server.dsn)
    async with serving(settings_for(server.dsn, **OFF)) as (_, runtime):
        await eventually(lambda: b"gateway_postgres_up 1.0" in runtime.metrics.text(), 30)
        server.stop()
        assert (await reading(runtime))["gateway_postgres_up", ()] == 0
        server.start()


async def test_while_all_connections_are_busy_the_numbers_of_queues_are_read_all_the_same(
    database_url: str, pool: Pool
) -> None:
    metrics = Metrics()
    async with serving(settings_for(database_url, **OFF)) as (_, runtime), AsyncExitStack() as busy:
        await submitted(runtime, 3)
        for _ in range(runtime.pool.get_max_size()):
            await busy.enter_async_context(runtime.pool.acquire())
        await pool.execute("UPDATE jobs SET run_at = now() - interval '90 s'")
        await MetricsRefresher(metrics, runtime.gauges, runtime).refresh()
    samples = parsed(metrics.text().decode())
    assert samples["gateway_postgres_up", ()] == 1
    assert samples["queue_open_jobs", ("email-queue",)] == 3
    assert samples["gateway_queue_oldest_waiting_seconds", ("email-queue",)] >= 90
    assert ("gateway_clock_skew_seconds", ()) in samples


async def test_jobs_that_only_the_limit_holds_could_not_have_started(database_url: str, pool: Pool) -> None:
    metrics, starts = Metrics(), "UPDATE queues SET start_times = ARRAY[now()], start_counts = ARRAY[$1::bigint]"
    settings = settings_for(database_url, email_rate_max=10, email_rate_duration_ms=3_600_000, **OFF)
    async with serving(settings) as (_, runtime):
        await submitted(runtime, 3)
        await pool.execute("UPDATE jobs SET run_at = now() - interval '90 s'")
        found = []
        for used in (10, 5):
            await pool.execute(starts, used)
            await MetricsRefresher(metrics, runtime.gauges, runtime).refresh()
            samples = parsed(metrics.text().decode())
            assert samples["queue_rate_limit_used_ratio", ("email-queue",)] == used / 10
            found.append(samples["gateway_queue_startable_seconds", ("email-queue",)])
    assert found[0] < 60
    assert found[1] >= 90


def test_time_for_which_a_queue_was_held_is_not_counted() -> None:
    now = [1000.0]
    lately = Lately(readings=2, clock=lambda: now[0])
    assert lately.startable_s(None) == 0
    seen = []
    for used, paused in ((1.0, False), (1.0, False), (0.7, False), (0.0, False), (0.0, True), (None, False)):
        lately.see(_gauge(limit_used=used, paused=paused))
        seen.append(lately.startable_s(600.0))
        now[0] += 5.0
    # The third reading's mean is 0.85: from the one before it on, workers could have been faster.
    assert seen == [0, 0, 5, 10, 0, 5]
    now[0] += 1000.0
    assert lately.startable_s(600.0) == 600


def _gauge(*, limit_used: float | None, paused: bool) -> QueueGauge:
    policy = QueuePolicy(name="q", concurrency=5, rate=None, attempts=3, backoff_ms=1000, timeout_s=60)
    return QueueGauge(
        policy=policy, counts=QueueCounts(), oldest_s=600.0, job_s=None, limit_used=limit_used, paused=paused
    )


async def test_without_an_answer_of_redis_the_scrape_answers_at_once(
    database_url: str, own_valkey: Callable[[], EmbeddedValkey]
) -> None:
    valkey = own_valkey()
    with redis.Redis(port=valkey.port) as server:
        server.config_set("maxmemory", "64mb")
    async with serving(settings_for(database_url, redis_url=valkey.url, **OFF)) as (client, runtime):

        async def looked_at() -> Samples:
            seen = await scrape(client)
            assert ("gateway_redis_fit", ()) in seen
            return seen

        fit = await eventually(looked_at, 30)
        assert (fit["gateway_redis_fit", ()], fit["gateway_redis_evicts", ()]) == (1, 0)
        assert 0 < fit["gateway_redis_memory_used_ratio", ()] < 1
        valkey.pause()  # connections stay open, and nothing is answered
        await eventually(lambda: runtime.mode == "direct")
        took = []
        for _ in range(3):  # the fastest: this machine may stand still for a second itself
            began = time.perf_counter()
            away = await scrape(client)
            took.append(time.perf_counter() - began)
        assert min(took) < 1
        assert (away["gateway_redis_up", ()], away["gateway_fallback_active", ()]) == (0, 1)
        old = {"gateway_redis_fit", "gateway_redis_evicts", "gateway_redis_memory_used_ratio"}
        assert not old & {name for name, _ in away}, "what was seen a minute ago is not known now"
        valkey.resume()


def test_old_readings_are_absent_never_zero() -> None:
    now = [0.0]
    metrics = Metrics(clock=lambda: now[0])
    metrics.watch_slots(lambda: {"email-queue": Slots(busy=2, free=3)})
    for unknown in ("queue_waiting_jobs", "gateway_postgres_up", "gateway_redis_up", "gateway_clock_skew_seconds"):
        assert unknown not in metrics.text().decode()
    queue = QueueReading(states={"waiting": 7, "active": 1}, oldest_waiting_s=3.0, rate_per_s=None)
    metrics.read(Readings(queues={"email-queue": queue}, replicas={"all": 2}))
    assert parsed(metrics.text().decode())["queue_waiting_jobs", ("email-queue",)] == 3.5
    now[0] = STALE_S
    assert "queue_waiting_jobs{" in metrics.text().decode()
    now[0] = STALE_S + 0.1
    text = metrics.text().decode()
    for gone in ("queue_waiting_jobs", "queue_open_jobs", "gateway_queue_depth", "gateway_workers"):
        assert f"{gone}{{" not in text
    assert parsed(text)["gateway_worker_slots", ("email-queue", "busy")] == 2


def test_counters_follow_the_events() -> None:
    metrics = Metrics()
    listen = EventMetrics(metrics).on_event
    for kind, state in (("completed", JobState.COMPLETED), ("error", JobState.DELAYED), ("snoozed", JobState.DELAYED)):
        listen(JobSettled(job=job(), kind=kind, state=state, wait_s=0.2, run_s=2.0))
    stall = {"job_id": "1", "queue": "email-queue", "worker": None}
    listen(JobStalled(stalls=1, state=JobState.WAITING, **stall))
    listen(JobStalled(stalls=2, state=JobState.FAILED, **stall))
    listen(RateLimited(queue="email-queue", wait_s=0.5))
    listen(BrokerChanged(mode="direct", reason="redis is away"))
    samples = parsed(metrics.text().decode())
    mail = ("email-queue", "email.send")
    assert samples["gateway_jobs_total", ("completed", *mail)] == 1
    assert samples["gateway_job_failures_total", ("error", "email-queue")] == 1
    assert samples["gateway_job_failures_total", ("stalled", "email-queue")] == 1
    assert ("gateway_job_failures_total", ("snoozed", "email-queue")) not in samples
    assert samples["gateway_job_attempts_total", mail] == 3
    assert samples["gateway_job_retries_total", mail] == 1, "a snoozed job is not one that failed"
    assert samples["gateway_job_stalled_total", ("email-queue",)] == 2
    assert samples["gateway_job_duration_seconds_sum", ("run", *mail)] == 6
    assert samples["gateway_job_duration_seconds_count", ("wait", *mail)] == 3
    assert samples["gateway_job_duration_seconds_count", ("total", *mail)] == 1, "the other two go on"
    assert samples["gateway_job_rate_limit_wait_seconds_sum", ("email-queue",)] == 0.5
    assert (samples["gateway_fallback_active", ()], samples["gateway_redis_up", ()]) == (1, 0)
    listen(BrokerChanged(mode="queue", reason="redis answers", down_s=3.0))
    samples = parsed(metrics.text().decode())
    assert (samples["gateway_fallback_active", ()], samples["gateway_redis_up", ()]) == (0, 1)


def test_two_processes_in_one_test_share_no_registry() -> None:
    one, two = Metrics(), Metrics()
    one.email("smtp", "sent")
    assert "gateway_emails_total{" not in two.text().decode()


async def test_jobs_that_only_the_rate_limit_holds_back_ask_for_no_replica(database_url: str, pool: Pool) -> None:
    async with serving(settings_for(database_url, **OFF)) as (_, runtime):
        await submitted(runtime, 400)
        nothing_ran = await reading(runtime)
        done = (
            "UPDATE jobs SET state = 'completed', claimed_at = now() - interval '1.4 s', finished_at = now()"
            " WHERE id IN (SELECT id FROM jobs LIMIT 100)"
        )
        await pool.execute(done)
        samples = await reading(runtime)
    mail = ("email-queue",)
    assert nothing_ran["queue_waiting_jobs", mail] == 400
    assert nothing_ran["queue_demand_slots", mail] == 5
    assert ("queue_useful_replicas", mail) not in nothing_ran
    assert samples["queue_useful_replicas", mail] == 3  # 10/s * 1.4 s / 5
    assert samples["queue_waiting_jobs", mail] == 150
    assert samples["queue_rate_limited_jobs", mail] == 150
    assert samples["gateway_queue_depth", ("email-queue", "waiting")] == 300
    assert 0 < samples["queue_demand_slots", mail] <= 14.01


async def test_a_paused_queue_is_shown_and_asks_for_nothing(database_url: str) -> None:
    async with serving(settings_for(database_url, **OFF)) as (_, runtime):
        await submitted(runtime, 5)
        await runtime.engine.pause("email-queue")
        samples = await reading(runtime)
    assert samples["queue_paused", ("email-queue",)] == 1
    assert samples["queue_paused", ("orchestration-queue",)] == 0
    assert samples["queue_demand_slots", ("email-queue",)] == 0
