"""When a run's end counts as told (docs/realtime.md)."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from gateway.realtime.channel import Channel
from gateway.services.orchestration.runs import RunStore
from gateway.services.orchestration.telling import RunEnds
from tests.support.run_rows import project_row, run_row

TOLD = "SELECT told FROM runs WHERE id = $1"


class HeldLog:
    """A publisher whose log takes nothing before it is let go."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Any]] = []
        self.came, self.taken = asyncio.Event(), asyncio.Event()

    def publish(self, channels: tuple[Channel, ...], kind: str, fields: dict[str, Any]) -> None:
        self.published.append((kind, fields["jobId"]))
        self.came.set()

    async def written(self) -> None:
        await self.taken.wait()


async def test_a_runs_end_counts_as_told_when_it_is_in_the_log(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    run = await run_row(pool, await project_row(pool), status="failed")
    killed = HeldLog()
    telling = asyncio.create_task(RunEnds(RunStore(pool), killed).tell())
    await asyncio.wait_for(killed.came.wait(), 20)
    telling.cancel()  # as a kill does it: published, and not in the log yet
    await asyncio.wait([telling])
    assert await pool.fetchval(TOLD, run.id) is None

    other = HeldLog()
    other.taken.set()
    ends = RunEnds(RunStore(pool), other)
    assert (await ends.tell(), await ends.tell()) == (1, 0)
    assert other.published == killed.published == [("job:failed", str(run.id))]
    assert await pool.fetchval(TOLD, run.id) == "failed"


async def test_a_run_that_began_anew_meanwhile_is_told_again(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    run = await run_row(pool, await project_row(pool), status="failed")
    store = RunStore(pool)
    ended = await store.untold(10)
    await pool.execute("UPDATE runs SET status = 'queued' WHERE id = $1", run.id)
    await store.told(ended)
    await pool.execute("UPDATE runs SET status = 'failed' WHERE id = $1", run.id)
    assert await store.untold(10) == ended
