"""When a schedule's tick becomes a run, and why it does not. Pure.

A tick is judged by its own time, not by when somebody came round to it: an hourly schedule whose ticks are looked at a
second early or late keeps its hour between two runs.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from gateway.jobs.ticks import Timing, next_tick, zone_of

LATE: Final = timedelta(minutes=15)  # a tick judged later than this must also suit the moment at which it is judged
_INSTANT: Final = timedelta(microseconds=1)
_STEPS: Final = 800  # of a search for the next run; each passes a tick, a closed window, an interval or a day


class Preset(StrEnum):
    """Times for who writes no cron expression: weekly is Monday, monthly the first of the month."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKDAYS = "weekdays"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


_PRESETS: Final = {
    Preset.HOURLY: "0 * * * *",
    Preset.DAILY: "0 {hour} * * *",
    Preset.WEEKDAYS: "0 {hour} * * 1-5",
    Preset.WEEKLY: "0 {hour} * * 1",
    Preset.MONTHLY: "0 {hour} 1 * *",
}


class SkipCode(StrEnum):
    """Why a tick started no run."""

    DISABLED = "disabled"
    ARCHIVED = "project_archived"
    WINDOW = "window"
    MIN_INTERVAL = "min_interval"
    MAX_PER_DAY = "max_per_day"
    COOLDOWN = "cooldown"
    BUDGET = "budget"
    RUNNING = "already_running"
    QUEUE_FULL = "queue_full"
    REFUSED = "refused"


class Skip(msgspec.Struct, frozen=True):
    """``reason`` is a sentence for people."""

    code: SkipCode
    reason: str


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """From ``opens`` up to, not including, ``closes`` on the wall clock, on the days (1 is Monday) on which it opens.
    One that closes before it opens lasts over midnight."""

    opens: time
    closes: time
    days: frozenset[int]

    def holds(self, wall: datetime) -> bool:
        """``wall``: a time without a zone."""
        now = wall.time()
        if self.opens < self.closes:
            return wall.isoweekday() in self.days and self.opens <= now < self.closes
        if now >= self.opens:
            return wall.isoweekday() in self.days
        return now < self.closes and (wall - timedelta(days=1)).isoweekday() in self.days


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule demands beside its cron expression. ``max_runs_per_day``: of a day in ``time_zone``."""

    time_zone: str
    window: Window | None
    min_interval: timedelta
    max_runs_per_day: int
    cooldown: timedelta

    @property
    def zone(self) -> ZoneInfo:
        return zone_of(self.time_zone)

    def day_of(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def open_at(self, moment: datetime) -> bool:
        return self.window is None or self.window.holds(moment.astimezone(self.zone).replace(tzinfo=None))


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What the schedule did. ``last_tick_at``: of its last run. ``runs_that_day``: runs whose ticks lie on the local
    day ``runs_on``. ``failed_at``: when its last run failed; None: it did not."""

    last_tick_at: datetime | None = None
    runs_on: date | None = None
    runs_that_day: int = 0
    failed_at: datetime | None = None

    def runs_of(self, day: date) -> int:
        return self.runs_that_day if self.runs_on == day else 0

    def after(self, tick: datetime, day: date) -> Past:
        """As it is when ``tick`` has become a run."""
        return Past(last_tick_at=tick, runs_on=day, runs_that_day=self.runs_of(day) + 1)


def cron_of(preset: Preset, hour: int) -> str:
    return _PRESETS[preset].format(hour=hour)


def judge(rule: Rule, past: Past, tick: datetime, now: datetime) -> Skip | None:
    """Why ``tick``, which is looked at at ``now``, starts no run; None: it does."""
    if not rule.open_at(tick):
        return Skip(SkipCode.WINDOW, f"{_wall(rule, tick)} lies outside of its window")
    if now - tick > LATE and not rule.open_at(now):
        return Skip(SkipCode.WINDOW, f"its turn came at {_wall(rule, now)}, after its window had closed")
    if past.last_tick_at is not None and tick < past.last_tick_at + rule.min_interval:
        minutes = rule.min_interval // timedelta(minutes=1)
        return Skip(
            SkipCode.MIN_INTERVAL, f"less than {minutes} minutes after the run of {_wall(rule, past.last_tick_at)}"
        )
    if past.runs_of(rule.day_of(tick)) >= rule.max_runs_per_day:
        return Skip(SkipCode.MAX_PER_DAY, f"it had its {rule.max_runs_per_day} runs of {rule.day_of(tick)}")
    if past.failed_at is not None and now < past.failed_at + rule.cooldown:
        minutes = rule.cooldown // timedelta(minutes=1)
        return Skip(
            SkipCode.COOLDOWN, f"its last run failed at {_wall(rule, past.failed_at)}, less than {minutes} minutes ago"
        )
    return None


def upcoming(timing: Timing, rule: Rule, past: Past, after: datetime, count: int) -> list[datetime]:
    """The next ``count`` ticks that will become runs if nothing else stands in their way; fewer when no more come
    within the search. Raises ``BadTiming``."""
    found: list[datetime] = []
    if past.failed_at is not None:
        after = max(after, past.failed_at + rule.cooldown - _INSTANT)
    for _ in range(_STEPS):
        tick = next_tick(timing, after)
        if tick is None or len(found) == count:
            break
        skip = judge(rule, past, tick, tick)
        if skip is None:
            found.append(tick)
            past = past.after(tick, rule.day_of(tick))
            after = tick
        else:
            after = max(tick, _passed(rule, past, tick, skip.code) - _INSTANT)
    return found


def _passed(rule: Rule, past: Past, tick: datetime, code: SkipCode) -> datetime:
    """The first moment at which ``code`` may stand in the way no more."""
    if code is SkipCode.WINDOW and rule.window is not None:
        return _opening(rule.window, rule.zone, tick)
    if code is SkipCode.MIN_INTERVAL and past.last_tick_at is not None:
        return past.last_tick_at + rule.min_interval
    if code is SkipCode.MAX_PER_DAY:
        return _moment(datetime.combine(rule.day_of(tick) + timedelta(days=1), time.min), rule.zone)
    return tick


def _opening(window: Window, zone: ZoneInfo, after: datetime) -> datetime:
    """About when the window opens next: never later than it does."""
    today = after.astimezone(zone).date()
    days = (today + timedelta(days=number) for number in range(8))
    openings = (_moment(datetime.combine(day, window.opens), zone) for day in days if day.isoweekday() in window.days)
    return next((opening for opening in openings if opening > after), after)


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first moment at which the wall clock shows ``wall``; of an hour that is left out: not later than its end."""
    return min(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def _wall(rule: Rule, moment: datetime) -> str:
    return f"{moment.astimezone(rule.zone):%Y-%m-%d %H:%M} ({rule.time_zone})"
