"""Gateway processes that die while schedules tick: every tick has its job, none has two."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from tests.support.eventually import eventually
from tests.support.gateway import Cluster
from tests.support.modes import LONG, WITHOUT_REDIS, WITHOUT_REDIS_ALWAYS

pytestmark = pytest.mark.fault
PATH = "/api/v1/admin/schedules"
SCHEDULES = 20


async def make_schedules(cluster: Cluster) -> dict[str, datetime]:
    """Each ticks every second; answers their first ticks. Their jobs are of mails that nobody knows, and fail."""
    first = {}
    for number in range(SCHEDULES):
        body = {
            "name": f"often-{number}",
            "task": "email.send",
            "args": {"queueId": str(uuid7())},
            "everyS": 1,
            "missed": "all",
        }
        answer = await cluster.processes[0].admin.post(PATH, json=body)
        assert answer.status_code == 201, answer.text
        first[body["name"]] = datetime.fromisoformat(answer.json()["data"]["nextAt"])
    return first


async def ticks_of_all(ledger: asyncpg.Connection[asyncpg.Record]) -> dict[str, list[datetime]]:
    """By schedule, of every job, in order of arrival."""
    found: dict[str, list[datetime]] = defaultdict(list)
    for row in await ledger.fetch("SELECT dedupe_key FROM jobs ORDER BY seq"):
        _, name, tick = row["dedupe_key"].split(":", 2)
        found[name].append(datetime.fromisoformat(tick))
    return found


async def all_tick(ledger: asyncpg.Connection[asyncpg.Record], seconds: int = 0) -> None:
    """Returns when every schedule has had a tick so many seconds from now."""
    moment = await ledger.fetchval("SELECT now()")

    async def have_ticked() -> bool:
        behind = "SELECT count(*) FROM schedules WHERE last_tick_at <= $1 OR last_tick_at IS NULL"
        return await ledger.fetchval(behind, moment + timedelta(seconds=seconds)) == 0

    await eventually(have_ticked, 30)


async def nobody_for(ledger: asyncpg.Connection[asyncpg.Record], seconds: int) -> None:
    """Returns when the schedules are so many seconds behind."""

    async def are_behind() -> bool:
        oldest = await ledger.fetchval("SELECT now() - min(next_at) FROM schedules")
        return bool(oldest > timedelta(seconds=seconds))

    await eventually(are_behind)


async def stopped_ticks(ledger: asyncpg.Connection[asyncpg.Record]) -> dict[str, list[datetime]]:
    await ledger.execute("UPDATE schedules SET enabled = false, revision = revision + 1")
    return await ticks_of_all(ledger)


def each_second_once(found: dict[str, list[datetime]], first: dict[str, datetime]) -> None:
    assert found.keys() == first.keys()
    for name, ticks in found.items():
        assert ticks == [first[name] + timedelta(seconds=n) for n in range(len(ticks))], name


@WITHOUT_REDIS_ALWAYS
async def test_A_processes_killed_while_ticking_lose_no_tick_and_double_none(
    cluster: Cluster, database_url: str
) -> None:
    await cluster.start()
    await cluster.start()
    ledger = await asyncpg.connect(database_url)
    try:
        first = await make_schedules(cluster)
        for _ in range(3):
            await all_tick(ledger)
            killed = cluster.processes[0]
            cluster.retire(killed)
            killed.kill()
            await cluster.start()
        for killed in [*cluster.processes]:
            cluster.retire(killed)
            killed.kill()
        await nobody_for(ledger, 3)
        await cluster.start()
        await all_tick(ledger)
        found = await stopped_ticks(ledger)
    finally:
        await ledger.close()
    each_second_once(found, first)


@LONG
@WITHOUT_REDIS
async def test_B_a_process_that_froze_while_ticking_doubles_nothing(cluster: Cluster, database_url: str) -> None:
    frozen = await cluster.start()
    await cluster.start()
    ledger = await asyncpg.connect(database_url)
    try:
        first = await make_schedules(cluster)
        for _ in range(3):
            await all_tick(ledger)
            frozen.freeze()
            await all_tick(ledger, 1)
            frozen.thaw()
        await all_tick(ledger)
        found = await stopped_ticks(ledger)
    finally:
        await ledger.close()
    each_second_once(found, first)
