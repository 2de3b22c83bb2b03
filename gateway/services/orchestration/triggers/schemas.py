"""Shapes of the API of schedules and webhook triggers, and reading what callers sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import msgspec

from gateway.problem import Problem
from gateway.services.orchestration.conflicts import OnConflict
from gateway.services.orchestration.triggers.rule import Preset, Window, cron_of
from gateway.services.orchestration.triggers.schedules import NewRunSchedule, RunSchedule, wrong
from gateway.services.orchestration.triggers.signature import Scheme
from gateway.services.orchestration.triggers.webhooks import NewTrigger, Trigger

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 100
PREVIEW: Final = 5  # runs to come, of one schedule
HOUR_DEFAULT: Final = 9
MISSED: Final = "missed"  # beside the codes of rule.SkipCode: nobody saw the tick
PAGE_PARAMETERS: Final = ("projectId", "cursor", "limit")

_Slug = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Clock = Annotated[str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
_Hour = Annotated[int, msgspec.Meta(ge=0, le=23)]
_Interval = Annotated[int, msgspec.Meta(ge=60, le=525_600)]
_PerDay = Annotated[int, msgspec.Meta(ge=1, le=24)]
_Cooldown = Annotated[int, msgspec.Meta(ge=0, le=10_080)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Words = Annotated[list[_Word], msgspec.Meta(max_length=50)]
_PerMinute = Annotated[int, msgspec.Meta(ge=1, le=600)]


class Day(StrEnum):
    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_DAYS: Final = tuple(Day)
_Days = Annotated[list[Day], msgspec.Meta(min_length=1, max_length=7)]


class WindowBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Local times, ``HH:MM``: runs start from ``from`` on, before ``to``, on the ``days`` on which the window opens.
    Where ``to`` is the earlier time, the window lasts over midnight."""

    opens: _Clock = msgspec.field(name="from")
    closes: _Clock = msgspec.field(name="to")
    days: _Days = msgspec.field(default_factory=lambda: list(_DAYS))


class RunScheduleBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``cron`` (five fields) or ``preset`` (hourly, daily, weekdays, weekly: Monday, monthly: the 1st) with ``hour``,
    both by the clock of ``timeZone``. Without ``agentSlug`` each run is a batch of all agents of the project."""

    project_id: UUID
    agent_slug: _Slug | None = None
    cron: _Text | None = None
    preset: Preset | None = None
    hour: _Hour | None = None
    time_zone: _Text = "UTC"
    window: WindowBody | None = None
    min_interval_minutes: _Interval = 60
    max_runs_per_day: _PerDay = 24
    cooldown_minutes_after_error: _Cooldown = 30
    enabled: bool = True


class SkippedView(msgspec.Struct, frozen=True, kw_only=True):
    """The last tick that started no run: when that was decided, a word for why, and a sentence."""

    at: datetime
    code: str
    reason: str


class RunScheduleView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``nextRuns``: ticks that will become runs, unless the budget, another run or an error stand against it.
    ``lastRunId``, ``lastTickAt``: of the last run. ``problem``: why nothing comes although it is enabled."""

    id: UUID
    project_id: UUID
    agent_slug: str | None
    cron: str
    preset: Preset | None
    hour: int | None
    time_zone: str
    window: WindowBody | None
    min_interval_minutes: int
    max_runs_per_day: int
    cooldown_minutes_after_error: int
    enabled: bool
    next_runs: list[datetime]
    last_run_id: UUID | None
    last_tick_at: datetime | None
    skipped: SkippedView | None
    problem: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime


class TriggerBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``scheme``: gateway (``X-Gateway-Signature``) or github (``X-Hub-Signature-256``). ``events``, ``actions`` and
    ``branches`` (patterns with ``*``) are what it acts upon, empty is any. ``onConflict``: while such a run is open,
    reject, enqueue or replace it."""

    project_id: UUID
    name: _Name
    agent_slug: _Slug | None = None
    scheme: Scheme = Scheme.GATEWAY
    events: _Words = []
    actions: _Words = []
    branches: _Words = []
    on_conflict: OnConflict = OnConflict.REJECT
    max_per_minute: _PerMinute = 10
    enabled: bool = True


class TriggerView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``path`` takes the deliveries. ``skipped``: why a signed delivery started no run, the last time. ``problem``: why
    none can."""

    id: UUID
    project_id: UUID
    name: str
    agent_slug: str | None
    scheme: Scheme
    events: list[str]
    actions: list[str]
    branches: list[str]
    on_conflict: OnConflict
    max_per_minute: int
    enabled: bool
    path: str
    last_at: datetime | None
    skipped_at: datetime | None
    skip_reason: str | None
    problem: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime


class Page(NamedTuple):
    project_id: UUID | None
    before: UUID | None
    limit: int


def new_schedule(body: RunScheduleBody) -> NewRunSchedule:
    """Raises Problem 422 naming the field."""
    if (body.cron is None) == (body.preset is None):
        raise wrong("cron", "or preset is needed, one of them")
    if body.hour is not None and body.preset in (None, Preset.HOURLY):
        raise wrong("hour", "goes with the presets daily, weekdays, weekly and monthly")
    hour = None
    if body.preset not in (None, Preset.HOURLY):
        hour = HOUR_DEFAULT if body.hour is None else body.hour
    cron = cron_of(body.preset, hour or 0) if body.preset is not None else body.cron or ""
    same = ("project_id", "agent_slug", "preset", "time_zone", "enabled")
    limits = ("min_interval_minutes", "max_runs_per_day", "cooldown_minutes_after_error")
    return NewRunSchedule(
        **{name: getattr(body, name) for name in same + limits},
        hour=hour,
        cron=cron,
        window=None if body.window is None else _window(body.window),
    )


def _window(body: WindowBody) -> Window:
    if body.opens == body.closes:
        raise wrong("window", "closes when it opens; leave it out to allow any time")
    days = frozenset(_DAYS.index(day) + 1 for day in body.days)
    return Window(opens=time.fromisoformat(body.opens), closes=time.fromisoformat(body.closes), days=days)


def schedule_view(schedule: RunSchedule, preview: int) -> RunScheduleView:
    window = schedule.window
    return RunScheduleView(
        **{name: getattr(schedule, name) for name in _SAME_SCHEDULE - {"window"}},
        window=None
        if window is None
        else WindowBody(
            opens=f"{window.opens:%H:%M}",
            closes=f"{window.closes:%H:%M}",
            days=[_DAYS[number - 1] for number in sorted(window.days)],
        ),
        next_runs=schedule.next_runs(preview),
        skipped=_skipped(schedule),
        problem=_problem(schedule),
    )


def _skipped(schedule: RunSchedule) -> SkippedView | None:
    """The later of what was judged and what nobody saw."""
    judged = missed = None
    if schedule.skipped_at is not None:
        judged = SkippedView(at=schedule.skipped_at, code=schedule.skip_code or "", reason=schedule.skip_reason or "")
    if schedule.ticks_skipped_at is not None:
        missed = SkippedView(at=schedule.ticks_skipped_at, code=MISSED, reason=schedule.ticks_skip_reason or "")
    return max((one for one in (judged, missed) if one is not None), key=lambda one: one.at, default=None)


def _problem(schedule: RunSchedule) -> str | None:
    if not schedule.enabled:
        return None
    if schedule.archived_at is not None:
        return "its project is archived"
    if not schedule.ticking:
        return f"its ticks are switched off: {schedule.disabled_reason or 'they were deleted'}; PUT puts them back"
    return None


_SAME_SCHEDULE: Final = frozenset(RunScheduleView.__struct_fields__) & frozenset(RunSchedule.__struct_fields__)


def new_trigger(body: TriggerBody) -> NewTrigger:
    return NewTrigger(**{name: getattr(body, name) for name in TriggerBody.__struct_fields__})


def trigger_view(trigger: Trigger, path: str, *, sound: bool) -> TriggerView:
    """``sound``: its secret can be derived with the key of now."""
    return TriggerView(
        **{name: getattr(trigger, name) for name in _SAME_TRIGGER},
        path=path,
        problem=None if sound else "its secret was made with another TRIGGER_SECRET_KEY: rotate it",
    )


_SAME_TRIGGER: Final = frozenset(TriggerView.__struct_fields__) & frozenset(Trigger.__struct_fields__)


def read_page(query: Mapping[str, str]) -> Page:
    """Raises Problem 400 naming the parameter."""
    limit = query.get("limit", str(LIMIT_DEFAULT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= LIMIT_MAX):
        raise _bad("limit", f"must be a whole number from 1 to {LIMIT_MAX}")
    project_id = _id("projectId", query.get("projectId"), "is no id of a project")
    before = _id("cursor", query.get("cursor"), "is not page.nextCursor of an earlier answer")
    return Page(project_id, before, int(limit))


def page_of(found: list[Any], limit: int) -> dict[str, Any]:
    """``found`` holds one row more than is shown, if there is one."""
    return {"nextCursor": found[limit - 1].id if len(found) > limit else None, "limit": limit}


def _id(field: str, text: str | None, message: str) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise _bad(field, message) from None


def _bad(field: str, message: str) -> Problem:
    return Problem(400, "validation_error", f"{field}: {message}", details=[{"field": field, "message": message}])
