"""Schedules of runs: made, changed and read together with the engine's schedule that makes their ticks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from gateway.feature import Platform
from gateway.infra.sqlfiles import load_sql
from gateway.infra.uuid7 import uuid7
from gateway.jobs.job import PRIORITY_MAX
from gateway.jobs.schedule import (
    InvalidSchedule,
    NewSchedule,
    Overlap,
    ScheduleBusy,
    ScheduleChanging,
    ScheduleNotFound,
)
from gateway.jobs.ticks import BadTiming, Timing
from gateway.problem import Problem
from gateway.services.orchestration.runs import Connection
from gateway.services.orchestration.triggers.rule import Past, Preset, Rule, Skip, Window, upcoming

SQL = load_sql(__package__)

TRIGGER_TASK: Final = "orchestration.trigger"
_INSTANT: Final = timedelta(microseconds=1)
_PAUSED: Final = "the schedule of runs is switched off"
# The engine's words for a schedule's fields, and ours.
_FIELDS: Final = {"cron": "cron", "time_zone": "timeZone"}


class NewRunSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """``agent_slug`` None: a batch of all agents. ``preset`` and ``hour``: what ``cron`` was made of, if it was."""

    project_id: UUID
    agent_slug: str | None
    preset: Preset | None
    hour: int | None
    cron: str
    time_zone: str
    window: Window | None
    min_interval_minutes: int
    max_runs_per_day: int
    cooldown_minutes_after_error: int
    enabled: bool

    @property
    def rule(self) -> Rule:
        return Rule(
            time_zone=self.time_zone,
            window=self.window,
            min_interval=timedelta(minutes=self.min_interval_minutes),
            max_runs_per_day=self.max_runs_per_day,
            cooldown=timedelta(minutes=self.cooldown_minutes_after_error),
        )

    def timing(self, anchor: datetime) -> Timing:
        return Timing(cron=self.cron, time_zone=self.time_zone, anchor=anchor)


class RunSchedule(NewRunSchedule, frozen=True, kw_only=True):
    """As the ledger has it, at ``seen_at``. ``next_at``: its next tick, which need not become a run; ``ticking`` False:
    none comes, ``disabled_reason`` says why. ``ticks_skipped_at`` and its reason: ticks that nobody saw."""

    id: UUID
    revision: int
    last_tick_at: datetime | None
    last_run_id: UUID | None
    runs_on: date | None
    runs_that_day: int
    failed_at: datetime | None
    skipped_at: datetime | None
    skip_code: str | None
    skip_reason: str | None
    archived_at: datetime | None
    next_at: datetime | None
    ticking: bool
    disabled_reason: str | None
    ticks_skipped_at: datetime | None
    ticks_skip_reason: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    seen_at: datetime

    @property
    def past(self) -> Past:
        return Past(
            last_tick_at=self.last_tick_at,
            runs_on=self.runs_on,
            runs_that_day=self.runs_that_day,
            failed_at=self.failed_at,
        )

    def next_runs(self, count: int) -> list[datetime]:
        """Ticks that will become runs unless the budget, another run or an error stand against it."""
        if not self.enabled or not self.ticking or self.next_at is None or self.archived_at is not None:
            return []
        try:
            return upcoming(self.timing(self.created_at), self.rule, self.past, self.next_at - _INSTANT, count)
        except BadTiming:  # written by a version that knew more
            return []


class Tick(NamedTuple):
    """The moment that a schedule named, and the job that judges it."""

    at: datetime
    job_id: UUID


class RunSchedules:
    """Raises ``Problem`` where a method says so, and what asyncpg raises."""

    def __init__(self, platform: Platform) -> None:
        self._pool = platform.pool
        self._ticks = platform.schedules

    async def create(self, new: NewRunSchedule, caller: str) -> RunSchedule:
        """Raises Problem 422 naming the field, and 409 ``schedule_exists``."""
        schedule_id = uuid7()
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(SQL["schedule_insert"], schedule_id, *_values(new), caller) is None:
                raise _exists(new.agent_slug)
            with _explained():
                await self._ticks.create(ticks_of(schedule_id, new), connection)
                if not new.enabled:
                    await self._ticks.pause(ticks_name(new.project_id, schedule_id), _PAUSED, connection)
        return await self.get(schedule_id)

    async def replace(self, schedule_id: UUID, new: NewRunSchedule) -> RunSchedule:
        """Raises as ``create``, and Problem 404. Its next tick stays unless its times change."""
        async with self._pool.acquire() as connection, connection.transaction():
            try:
                (_project, *values) = _values(new)
                if await connection.fetchval(SQL["schedule_update"], schedule_id, *values) is None:
                    raise no_schedule()
            except asyncpg.UniqueViolationError:
                raise _exists(new.agent_slug) from None
            name = ticks_name(new.project_id, schedule_id)
            with _explained():
                await self._ticks.put(ticks_of(schedule_id, new), connection)
                if new.enabled:
                    await self._ticks.resume(name, connection)
                else:
                    await self._ticks.pause(name, _PAUSED, connection)
        return await self.get(schedule_id)

    async def delete(self, schedule: RunSchedule) -> None:
        """Also one whose ticks somebody deleted."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL["schedule_delete"], schedule.id)
            try:
                await self._ticks.delete(ticks_name(schedule.project_id, schedule.id), connection)
            except ScheduleNotFound:
                return

    async def fire(self, schedule: RunSchedule) -> UUID:
        """A tick now, which is judged like any other; answers the job that judges it. Raises Problem 409."""
        try:
            return (await self._ticks.run(ticks_name(schedule.project_id, schedule.id))).id
        except ScheduleBusy:
            raise Problem(409, "schedule_busy", "Its last tick is still being judged") from None
        except ScheduleNotFound:
            raise Problem(409, "no_ticks", "Its ticks were deleted; PUT puts them back") from None

    async def get(self, schedule_id: UUID) -> RunSchedule:
        """Raises Problem 404."""
        found = await self.find(schedule_id)
        if found is None:
            raise no_schedule()
        return found

    async def find(self, schedule_id: UUID) -> RunSchedule | None:
        row = await self._pool.fetchrow(SQL["schedule_get"], schedule_id)
        return None if row is None else _schedule(row)

    async def page(
        self, project_id: UUID | None, member: str | None, before: UUID | None, limit: int
    ) -> list[RunSchedule]:
        """Newest first. ``member``: only of his projects."""
        return [
            _schedule(row) for row in await self._pool.fetch(SQL["schedule_list"], project_id, member, before, limit)
        ]

    async def last_ticks(self, schedule_id: UUID, limit: int) -> list[dict[str, Any]]:
        return [dict(row) for row in await self._pool.fetch(SQL["tick_list"], schedule_id, limit)]

    async def made_of(self, schedule_id: UUID, job_id: UUID) -> asyncpg.Record | None:
        """What an earlier attempt of the same job made of its tick."""
        return await self._pool.fetchrow(SQL["tick_get"], schedule_id, job_id)

    async def claim(self, connection: Connection, schedule: RunSchedule, tick: datetime) -> bool:
        """Count ``tick`` as a run, in the transaction that starts it. False: the schedule has moved on since it was
        read."""
        day = schedule.rule.day_of(tick)
        claimed = await connection.fetchval(SQL["schedule_claim"], schedule.id, schedule.revision, tick, day)
        return claimed is not None

    async def ran(self, connection: Connection, schedule_id: UUID, tick: Tick, run_id: UUID) -> None:
        await connection.execute(SQL["schedule_ran"], schedule_id, tick.job_id, tick.at, run_id)

    async def skipped(self, schedule_id: UUID, tick: Tick, skip: Skip) -> None:
        await self._pool.execute(SQL["schedule_skip"], schedule_id, tick.job_id, tick.at, skip.code, skip.reason)


def check(new: NewRunSchedule, now: datetime) -> None:
    """Raises Problem 422 naming the field of what can never run."""
    with _explained():
        if upcoming(new.timing(now), new.rule, Past(), now, 1):
            return
    raise wrong(
        "window", "is never open when the cron expression comes: no run would ever start", code="invalid_schedule"
    )


def ticks_name(project_id: UUID, schedule_id: UUID) -> str:
    """Of the engine's schedule."""
    return f"project:{project_id}:{schedule_id}"


def ticks_of(schedule_id: UUID, new: NewRunSchedule) -> NewSchedule:
    return NewSchedule(
        name=ticks_name(new.project_id, schedule_id),
        task=TRIGGER_TASK,
        args={"triggerId": str(schedule_id)},
        tick_arg="tick",
        priority=PRIORITY_MAX,  # it costs a moment, and says whether something long begins
        cron=new.cron,
        time_zone=new.time_zone,
        overlap=Overlap.SKIP,
    )


def no_schedule() -> Problem:
    return Problem(404, "not_found", "There is no such schedule, or it is not yours")


def wrong(field: str, message: str, code: str = "invalid_schedule") -> Problem:
    return Problem(422, code, f"{field} {message}", details=[{"field": field, "message": message}])


def _exists(agent_slug: str | None) -> Problem:
    whose = f"the agent {agent_slug!r}" if agent_slug else "batches"
    message = f"The project has a schedule for {whose} already; PUT changes it"
    return Problem(409, "schedule_exists", message, details=[{"field": "agentSlug", "message": message}])


@contextmanager
def _explained() -> Iterator[None]:
    """What the engine refuses, as answers."""
    try:
        yield
    except (InvalidSchedule, BadTiming) as error:
        raise wrong(_FIELDS.get(error.field, error.field), error.message) from None
    except ScheduleChanging as error:
        raise Problem(409, "schedule_changing", str(error)) from None


def _values(new: NewRunSchedule) -> Sequence[Any]:
    window = new.window
    return (
        new.project_id,
        new.agent_slug,
        new.preset,
        new.hour,
        new.cron,
        new.time_zone,
        *((window.opens, window.closes, sorted(window.days)) if window else (None, None, None)),
        new.min_interval_minutes,
        new.max_runs_per_day,
        new.cooldown_minutes_after_error,
        new.enabled,
    )


def _schedule(row: asyncpg.Record) -> RunSchedule:
    fields = {name: row[name] for name in RunSchedule.__struct_fields__ if name != "window"}
    opens: time | None = row["window_from"]
    window = None if opens is None else Window(opens=opens, closes=row["window_to"], days=frozenset(row["window_days"]))
    preset = None if row["preset"] is None else Preset(row["preset"])
    return RunSchedule(**(fields | {"window": window, "preset": preset}))
