"""The ledger stopped or crashed under load: nobody is told 202 in vain, and what was accepted is sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from gateway.dev_servers import EmbeddedPostgres
from gateway.infra.migrate import migrate
from tests.support.eventually import eventually
from tests.support.gateway import Accepted, Cluster, HoldingSmtp, gateways
from tests.support.modes import LONG, WITH_REDIS, WITHOUT_REDIS

pytestmark = pytest.mark.fault


@pytest.fixture
def postgres(own_postgres: Callable[[], EmbeddedPostgres]) -> EmbeddedPostgres:
    return own_postgres()


@pytest.fixture
async def cluster(
    tmp_path: Path, postgres: EmbeddedPostgres, smtp: HoldingSmtp, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    connection = await asyncpg.connect(postgres.dsn)
    # As in production: without it the tests' fast server forgets commits when it is killed.
    await connection.execute("ALTER DATABASE postgres SET synchronous_commit = on")
    await connection.close()
    await migrate(postgres.dsn)
    async with gateways(tmp_path, postgres.dsn, smtp, redis_url=mode_redis_url) as made:
        yield made


async def only_honest_duplicates(cluster: Cluster) -> None:
    """Sent twice is only what the ledger's end left unknown; it has one Message-ID and says so (invariant C)."""
    for mail in cluster.duplicates():
        shown = await cluster.show(mail)
        messages = cluster.messages_to(mail)
        assert shown["uncertain"], shown
        assert all(b"Message-ID: " + shown["messageId"].encode() in message.data for message in messages)


async def each_was_accepted_once(cluster: Cluster) -> None:
    """However often a caller had to repeat itself: one mail for one Idempotency-Key."""
    assert len({mail.id for mail in cluster.accepted}) == len(cluster.accepted)
    stats = await cluster.stats()
    assert (stats["completed"], stats["failed"], stats["total"]) == (len(cluster.accepted), 0, len(cluster.accepted))


@pytest.mark.parametrize(
    ("mode", "end"),
    [
        ("queue", "stop"),
        ("direct", "kill"),
        pytest.param("queue", "kill", marks=LONG),
        pytest.param("direct", "stop", marks=LONG),
    ],
)
async def test_A_postgres_restarts_under_load(
    cluster: Cluster, smtp: HoldingSmtp, postgres: EmbeddedPostgres, end: str
) -> None:
    await cluster.start()
    await cluster.start()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(cluster.submit_many(50))
        await smtp.wait_for(20)
        await asyncio.to_thread(getattr(postgres, end))
        await eventually(lambda: cluster.refused >= 3, 20, message="callers are told 503")
        postgres.start()
    await cluster.all_delivered(40)
    assert len(cluster.accepted) == 150
    await only_honest_duplicates(cluster)
    await each_was_accepted_once(cluster)
    assert Counter(process.log.count('"worker_died"') for process in cluster.processes) == {0: 2}


@WITH_REDIS
async def test_A_an_answer_that_came_while_postgres_was_away_is_kept_and_settled(
    cluster: Cluster, smtp: HoldingSmtp, postgres: EmbeddedPostgres
) -> None:
    """Nobody may take such a mail over: the ledger that would have to say so is away too."""
    await cluster.start(LOCK_DURATION_MS="30000")  # longer than a slow start of PostgreSQL
    smtp.answers.clear()
    mail = await cluster.submit()
    await smtp.wait_for(1)
    await asyncio.to_thread(postgres.stop)
    smtp.answers.set()
    gateway = cluster.processes[0]
    await eventually(lambda: "_for_ledger" in gateway.log or "Email job failed" in gateway.log, 20)
    postgres.start()
    shown = await eventually(lambda: is_sent(cluster, mail), 20)
    assert len(smtp.messages) == 1, [attempt["outcome"] for attempt in shown["attempts"]]


async def is_sent(cluster: Cluster, mail: Accepted) -> dict[str, object]:
    return await cluster.has_status(mail, "sent")


@LONG
@WITHOUT_REDIS
async def test_G_a_stop_while_postgres_is_away_ends_in_time(
    cluster: Cluster, smtp: HoldingSmtp, postgres: EmbeddedPostgres
) -> None:
    gateway = await cluster.start(SHUTDOWN_GRACE_S="1")
    smtp.answers.clear()
    mail = await cluster.submit()
    await smtp.wait_for(1)
    await asyncio.to_thread(postgres.stop)
    smtp.answers.set()
    await eventually(lambda: "answer_waits_for_ledger" in gateway.log)
    gateway.terminate()
    assert await gateway.exit_code(15) == 0
    assert "never retrieved" not in gateway.log
    postgres.start()
    await cluster.start()
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert [one["outcome"] for one in shown["attempts"]] == ["unknown", "sent"], (
        "the first answer died with its process"
    )
    await only_honest_duplicates(cluster)
