"""A real Prometheus over real replicas: what it sees is right, and the shipped rules alert."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.metrics import STALE_S
from tests.support.eventually import eventually
from tests.support.gateway import QUEUE, Cluster, gateways, migrated, running
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import LONG
from tests.support.prometheus import JOB, Labels, Prometheus, impatient_rules, prometheus
from tests.support.smtp_server import ScriptedSmtp

WAITING = f'gateway_queue_depth{{queue="{QUEUE}",state="waiting"}}'


def target(process: GatewayProcess) -> str:
    return process.url.removeprefix("http://")


async def test_what_it_sees_of_two_replicas_is_right_and_alerts_follow(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    async with (
        running(ScriptedSmtp()) as smtp,
        gateways(tmp_path, database_url, smtp, redis_url=redis_url) as cluster,
    ):
        replicas = await asyncio.gather(cluster.start(), cluster.start())
        rules = impatient_rules("1s")
        async with prometheus(tmp_path / "prometheus", [target(one) for one in replicas], rules) as server:
            await eventually(lambda: server.value(f'sum(up{{job="{JOB}"}}) == 2'), 20, "it does not reach both")
            await _a_paused_queue_is_counted_once(cluster, server)
            await _mails_are_counted_over_both(cluster, server)
            assert await server.rule_faults() == []
            await _those_that_go_are_missed(cluster, server)


async def _a_paused_queue_is_counted_once(cluster: Cluster, server: Prometheus) -> None:
    (await cluster.processes[0].admin.post(f"/api/v1/admin/queues/{QUEUE}/pause")).raise_for_status()
    await cluster.submit_many(7)

    async def seen() -> bool:
        depths = await server.query(WAITING)
        return len(depths) == 2 and set(depths.values()) == {7}

    await eventually(seen, 20, "not both replicas report the whole queue")
    assert await server.value(f"max by (queue) ({WAITING})") == 7, "the rules' way: once, not for each replica"
    shares = f'sum(queue_waiting_jobs{{queue="{QUEUE}"}}) == 7'
    await eventually(lambda: server.value(shares), 20, "the shares do not add up to the queue")
    await eventually(lambda: server.value(f'count(gateway_redis_evicts{{job="{JOB}"}} == 0) == 2'), 20)
    await eventually(lambda: _fires(server, "QueuePaused"), 20)

    async def told() -> bool:  # its words are those of the last evaluation, which may be before the last mail
        (alert,) = [one for one in await server.alerts() if one["labels"]["alertname"] == "QueuePaused"]
        assert alert["annotations"]["summary"] == "email-queue is paused and has waiting jobs"
        return bool(alert["annotations"]["description"] == "7 jobs wait until somebody resumes it.")

    await eventually(told, 20, "the alert does not name the 7 jobs")
    silent = ("QueueStuck", "GatewayDown", "NoActiveWorkers", "GatewayReplicasMissing")
    # A machine that stands still for two scrapes has them fire for a moment.
    await eventually(lambda: _are_silent(server, *silent), 20, "alerts fire without a reason")


async def _mails_are_counted_over_both(cluster: Cluster, server: Prometheus) -> None:
    (await cluster.processes[1].admin.post(f"/api/v1/admin/queues/{QUEUE}/resume")).raise_for_status()
    await cluster.all_delivered()
    sent = 'sum(gateway_emails_total{outcome="sent"}) == 7'
    await eventually(lambda: server.value(sent), 20, "the mails of both replicas are not 7")
    ended = 'sum(gateway_job_duration_seconds_count{phase="total"}) == 7'  # a moment after the mail is sent
    await eventually(lambda: server.value(ended), 20, "the jobs of both replicas are not 7")

    async def recorded(of: str) -> dict[Labels, float]:
        await cluster.stats()  # a rate needs requests between two scrapes
        return await server.query(f"namespace:{of}:ratio_rate5m")

    for promise in ("http_errors", "email_late"):
        kept = await eventually(partial(recorded, promise), 20, f"{promise} is not recorded")
        assert kept == {frozenset(): 0.0}


async def _those_that_go_are_missed(cluster: Cluster, server: Prometheus) -> None:
    first, second = cluster.processes
    first.kill()
    await eventually(lambda: _fires(server, "GatewayReplicasMissing"), 20)
    await eventually(lambda: _are_silent(server, "GatewayDown"), 20, "one of two is there")
    second.kill()
    await eventually(lambda: _fires(server, "GatewayDown", "NoActiveWorkers"), 20)

    async def absent() -> bool:
        return await server.query(WAITING) == {}

    await eventually(absent, 20, "absent, not 0")


async def _are_silent(server: Prometheus, *names: str) -> bool:
    return not set(names) & await server.firing()


async def _fires(server: Prometheus, *names: str) -> bool:
    return set(names) <= await server.firing()


@LONG
async def test_what_is_not_known_any_more_is_absent_and_a_scrape_never_waits(
    tmp_path: Path, own_postgres: Callable[[], EmbeddedPostgres], own_valkey: Callable[[], EmbeddedValkey]
) -> None:
    postgres, valkey = own_postgres(), own_valkey()
    url = await migrated(postgres.dsn)
    async with (
        running(ScriptedSmtp()) as smtp,
        gateways(tmp_path, url, smtp, redis_url=valkey.url) as cluster,
    ):
        process = await cluster.start()
        async with prometheus(tmp_path / "prometheus", [target(process)], impatient_rules("1s")) as server:
            await eventually(lambda: server.query(WAITING), 20)
            valkey.pause()  # connections stay open, and nothing is answered
            postgres.stop()
            slowest = 0.0
            gone_at = time.monotonic()
            async with httpx.AsyncClient(base_url=process.url, trust_env=False) as client:
                while time.monotonic() - gone_at < STALE_S + 5:
                    started = time.perf_counter()
                    text = (await client.get("/metrics")).text
                    slowest = max(slowest, time.perf_counter() - started)
                    await asyncio.sleep(0.1)
            valkey.resume()
            names = {family.name for family in text_string_to_metric_families(text) if family.samples}
            assert not names & {"gateway_queue_depth", "queue_waiting_jobs", "queue_demand_slots", "gateway_workers"}
            assert not names & {"gateway_clock_skew_seconds", "gateway_redis_fit", "gateway_redis_evicts"}
            assert "NaN" not in text
            assert slowest < 1.0
            assert await server.query(WAITING) == {}
            await eventually(lambda: _fires(server, "GatewayWithoutPostgres", "GatewayDirectMode"), 10)
            await eventually(lambda: _fires(server, "QueueMetricsMissing"), 10)
