"""Schedules: what repeats, and when. ``scheduler.py`` makes their jobs; here they are created, changed and read.

A change may join the caller's transaction (``connection``), so that a feature's own rows and its schedules are
committed together. Statements compare the revision that was read, so two changes at once are one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec

from gateway.infra.uuid7 import uuid7
from gateway.jobs.engine import Engine
from gateway.jobs.errors import UnknownQueue, UnknownTask
from gateway.jobs.job import Inserted
from gateway.jobs.schedule import (
    TIMES,
    InvalidSchedule,
    NewSchedule,
    Schedule,
    ScheduleBusy,
    ScheduleChanging,
    ScheduleDeclared,
    ScheduleExists,
    ScheduleNotFound,
    check,
    schedule_of,
    timing_of,
)
from gateway.jobs.store import SQL, Connection, Row, inserted
from gateway.jobs.ticks import BadTiming, next_tick, next_ticks

PREVIEW: Final = 5

_TRIES: Final = 5


class Schedules:
    """Methods that change one raise ``ScheduleChanging`` when others do so at the same time, again and again."""

    def __init__(self, pool: asyncpg.Pool[Row], engine: Engine) -> None:
        self._pool = pool
        self._engine = engine
        self._declared: dict[str, NewSchedule] = {}

    def declare(self, new: NewSchedule) -> None:
        """A schedule of this version's code; ``ensure`` writes it. Raises ``InvalidSchedule``, and ValueError when its
        name is declared already."""
        if new.name in self._declared:
            raise ValueError(f"schedule {new.name!r} is declared twice")
        self._declared[new.name] = self._checked(new)

    def is_declared(self, name: str) -> bool:
        return name in self._declared

    async def ensure(self) -> None:
        """Write what is declared; whether it is paused, and a tick that was missed, stay as they are."""
        for new in self._declared.values():
            if not await self._insert(new, None):
                await self._change(new.name, lambda _, new=new: new, None)  # type: ignore[misc]

    async def create(self, new: NewSchedule, connection: Connection | None = None) -> Schedule:
        """Raises ``InvalidSchedule`` and ``ScheduleExists``."""
        made = await self._insert(_coming(self._checked(new)), connection)
        if made is None:
            raise ScheduleExists(new.name)
        return made

    async def put(self, new: NewSchedule, connection: Connection | None = None) -> tuple[Schedule, bool]:
        """Create it, or replace its definition; answers whether it is new. Raises ``InvalidSchedule`` and
        ``ScheduleDeclared``."""
        self._refuse_declared(new.name)
        new = _coming(self._checked(new))
        made = await self._insert(new, connection)
        if made is not None:
            return made, True
        return await self._change(new.name, lambda _: new, connection), False

    async def change(
        self, name: str, changes: Callable[[NewSchedule], NewSchedule], connection: Connection | None = None
    ) -> Schedule:
        """``changes`` answers the definition that shall hold, given the one that does. Its next tick stays unless its
        times change. Raises ``ScheduleNotFound``, ``InvalidSchedule`` and ``ScheduleDeclared``."""
        self._refuse_declared(name)
        return await self._change(name, lambda old: self._checked(changes(old)), connection)

    async def delete(self, name: str, connection: Connection | None = None) -> None:
        """Its jobs stay. Raises ``ScheduleNotFound`` and ``ScheduleDeclared``."""
        self._refuse_declared(name)
        if await (connection or self._pool).fetchval(SQL["schedule_delete"], name) is None:
            raise ScheduleNotFound(name)

    async def get(self, name: str, connection: Connection | None = None) -> Schedule:
        """Raises ``ScheduleNotFound``."""
        row = await (connection or self._pool).fetchrow(SQL["schedule_get"], name)
        if row is None:
            raise ScheduleNotFound(name)
        return schedule_of(row)

    async def page(self, prefix: str, after: str | None, limit: int) -> list[Schedule]:
        """By name; ``after``: the last name of the page before."""
        return [schedule_of(row) for row in await self._pool.fetch(SQL["schedule_list"], prefix, after, limit)]

    async def pause(self, name: str, reason: str, connection: Connection | None = None) -> Schedule:
        """No ticks until it is resumed. Raises ``ScheduleNotFound``."""
        return await self._enable(name, reason, connection)

    async def resume(self, name: str, connection: Connection | None = None) -> Schedule:
        """It goes on with the next tick from now; ticks of its pause are gone. Raises ``ScheduleNotFound``, and
        ``InvalidSchedule`` when it can have none."""
        return await self._enable(name, None, connection)

    async def run(self, name: str) -> Inserted:
        """A job now, whether it is paused or not; its ticks stay. Raises ``ScheduleNotFound``, ``ScheduleBusy``,
        ``UnknownTask``, ``UnknownQueue`` and ``QueueFull``."""
        registry = self._engine.registry
        for _ in range(_TRIES):
            schedule = await self.get(name)
            registry.task(schedule.task)
            attempts = registry.queue(schedule.queue).attempts
            self._engine.backlog.admit(schedule.queue, 1)
            word = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"  # for the task's eyes only
            last = schedule.last_job_id
            row = await self._pool.fetchrow(SQL["schedule_run"], name, uuid7(), attempts, word, last)
            if row is not None:
                made = inserted(row)
                await self._engine.offer([made])
                return made
            if (await self.get(name)).last_job_id == last:
                raise ScheduleBusy(name)
        raise ScheduleChanging(name)

    def preview(self, schedule: Schedule, count: int = PREVIEW) -> list[datetime]:
        """Its next ticks, by ledger time; none while it is paused."""
        if not schedule.enabled or schedule.next_at is None:
            return []
        try:
            return [schedule.next_at, *next_ticks(schedule.timing, schedule.next_at, count - 1)]
        except BadTiming:  # written by a version that knew more; its next tick will say so
            return [schedule.next_at]

    def _refuse_declared(self, name: str) -> None:
        if name in self._declared:
            raise ScheduleDeclared(name)

    def _checked(self, new: NewSchedule) -> NewSchedule:
        """Complete, and sound. Raises ``InvalidSchedule``."""
        new = check(new)
        registry = self._engine.registry
        try:
            task = registry.task(new.task)
        except UnknownTask:
            known = ", ".join(registry.task_names)
            raise InvalidSchedule("task", f"is none of this version's; known: {known}") from None
        queue = new.queue or task.queue
        try:
            registry.queue(queue)
        except UnknownQueue as error:
            raise InvalidSchedule("queue", f"is none of {', '.join(error.known)}") from None
        args = new.args | {new.tick_arg: "2026-01-01T00:00:00Z"} if new.tick_arg else new.args
        try:
            msgspec.convert(args, task.args)
        except msgspec.ValidationError as error:
            raise InvalidSchedule("args", f"is not an argument of {task.name}: {error}", error, task.args) from None
        return msgspec.structs.replace(new, queue=queue)

    async def _insert(self, new: NewSchedule, connection: Connection | None) -> Schedule | None:
        """None: the name is taken."""
        on = connection or self._pool
        now = await on.fetchval(SQL["ledger_time"])
        anchor = _anchor(new, now)
        row = await on.fetchrow(SQL["schedule_insert"], *_values(new, anchor), _first(new, anchor, now))
        return schedule_of(row) if row else None

    async def _change(
        self, name: str, change: Callable[[NewSchedule], NewSchedule], connection: Connection | None
    ) -> Schedule:
        on = connection or self._pool
        for _ in range(_TRIES):
            old = await self.get(name, connection)
            new = change(old.definition)
            if new == old.definition:
                return old
            now = await on.fetchval(SQL["ledger_time"])
            retimed = any(getattr(old, field) != getattr(new, field) for field in TIMES)
            anchor = _anchor(new, now) if retimed else old.anchor_at
            first = _first(new, anchor, now) if retimed else None
            row = await on.fetchrow(SQL["schedule_update"], *_values(new, anchor), first, retimed, old.revision)
            if row is not None:
                return schedule_of(row)
        raise ScheduleChanging(name)

    async def _enable(self, name: str, paused: str | None, connection: Connection | None) -> Schedule:
        on = connection or self._pool
        for _ in range(_TRIES):
            old = await self.get(name, connection)
            if paused is None and old.enabled:
                return old
            first = None if paused is not None else _first(old, old.anchor_at, await on.fetchval(SQL["ledger_time"]))
            row = await on.fetchrow(SQL["schedule_enable"], name, paused is None, paused, first, old.revision)
            if row is not None:
                return schedule_of(row)
        raise ScheduleChanging(name)


def _coming(new: NewSchedule) -> NewSchedule:
    """Raises ``InvalidSchedule`` for one that has ended."""
    now = datetime.now(UTC)
    if _first(new, _anchor(new, now), now) is None:
        raise InvalidSchedule("end_at", "is before the first tick: it would never run")
    return new


def _anchor(new: NewSchedule, now: datetime) -> datetime:
    return new.start_at or now.replace(microsecond=0)


def _first(new: NewSchedule, anchor: datetime, now: datetime) -> datetime | None:
    try:
        return next_tick(timing_of(new, anchor), now)
    except BadTiming as error:
        raise InvalidSchedule(error.field, error.message) from None


def _values(new: NewSchedule, anchor: datetime) -> Sequence[Any]:
    return (
        new.name,
        new.queue,
        new.task,
        new.args,
        new.tick_arg,
        new.priority,
        new.cron,
        new.time_zone,
        new.every_s,
        new.start_at,
        new.end_at,
        new.missed,
        new.missed_max,
        new.overlap,
        anchor,
    )
