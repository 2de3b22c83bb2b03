"""Two replicas on one ledger whose loops stand still: what happens, the test makes happen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import redis

from gateway.infra.postgres import open_pool
from gateway.jobs.deadlines import Deadlines
from gateway.jobs.errors import Cancel, Fail, Snooze
from gateway.jobs.job import ClaimedJob
from gateway.jobs.policy import StallPolicy
from tests.conformance.model import Ending
from tests.support.engine import QUEUE, Replica, policy, replica

HOUR_S = 3600.0  # what is delayed becomes due when the test says so, not by the clock
GROUP_WIDTH = 2
STALLS = StallPolicy(lease_ms=int(HOUR_S * 1000))  # a lease runs out when the test says so, too
POLICY = policy(backoff_ms=int(HOUR_S * 1000), group_concurrency=GROUP_WIDTH)


def raised_for(ending: Ending) -> Exception | None:
    return {
        Ending.ERROR: RuntimeError("no luck"),
        Ending.FAIL: Fail("550"),
        Ending.CANCELLED: Cancel("withdrawn"),
        Ending.SNOOZED: Snooze("451", after_s=HOUR_S),
        Ending.REST: Snooze("421", after_s=HOUR_S, pause_queue=True),
    }.get(ending)


class World:
    """Two replicas whose loops stand still: what happens, a rule makes happen."""

    def __init__(self, pool: asyncpg.Pool, holders: Sequence[Replica], redis_url: str | None) -> None:
        self.pool = pool
        self.deadlines = Deadlines(pool)
        self.holders = {each.store.worker: each for each in holders}
        self.redis = redis.Redis.from_url(redis_url) if redis_url else None

    @classmethod
    async def open(cls, stack: AsyncExitStack, database_url: str, redis_url: str | None) -> World:
        pool = await open_pool(database_url, min_size=1, max_size=4)
        stack.push_async_callback(pool.close)
        holders = []
        for name in ("one", "two"):
            made = await stack.enter_async_context(
                replica(pool, redis_url, patience_s=5, queue=POLICY, stalls=STALLS, name=name)
            )
            # The loop runs only during a rule: a ping cut in two by a pause would look like an outage.
            await made.leases.stop()
            await made.reporter.stop()
            await made.dispatcher.stop()
            holders.append(made)
        return cls(pool, holders, redis_url)

    async def reset(self) -> None:
        await self.pool.execute("TRUNCATE jobs, operations")
        await self.pool.execute("UPDATE queues SET paused_at = NULL, paused_until = NULL, pause_reason = NULL")
        if self.redis is not None:
            self.redis.flushall()
        for each in self.holders.values():
            each.events.clear()

    @staticmethod
    async def quiet() -> None:
        """Settling, telling Redis and giving turns go on behind the calls that cause them. Nothing else runs here."""
        while under_way := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(under_way)

    async def fetch(self, holder: Replica, want: int, *, look: bool) -> list[ClaimedJob]:
        """As a worker that asks until it has its slots full or there is nothing more. ``look``: it is time to ask the
        ledger itself when Redis knows of nothing."""
        broker = holder.dispatcher.redis
        if broker is not None:
            broker._look_at[QUEUE] = 0.0 if look else float("inf")
        claimed: list[ClaimedJob] = []
        while len(claimed) < want:
            before = 0 if broker is None else (await broker.ready(QUEUE))[0]
            fetched = await holder.dispatcher.fetch(POLICY, want - len(claimed))
            claimed += fetched.jobs
            if fetched.paused or not (fetched.jobs or before):
                break
        return claimed

    async def run(self, holder: Replica, claimed: ClaimedJob, ending: Ending) -> None:
        """The whole of the executor, with a task that ends like this."""
        if ending is Ending.INTERRUPTED:
            await holder.executor.hand_back([claimed])
            return

        async def behave(_args: dict[str, Any], _context: object) -> None:
            if (error := raised_for(ending)) is not None:
                raise error

        holder.script.behave = behave
        await holder.executor.run(claimed, asyncio.get_running_loop().time())
