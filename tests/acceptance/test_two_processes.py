"""Two gateway processes share one queue; what each says of its own health, and how one leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.dev_servers.child import free_port
from gateway.infra.migrate import migrate
from tests.support.eventually import eventually
from tests.support.gateway import QUEUE, Cluster, HoldingSmtp, gateways, running
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import WITH_REDIS, WITH_REDIS_ALWAYS, WITHOUT_REDIS, WITHOUT_REDIS_ALWAYS
from tests.support.smtp_server import ScriptedSmtp

BULL_BOARD = ["active", "waiting", "completed", "failed"]


@pytest.fixture
async def cluster(
    tmp_path: Path, database_url: str, smtp: ScriptedSmtp, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    async with gateways(tmp_path, database_url, smtp, redis_url=mode_redis_url) as made:
        yield made


@pytest.fixture
async def holding() -> AsyncIterator[HoldingSmtp]:
    async with running(HoldingSmtp()) as server:
        yield server


async def live_replicas(gateway: GatewayProcess) -> list[dict[str, Any]]:
    answer = await gateway.admin.get("/api/v1/admin/workers")
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_two_processes_share_one_queue(cluster: Cluster, smtp: ScriptedSmtp, mode: str) -> None:
    first, second = await cluster.start(), await cluster.start()
    smtp.script.delay_s = 0.2
    mails = await cluster.submit_many(40)
    await cluster.all_delivered()
    assert mode in {mail.mode for mail in mails} <= {mode, "direct"}, "Redis that is slow to answer is done without"
    assert cluster.duplicates() == []
    workers = Counter([(await cluster.show(mail))["attempts"][0]["worker"] for mail in mails])

    async def both_shown() -> bool:  # as they were at their last sign of life
        replicas = await live_replicas(first)
        assert workers.keys() == {replica["id"] for replica in replicas}, "both have sent"
        shown = [(one["role"], one["mode"], one["slots"][QUEUE]["slots"]) for one in replicas]
        return shown == [("all", mode, 5)] * 2

    await eventually(both_shown)
    for gateway in (first, second):
        stats = await cluster.stats(gateway)
        assert stats == {"waiting": 0, "active": 0, "completed": 40, "failed": 0, "delayed": 0, "total": 40}
        board = (await gateway.admin.get("/admin/queues/api/queues")).json()
        assert board.keys() == {"queues"}
        email = next(one for one in board["queues"] if one["name"] == QUEUE)
        assert email == {"name": QUEUE, "counts": dict.fromkeys(BULL_BOARD, 0) | {"completed": 40}}


@WITH_REDIS
async def test_the_waiting_metric_is_each_processs_share(cluster: Cluster) -> None:
    first, second = await cluster.start(), await cluster.start()
    assert (await first.admin.post(f"/api/v1/admin/queues/{QUEUE}/pause")).status_code == 200
    await cluster.submit_many(7)

    async def shares() -> list[float | None]:
        return [await gateway.metric("queue_waiting_jobs", queue=QUEUE) for gateway in (first, second)]

    async def shown() -> bool:
        assert await shares() == [3.5, 3.5]
        for gateway in (first, second):
            assert await gateway.metric("queue_open_jobs", queue=QUEUE) == 7, "of the whole queue"
            assert await gateway.metric("gateway_queue_depth", queue=QUEUE, state="waiting") == 7
            assert await gateway.metric("gateway_workers", role="all") == 2
        return True

    await eventually(shown, 20, "both are refreshed every 5 s")
    assert (await second.admin.post(f"/api/v1/admin/queues/{QUEUE}/resume")).status_code == 200
    await cluster.all_delivered()


@WITH_REDIS
async def test_D_the_rate_limit_holds_over_both(cluster: Cluster) -> None:
    limit = {"EMAIL_RATE_MAX": "3", "EMAIL_RATE_DURATION_MS": "500"}
    first, _ = await cluster.start(**limit), await cluster.start(**limit)
    await cluster.submit_many(10)
    await cluster.all_delivered()
    jobs = (await first.admin.get(f"/api/v1/admin/queues/{QUEUE}/jobs")).json()["data"]
    starts = sorted(datetime.fromisoformat(job["startedAt"]).timestamp() for job in jobs)
    assert len(starts) == 10
    spans = [fourth - one for one, fourth in zip(starts, starts[3:], strict=False)]
    assert min(spans) >= 0.5, "a fourth start within a window"


@WITH_REDIS_ALWAYS
async def test_one_accepts_and_the_other_sends(cluster: Cluster, mode: str) -> None:
    api = await cluster.start(GATEWAY_ROLE="api")
    waiting = await cluster.submit_many(3)
    assert (await cluster.stats())["waiting"] == 3
    worker = await cluster.start(GATEWAY_ROLE="worker")
    await eventually(lambda: not cluster.undelivered())
    later = await cluster.submit(api)
    await eventually(lambda: cluster.has_status(later, "sent"))
    assert await worker.status("/api/v1/emails") == 404
    for path in ("/health", "/health/ready", "/metrics"):
        await eventually(lambda path=path: answers(worker, path, 200))
    assert await api.metric("gateway_worker_slots", queue=QUEUE, state="free") is None
    senders = {(await cluster.show(mail, api))["attempts"][0]["worker"] for mail in [*waiting, later]}
    assert senders == {one["id"] for one in await live_replicas(api) if one["role"] == "worker"}
    assert {one["role"] for one in await live_replicas(api)} == {"api", "worker"}


@WITHOUT_REDIS_ALWAYS
async def test_G_a_stopping_process_serves_http_and_finishes_its_mail(
    tmp_path: Path, database_url: str, holding: HoldingSmtp, mode_redis_url: str | None
) -> None:
    async with gateways(tmp_path, database_url, holding, redis_url=mode_redis_url, SHUTDOWN_GRACE_S="60") as cluster:
        leaving, staying = await cluster.start(), await cluster.start(GATEWAY_ROLE="api")
        mail = await cluster.submit(leaving)
        await holding.wait_for(1)
        leaving.terminate()
        await eventually(lambda: answers(leaving, "/health/ready", 503))
        assert [await leaving.status(path) for path in ("/health/live", "/health", "/metrics")] == [200] * 3
        await eventually(lambda: one_drains(staying))
        left_waiting = await cluster.submit(leaving)
        assert (await cluster.show(mail, leaving))["status"] == "processing"
        holding.answers.set()
        assert await leaving.exit_code() == 0
        shown = await cluster.show(mail, staying)
        assert (shown["status"], [one["outcome"] for one in shown["attempts"]]) == ("sent", ["sent"])
        assert [one["role"] for one in await live_replicas(staying)] == ["api"], "it has left the register"
        assert len(holding.messages) == 1
        assert (await cluster.show(left_waiting, staying))["status"] == "pending", "it took no further job"
        await cluster.start()
        await eventually(lambda: cluster.has_status(left_waiting, "sent"))


async def one_drains(gateway: GatewayProcess) -> bool:
    return any(one["draining"] for one in await live_replicas(gateway))


async def answers(gateway: GatewayProcess, path: str, status: int) -> bool:
    return await gateway.status(path) == status


@WITHOUT_REDIS
async def test_health_without_migrations_says_so_until_they_are_there(
    tmp_path: Path, empty_database_url: str, smtp: ScriptedSmtp, mode_redis_url: str | None
) -> None:
    async with gateways(tmp_path, empty_database_url, smtp, redis_url=mode_redis_url) as cluster:
        gateway = await cluster.start(port=free_port(), wait=False)
        await eventually(lambda: answers(gateway, "/health", 503), 40)
        await eventually(lambda: lacks_migrations(gateway))
        assert await gateway.status("/health/ready") == 503
        assert [await gateway.status(path) for path in ("/health/live", "/metrics", "/api/health")] == [200] * 3
        await migrate(empty_database_url)
        await eventually(lambda: answers(gateway, "/health/ready", 200))
        await eventually(lambda: answers(gateway, "/health", 200))
        await cluster.submit()
        await cluster.all_delivered()


async def lacks_migrations(gateway: GatewayProcess) -> bool:
    """PostgreSQL that takes longer than a second to answer is said to be silent instead."""
    return "migrat" in (await gateway.admin.get("/health")).json()["checks"]["ledger"]


async def test_health_while_postgres_and_redis_are_stopped(
    tmp_path: Path,
    own_postgres: Callable[[], EmbeddedPostgres],
    own_valkey: Callable[[], EmbeddedValkey],
    smtp: ScriptedSmtp,
) -> None:
    postgres, valkey = own_postgres(), own_valkey()
    await migrate(postgres.dsn)
    async with gateways(tmp_path, postgres.dsn, smtp, redis_url=valkey.url) as cluster:
        gateway = await cluster.start()
        await eventually(lambda: health_is(gateway, "ok", "queue"))
        valkey.kill()
        await eventually(lambda: redis_is(gateway, "degraded", "disconnected"))
        await eventually(lambda: health_is(gateway, "degraded", "direct"))
        await eventually(
            lambda: answers(gateway, "/health/ready", 200), message="Redis being away takes no replica out"
        )
        postgres.kill()
        await eventually(lambda: answers(gateway, "/health", 503))
        await eventually(lambda: answers(gateway, "/health/ready", 503))
        assert await gateway.status("/health/live") == 200
        assert await gateway.status("/metrics") == 200
        postgres.start()
        valkey.start()
        await eventually(lambda: redis_is(gateway, "ok", "connected"), 20)
        for path in ("/health", "/health/ready"):
            await eventually(lambda path=path: answers(gateway, path, 200))


async def health_is(gateway: GatewayProcess, status: str, mode: str) -> bool:
    answer = await gateway.admin.get("/health")
    return (answer.status_code, answer.json()["status"], answer.json()["mode"]) == (200, status, mode)


async def redis_is(gateway: GatewayProcess, status: str, redis: str) -> bool:
    """For ``eventually``: what document 002's health says."""
    body = (await gateway.admin.get("/api/health")).json()
    assert body.keys() == {"status", "timestamp", "jobQueue"}
    assert body["jobQueue"]["enabled"] is True
    return (body["status"], body["jobQueue"]["redis"]) == (status, redis)
