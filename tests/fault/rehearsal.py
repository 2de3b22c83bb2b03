"""What an operator does and what befalls one, under load and under a real Prometheus: ``make rehearsal``.

Each act prints one JSON line on standard output; progress is on standard error. The exit code is 1 unless every act is
``ok``: no request refused, no mail lost or doubled, no attempt charged, and Prometheus alerted to what it should.
Prometheus looks each half second (where one answer speaks for several processes, each three) and evaluates the shipped
rules, whose alerts wait one second here, not minutes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from gateway.dev_servers import EmbeddedPostgres, free_port
from gateway.infra.migrate import migrate
from tests.fault.rehearsal_load import Balancer, Mailbox, Told
from tests.fault.rehearsal_stage import NEVER, Figures, Progress, Stage, stage
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, environment_of, gateways, running
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_topologies import Sentinels, sentinels
from tests.support.supervised import Supervised

REPLICAS: Final = 3


async def rolling_upgrade(on: Stage, cluster: Cluster, balancer: Balancer) -> Figures:
    """Each replica in turn: no further job and not ready, out of the balancer, SIGTERM, ended, the next one ready."""
    figures = Figures("rolling_upgrade")

    async def story(_: Told) -> None:
        for old in tuple(cluster.processes):
            await _replaced(cluster, balancer, old)
            figures.replaced += 1
            on.progress.step(f"replica {figures.replaced} of {REPLICAS} replaced")

    return await on.play(figures, balancer, story)


async def _replaced(cluster: Cluster, balancer: Balancer, old: GatewayProcess) -> None:
    url = old.url
    workers = (await old.admin.get("/api/v1/admin/workers")).json()["data"]
    [worker] = [one["id"] for one in workers if one["pid"] == old.pid]
    (await old.admin.post(f"/api/v1/admin/workers/{worker}/drain?withinS=60")).raise_for_status()
    await eventually(lambda: balancer.has_left(url), 20, "the balancer does not leave it")
    old.terminate()
    cluster.retire(old)
    assert await old.exit_code() == 0
    new = await cluster.start(port=int(url.rpartition(":")[2]), wait=False)
    await new.wait_ready(30)
    await eventually(lambda: url in balancer.ready, 20, "the balancer does not find it")


async def redis_failover(on: Stage, cluster: Cluster, balancer: Balancer, redis: Sentinels) -> Figures:
    """The master is killed; replicas go on without Redis until the sentinels name another."""
    figures = Figures("redis_failover")

    async def story(told: Told) -> None:
        old = redis.master
        old.kill()
        on.progress.step("the Redis master is killed")
        await eventually(lambda: all(_outages(one) for one in cluster.processes), 40, "Redis does not come back")
        on.progress.step("the next master serves")
        old.start()
        await eventually(lambda: redis.complete, 40, "the old master does not come back as a replica")

    await on.play(figures, balancer, story)
    figures.direct_s = round(max(max(_outages(one)) for one in cluster.processes), 2)
    figures.ok = figures.ok and "GatewayDirectMode" in figures.alerts
    return figures


def _outages(process: GatewayProcess) -> list[float]:
    """How long Redis was away for it each time, in seconds, as its log says; at the start it was not there before."""
    lines = [json.loads(line) for line in process.log.splitlines() if '"redis_up"' in line]
    return [line["down_s"] for line in lines if line["down_s"] is not None]


async def everybody_leaves(on: Stage, cluster: Cluster) -> Figures:
    """No load: alerts about replicas that are gone come, each when it should."""
    figures, began = Figures("everybody_leaves"), time.time()
    first, *others = tuple(cluster.processes)
    await _gone(cluster, first)
    await eventually(lambda: _fires(on, "GatewayReplicasMissing"), 20, "a missing replica is not alerted to")
    too_early = NEVER & await on.prometheus.firing()
    for each in others:
        await _gone(cluster, each)
    await eventually(lambda: _fires(on, "GatewayDown", "NoActiveWorkers"), 20, "that all are gone is not alerted to")
    await on.seen(figures, began)
    figures.ok = not too_early
    return figures


async def _gone(cluster: Cluster, process: GatewayProcess) -> None:
    process.terminate()
    cluster.retire(process)
    assert await process.exit_code() == 0


async def _fires(on: Stage, *names: str) -> bool:
    return set(names) <= await on.prometheus.firing()


async def memory_restart(on: Stage, made: Supervised) -> Figures:
    """Mails of 2 MB let processes grow above their mark; the supervisor replaces them."""
    figures = Figures("memory_restart")

    async def story(_: Told) -> None:
        await eventually(lambda: _replaced_for_memory(made) >= 2, 60, "processes are not replaced for their memory")
        on.progress.step("both processes are replaced for their memory")

    await on.play(figures, Balancer([made.url]), story, size=2_000_000)
    figures.replaced = _replaced_for_memory(made)
    return figures


def _replaced_for_memory(made: Supervised) -> int:
    return made.log.count('"why":"memory"')


@asynccontextmanager
async def supervised(directory: Path, environment: dict[str, str]) -> AsyncIterator[Supervised]:
    """Two processes whose mark is a little above what a fresh one needs."""
    made = Supervised(directory, environment, "instances = 2")
    made.start()
    try:
        size = max(one.rss_bytes or 0 for one in await made.ready(2))
        mark = f'instances = 2\nmin_uptime = "1s"\nmax_memory_restart = "{(size >> 20) + 30}M"\n'
        made.file.write_text(mark, "utf-8")
        await asyncio.to_thread(made.run, "reload")
        await made.ready(2)
        yield made
    finally:
        await asyncio.to_thread(made.close)


async def rehearse(directory: Path, dsn: str, progress: Progress) -> None:
    """The acts, one after the other; ``dsn``: of an empty database."""
    (directory / "supervised").mkdir()
    await migrate(dsn)
    async with running(Mailbox()) as mailbox, sentinels(directory / "redis") as redis:
        progress.step("PostgreSQL, six servers of Redis and a mail server run")
        mailbox.script.delay_s = 0.02
        settings = _through(redis)
        async with gateways(directory, dsn, mailbox, **settings) as cluster:
            await _with_replicas(cluster, mailbox, redis, progress)
        environment = environment_of(dsn, smtp=(mailbox.host, mailbox.port), **settings)
        async with supervised(directory / "supervised", environment) as made:
            progress.step("two supervised processes are ready")
            async with stage(directory / "prometheus-2", dsn, mailbox, [made.url], progress, 3.0) as on:
                progress.act(await memory_restart(on, made))


def _through(redis: Sentinels) -> dict[str, Any]:
    hosts = ",".join(f"{host}:{port}" for host, port in redis.target.hosts)
    return {
        "redis_url": f"redis://:{redis.target.password}@{hosts}",
        "REDIS_SENTINEL_NAME": redis.target.sentinel_name,
        "REDIS_SENTINEL_PASSWORD": redis.target.sentinel_password,
    }


async def _with_replicas(cluster: Cluster, mailbox: Mailbox, redis: Sentinels, progress: Progress) -> None:
    await asyncio.gather(*(cluster.start(port=free_port()) for _ in range(REPLICAS)))
    progress.step(f"{REPLICAS} replicas are ready")
    urls = [one.url for one in cluster.processes]
    directory, dsn = cluster.directory / "prometheus-1", cluster.environment["DATABASE_URL"]
    async with stage(directory, dsn, mailbox, urls, progress) as on:
        progress.step("Prometheus sees them")
        progress.act(await rolling_upgrade(on, cluster, Balancer(urls)))
        progress.act(await redis_failover(on, cluster, Balancer(urls), redis))
        progress.act(await everybody_leaves(on, cluster))


def main() -> int:
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="gateway-rehearsal-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL does not run as root: its user must reach its data
        postgres = EmbeddedPostgres(directory / "postgres")
        postgres.start()
        try:
            asyncio.run(rehearse(directory, postgres.dsn, progress))
        finally:
            postgres.stop()
    return 0 if all(one.ok for one in progress.acts) else 1


if __name__ == "__main__":
    sys.exit(main())
