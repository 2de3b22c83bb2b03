"""The ticks of schedules: in every replica, without a leader. Who comes first makes a tick's job, the others nothing.

Due schedules are read without a lock. One statement compares a schedule's next tick with what was read, moves it on and
inserts the jobs, so a process that freezes or dies in between has done all of it or nothing. Ledger time decides.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from gateway.infra.loops import Loop
from gateway.infra.postgres import is_unavailable
from gateway.infra.uuid7 import uuid7
from gateway.jobs.batcher import NEVER
from gateway.jobs.engine import Engine
from gateway.jobs.job import Inserted
from gateway.jobs.schedule import Overlap, Schedule, schedule_of
from gateway.jobs.store import SQL, Row, inserted
from gateway.jobs.ticks import Plan, plan

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0  # what is changed meanwhile waits this long; what was known before starts at its time
_AT_ONCE: Final = 100  # schedules read together
_SOONEST_S: Final = 0.005
_SAY_AGAIN_S: Final = 60.0  # the same fault of a schedule in each round is one line a minute


class Scheduler:
    """A component."""

    name = "scheduler"

    def __init__(self, pool: asyncpg.Pool[Row], engine: Engine) -> None:
        self._pool = pool
        self._engine = engine
        self._loop = Loop("scheduler", self.tick)
        self._said: dict[str, tuple[str, float]] = {}  # schedule -> its last fault that was logged, and when

    async def start(self) -> None:
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()

    async def tick(self) -> float:
        """Make the jobs of everything that is due. Answers the seconds until the next look."""
        registry, began = self._engine.registry, time.monotonic()
        rows = await self._pool.fetch(SQL["schedules_due"], registry.task_names, registry.queue_names, _AT_ONCE)
        more = len(rows) == _AT_ONCE and rows[-1]["next_at"] <= rows[-1]["seen_at"]
        wait_s, faults = POLL_S, 0
        for row in rows:
            now: datetime = row["seen_at"]
            try:
                next_at = row["next_at"] if row["next_at"] > now else await self._tick_one(row, now)
            except Exception as error:  # one schedule's fault keeps no other waiting
                if is_unavailable(error):
                    raise
                self._say(row["name"], error)
                faults += 1
                continue
            if next_at is not None:
                wait_s = min(wait_s, (next_at - now).total_seconds())
        if more and faults < len(rows):
            wait_s = 0.0
        return max(_SOONEST_S, wait_s - (time.monotonic() - began))

    def _say(self, name: str, error: Exception) -> None:
        fault, now = f"{type(error).__name__}: {error}", time.monotonic()
        said, at = self._said.get(name, ("", 0.0))
        if fault != said or now - at >= _SAY_AGAIN_S:
            self._said[name] = fault, now
            log.error("schedule_failed", schedule=name, exc_info=error)

    async def _tick_one(self, row: Row, now: datetime) -> datetime | None:
        """Answers its next tick."""
        try:
            schedule = schedule_of(row)
            todo = plan(schedule.timing, schedule.missed, schedule.missed_max, row["next_at"], now)
        except Exception as error:  # noqa: BLE001  pure arithmetic: its faults stop this schedule, and no other
            await self._disable(row, f"cannot be computed: {type(error).__name__}: {error}")
            return None
        try:
            made = await self._insert(schedule, todo)
        except NEVER as error:  # it can never have its job; anything else may pass
            await self._disable(row, f"cannot be inserted: {type(error).__name__}: {error}")
            return None
        if made:
            log.debug("schedule_ticked", schedule=schedule.name, jobs=len(made), skipped=todo.skipped)
            await self._engine.offer(made)
        return todo.next_at

    async def _insert(self, schedule: Schedule, todo: Plan) -> list[Inserted]:
        """Empty also when another replica was first."""
        ticks, skipped = todo.ticks, todo.skipped
        if schedule.overlap is Overlap.SKIP and len(ticks) > 1:  # the job of the first would be open for the second
            ticks, skipped = ticks[:1], f"ticks from {ticks[1]:%FT%TZ} to {ticks[-1]:%FT%TZ}: the job before was open"
        rows = await self._pool.fetch(
            SQL["schedule_tick"],
            schedule.name,
            schedule.next_at,
            schedule.revision,
            todo.next_at,
            [uuid7() for _ in ticks],
            ticks,
            self._engine.registry.queue(schedule.queue).attempts,
            skipped,
        )
        return [inserted(row) for row in rows]

    async def _disable(self, row: Row, reason: str) -> None:
        if await self._pool.fetchrow(SQL["schedule_enable"], row["name"], False, reason, None, row["revision"]):
            log.error("schedule_disabled", schedule=row["name"], reason=reason)
