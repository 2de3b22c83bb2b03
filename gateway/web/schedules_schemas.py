"""Shapes of the admin API for schedules (``schedules_admin.py``). Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from gateway.jobs.job import PRIORITY_MAX, PRIORITY_MIN
from gateway.jobs.schedule import MISSED_MAX, InvalidSchedule, NewSchedule, Overlap, Schedule
from gateway.jobs.ticks import CRON_MAX, EVERY_MAX_S, Missed
from gateway.problem import Problem
from gateway.web.invalid_body import explain
from gateway.web.queues_schemas import invalid

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
_Cron = Annotated[str, msgspec.Meta(min_length=1, max_length=CRON_MAX)]
_EveryS = Annotated[int, msgspec.Meta(ge=1, le=EVERY_MAX_S)]
_Priority = Annotated[int, msgspec.Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)]
_MissedMax = Annotated[int, msgspec.Meta(ge=1, le=MISSED_MAX)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class ScheduleBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A schedule whole: ``cron`` (five fields, in ``timeZone``) or ``everyS``. ``queue``: by default the task's.

    ``missed``: what becomes of ticks that nobody saw within a minute: skip, once (one job for all of them) or all (one
    each, at most ``missedMax`` at once). ``overlap``: while the job of the tick before is open, enqueue or skip.
    ``tickArg``: the field of ``args`` that gets the tick's time.
    """

    task: _Text
    queue: _Text | None = None
    args: dict[str, Any] = {}
    tick_arg: _Text | None = None
    priority: _Priority = 0
    cron: _Cron | None = None
    time_zone: _Text = "UTC"
    every_s: _EveryS | None = None
    missed: Missed = Missed.ONCE
    missed_max: _MissedMax = 100
    overlap: Overlap = Overlap.ENQUEUE
    start_at: _Moment | None = None
    end_at: _Moment | None = None

    def named(self, name: str) -> NewSchedule:
        return NewSchedule(name=name, **{field: getattr(self, field) for field in ScheduleBody.__struct_fields__})


class NewScheduleBody(ScheduleBody, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``name``: 1 to 120 letters, digits and ``. _ : -``."""

    name: _Text


class SchedulePatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What is named is changed. ``cron`` puts itself in the place of ``everyS``, and the other way round."""

    task: _Text | UnsetType = UNSET
    queue: _Text | UnsetType | None = UNSET
    args: dict[str, Any] | UnsetType = UNSET
    tick_arg: _Text | UnsetType | None = UNSET
    priority: _Priority | UnsetType = UNSET
    cron: _Cron | UnsetType = UNSET
    time_zone: _Text | UnsetType = UNSET
    every_s: _EveryS | UnsetType = UNSET
    missed: Missed | UnsetType = UNSET
    missed_max: _MissedMax | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    start_at: _Moment | UnsetType | None = UNSET
    end_at: _Moment | UnsetType | None = UNSET

    def applied(self, old: NewSchedule) -> NewSchedule:
        named = {field: getattr(self, field) for field in SchedulePatch.__struct_fields__}
        named = {field: value for field, value in named.items() if value is not UNSET}
        if "cron" in named:
            named.setdefault("every_s", None)
        elif "every_s" in named:
            named["cron"] = None
        return msgspec.structs.replace(old, **named)


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``declared``: it is code of this version, so its definition cannot be changed here. ``problem``: why no tick
    of it comes although it is enabled. ``skippedAt``, ``skipReason``: when and why ticks got no job of their own."""

    name: str
    task: str
    queue: str
    args: dict[str, Any]
    tick_arg: str | None
    priority: int
    cron: str | None
    time_zone: str
    every_s: int | None
    missed: Missed
    missed_max: int
    overlap: Overlap
    start_at: datetime | None
    end_at: datetime | None
    declared: bool
    enabled: bool
    disabled_reason: str | None
    problem: str | None
    next_at: datetime | None
    last_tick_at: datetime | None
    last_job_id: UUID | None
    skipped_at: datetime | None
    skip_reason: str | None
    created_at: datetime
    updated_at: datetime


class ScheduleDetail(ScheduleView, frozen=True, kw_only=True, rename="camel"):
    """``next_ticks``: the first of those to come."""

    next_ticks: list[datetime]


_SAME: Final = frozenset(Schedule.__struct_fields__) & frozenset(ScheduleView.__struct_fields__)


def schedule_view(schedule: Schedule, *, declared: bool, problem: str | None) -> ScheduleView:
    fields = {name: getattr(schedule, name) for name in _SAME}
    fields["next_at"] = schedule.next_at if schedule.enabled else None
    return ScheduleView(**fields, declared=declared, problem=problem)


def refusal(error: InvalidSchedule) -> Problem:
    """400 naming the field as it is called in JSON."""
    if error.cause is not None:
        detail = explain(error.cause, error.wanted)
        inner = "args" if detail["field"] == "body" else f"args.{detail['field']}"
        return invalid(inner, detail["message"])
    names = {field.name: field.encode_name for field in msgspec.structs.fields(NewScheduleBody)}
    return invalid(names.get(error.field, error.field), error.message)
