"""When a schedule is due: ticks of cron expressions in a time zone and of intervals, and what becomes of missed ones.

Pure: no I/O but the time zone data, no clock. A tick is an aware datetime in UTC, on a whole second.

Days on which clocks change follow Debian's cron. An expression whose minute and hour both name times runs once for each
of them: in the hour that is left out, at that hour's end; in the hour that comes twice, the first time. One with a star
at the head of minute or hour runs by elapsed time: not in the hour left out, and again in the repeated one.

CronSim walks over wall clock times only; the zone is put to them here, because its own way loses the ticks of an hour
that follows a midnight left out (Santiago, Cairo, Havana).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

CRON_MAX: Final = 200  # characters: no field that says something new is longer
EVERY_MAX_S: Final = 366 * 86_400
LATE_S: Final = 60.0  # a tick seen later than this was missed: longer than a process needs to start again
ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_FIELDS: Final = 5
_EXPRESSION: Final = re.compile(r"[0-9A-Za-z*/,#-]+( +[0-9A-Za-z*/,#-]+)*")
_INSTANT: Final = timedelta(microseconds=1)
_LOOK_AHEAD: Final = timedelta(hours=36)  # clocks change at most once within it
_CLOCKS_DIFFER: Final = timedelta(hours=26)  # more than any two offsets of one zone


class BadTiming(ValueError):
    """``field`` is the one that is wrong; the message says how, as the rest of a sentence that begins with its name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field
        self.message = message


class Missed(StrEnum):
    """What becomes of ticks that nobody saw in time: nothing, one job for all of them, a job for each."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """``cron`` in ``time_zone`` (IANA), or every ``every_s`` seconds counted from ``anchor``; not before ``start_at``,
    not after ``end_at``."""

    cron: str | None = None
    time_zone: str = "UTC"
    every_s: int | None = None
    anchor: datetime
    start_at: datetime | None = None
    end_at: datetime | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``ticks`` that get a job each, oldest first; ``next_at``: the tick after them, None when there is none any more;
    ``skipped``: why due ticks get no job of their own, None when all do."""

    ticks: tuple[datetime, ...]
    next_at: datetime | None
    skipped: str | None = None


def next_tick(timing: Timing, after: datetime) -> datetime | None:
    """The first tick later than ``after``; None: it has ended. Raises ``BadTiming``."""
    if timing.start_at is not None:
        after = max(after, timing.start_at - _INSTANT)
    if timing.cron is not None:
        tick = _next_of_cron(timing.cron, timing.time_zone, after)
    elif timing.every_s is not None:
        every = timedelta(seconds=timing.every_s)
        tick = timing.anchor + ((after - timing.anchor) // every + 1) * every
    else:
        raise BadTiming("cron", "or an interval is needed")
    return tick if timing.end_at is None or tick <= timing.end_at else None


def next_ticks(timing: Timing, after: datetime, count: int) -> list[datetime]:
    """Up to ``count`` ticks. Raises ``BadTiming``."""
    found: list[datetime] = []
    while len(found) < count and (tick := next_tick(timing, after)) is not None:
        found.append(tick)
        after = tick
    return found


def plan(timing: Timing, missed: Missed, most: int, due: datetime, now: datetime) -> Plan:
    """What to do at ``now`` about a schedule whose next tick ``due`` has come; ``most``: jobs at once with ``all``.

    However long nobody looked, it costs no more than ``most`` and a few dozen searches. Raises ``BadTiming``.
    """
    next_at = next_tick(timing, now)
    if missed is Missed.ALL:
        ticks = [due]
        while (tick := next_tick(timing, ticks[-1])) is not None and tick <= now:
            if len(ticks) == most:
                return Plan(ticks=tuple(ticks), next_at=next_at, skipped=f"ticks from {tick:%FT%TZ} on: over the bound")
            ticks.append(tick)
        return Plan(ticks=tuple(ticks), next_at=next_at)
    latest = _latest(timing, due, now)
    if missed is Missed.SKIP and (now - latest).total_seconds() > LATE_S:
        return Plan(ticks=(), next_at=next_at, skipped=f"ticks from {due:%FT%TZ} to {latest:%FT%TZ}: missed")
    skipped = None if latest == due else f"ticks from {due:%FT%TZ} on: one job, for {latest:%FT%TZ}"
    return Plan(ticks=(latest,), next_at=next_at, skipped=skipped)


def check_timing(timing: Timing) -> None:
    """Raises ``BadTiming`` for what can never be due."""
    if (timing.cron is None) == (timing.every_s is None):
        raise BadTiming("cron", "or an interval is needed, one of them")
    if timing.every_s is not None and not 1 <= timing.every_s <= EVERY_MAX_S:
        raise BadTiming("every_s", f"is not within 1 and {EVERY_MAX_S} (a year)")
    zone_of(timing.time_zone)
    if timing.cron is not None:
        expression_of(timing.cron)
    if timing.start_at is not None and timing.end_at is not None and timing.end_at < timing.start_at:
        raise BadTiming("end_at", "is before the start")


def expression_of(text: str) -> str:
    """The five fields that ``text`` means. Raises ``BadTiming``."""
    if len(text) > CRON_MAX:
        raise BadTiming("cron", f"is longer than {CRON_MAX} characters")
    if text.startswith("@"):
        if text not in ALIASES:
            raise BadTiming("cron", f"is no name that is known: {', '.join(ALIASES)}")
        return ALIASES[text]
    if _EXPRESSION.fullmatch(text) is None:
        raise BadTiming("cron", 'may hold digits, names and * / , - # only, in five fields: "30 2 * * 1-5"')
    fields = len(text.split())
    if fields == _FIELDS + 1:
        raise BadTiming("cron", "has six fields: seconds are not taken; an interval is for less than a minute")
    if fields != _FIELDS:
        raise BadTiming("cron", f"has {fields} fields; five are needed: minute hour day-of-month month day-of-week")
    if (wrong := _fault(text)) is None:
        return text
    day_only = " ".join([*text.split()[:3], "*", text.split()[4]])
    if wrong == "bad day-of-month" and _fault(day_only) is None:
        raise BadTiming("cron", "never comes: no month that it names has such a day")
    raise BadTiming("cron", f"is no cron expression: {wrong}")


def _fault(expression: str) -> str | None:
    try:
        CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001  only its parser is asked
    except CronSimError as error:
        return str(error).lower()
    return None


def zone_of(name: str) -> ZoneInfo:
    """Raises ``BadTiming``, with the names that are near."""
    if name in _zone_names():
        return ZoneInfo(name)
    known = {zone.lower(): zone for zone in _zone_names()}
    near = known.get(name.lower()) or next(
        (zone for zone in sorted(_zone_names()) if zone.lower().endswith(f"/{name.lower()}")), None
    )
    hint = f'; did you mean "{near}"?' if near else ""
    raise BadTiming("time_zone", f'is no name of an IANA time zone such as "Europe/Berlin"{hint}')


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text("utf-8").split())


def _latest(timing: Timing, first: datetime, now: datetime) -> datetime:
    """The last tick up to ``now``; ``first`` is one. By bisection: there may be millions between the two."""
    latest, end = first, now
    while (tick := next_tick(timing, latest)) is not None and tick <= now:
        middle = tick + (end - tick) / 2
        beyond = next_tick(timing, middle)
        if beyond is not None and beyond <= now:
            latest = beyond
        else:
            latest, end = tick, middle
    return latest


def _next_of_cron(text: str, zone_name: str, after: datetime) -> datetime:
    expression, zone = expression_of(text), zone_of(zone_name)
    minute, hour, *_ = expression.split()
    by_elapsed_time = minute.startswith("*") or hour.startswith("*")
    try:
        return (_next_elapsed if by_elapsed_time else _next_of_day)(expression, zone, after)
    except StopIteration:
        raise BadTiming("cron", "never comes: no such day within 50 years") from None


def _next_of_day(expression: str, zone: ZoneInfo, after: datetime) -> datetime:
    """Raises StopIteration when there is none within 50 years."""
    times = CronSim(expression, _on_the_wall(after, zone.utcoffset(after.astimezone(zone))))
    while True:  # in a repeated hour, some lie behind already
        tick = _first_moment(next(times), zone)
        if tick > after:
            return tick


def _first_moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """When the wall clock first shows ``wall``, or the moment at which it steps over it."""
    late, early = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early <= late and late.astimezone(zone).replace(tzinfo=None) != wall:
        return _change(early, late, zone)
    return late


def _next_elapsed(expression: str, zone: ZoneInfo, after: datetime) -> datetime:
    """Walks over the spans in which the clock runs evenly. Raises StopIteration when there is none within 50 years."""
    since = after
    while True:
        offset = _offset(since, zone)
        tick = next(CronSim(expression, _on_the_wall(after, offset))).replace(tzinfo=UTC) - offset
        horizon = min(tick, since + _LOOK_AHEAD)
        if _offset(horizon, zone) != offset:
            changed = _change(since, horizon, zone)
            if tick < changed:
                return tick
            since, after = changed, changed - _INSTANT
        elif tick == horizon:
            return tick
        else:  # far away: no wall clock of any offset shows a match until shortly before it
            since = after = max(since + _INSTANT, tick - _CLOCKS_DIFFER)


def _on_the_wall(moment: datetime, offset: timedelta | None) -> datetime:
    return (moment.astimezone(UTC) + (offset or timedelta())).replace(tzinfo=None)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return zone.utcoffset(moment.astimezone(zone)) or timedelta()


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first moment of the offset that holds at ``after`` and not at ``before``; to the second, as zones are."""
    low, high, offset = int(before.timestamp()), int(after.timestamp()), _offset(before, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(datetime.fromtimestamp(middle, UTC), zone) == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
