"""When a tick becomes a run: windows, intervals, days and pauses on the wall clock of a zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.ticks import BadTiming, Timing
from gateway.services.orchestration.triggers.rule import (
    Past,
    Preset,
    Rule,
    SkipCode,
    Window,
    cron_of,
    judge,
    upcoming,
)

BERLIN = "Europe/Berlin"
EVERY_DAY = frozenset(range(1, 8))
OFFICE = Window(opens=time(9), closes=time(17), days=frozenset({1, 2, 3, 4, 5}))
NIGHT = Window(opens=time(22), closes=time(6), days=frozenset({5}))  # from Friday evening to Saturday morning


def rule(**changes: Any) -> Rule:
    values: dict[str, Any] = {
        "time_zone": "UTC",
        "window": None,
        "min_interval": timedelta(minutes=60),
        "max_runs_per_day": 24,
        "cooldown": timedelta(minutes=30),
    }
    return Rule(**(values | changes))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def code_of(rule: Rule, past: Past, tick: str, now: str | None = None) -> SkipCode | None:
    skip = judge(rule, past, at(tick), at(now or tick))
    return None if skip is None else skip.code


def timing(cron: str, zone: str = "UTC") -> Timing:
    return Timing(cron=cron, time_zone=zone, anchor=at("2026-01-01"))


def test_a_first_tick_becomes_a_run() -> None:
    assert code_of(rule(), Past(), "2026-01-05T10:00") is None


@pytest.mark.parametrize(
    ("tick", "seen"), [("11:00:00", "11:00:00"), ("11:00:00", "10:59:59"), ("11:00:00", "11:20:00")]
)
def test_an_hour_is_an_hour_whenever_its_tick_is_looked_at(tick: str, seen: str) -> None:
    past = Past(last_tick_at=at("2026-01-05T10:00"))
    assert code_of(rule(), past, f"2026-01-05T{tick}", f"2026-01-05T{seen}") is None
    assert code_of(rule(), past, "2026-01-05T10:59:59", "2026-01-05T11:30") is SkipCode.MIN_INTERVAL


def test_a_day_has_so_many_runs_by_the_wall_clock() -> None:
    berlin = rule(time_zone=BERLIN, max_runs_per_day=2)
    past = Past(last_tick_at=at("2026-01-05T20:00"), runs_on=date(2026, 1, 5), runs_that_day=2)
    assert code_of(berlin, past, "2026-01-05T22:59") is SkipCode.MAX_PER_DAY
    assert code_of(berlin, past, "2026-01-05T23:00") is None  # midnight in Berlin


def test_after_a_failure_it_rests() -> None:
    past = Past(last_tick_at=at("2026-01-05T08:00"), failed_at=at("2026-01-05T09:50"))
    assert code_of(rule(), past, "2026-01-05T10:00") is SkipCode.COOLDOWN
    assert code_of(rule(), past, "2026-01-05T10:00", "2026-01-05T10:20") is None
    assert code_of(rule(cooldown=timedelta()), past, "2026-01-05T10:00") is None


@pytest.mark.parametrize(
    ("window", "wall", "opened"),
    [
        (OFFICE, "2026-01-05T09:00", True),
        (OFFICE, "2026-01-05T16:59", True),
        (OFFICE, "2026-01-05T17:00", False),
        (OFFICE, "2026-01-04T10:00", False),  # a Sunday
        (NIGHT, "2026-01-09T22:00", True),
        (NIGHT, "2026-01-10T05:59", True),  # it opened on Friday
        (NIGHT, "2026-01-10T06:00", False),
        (NIGHT, "2026-01-10T22:00", False),
        (NIGHT, "2026-01-09T05:00", False),
    ],
)
def test_windows_open_and_close_on_the_wall(window: Window, wall: str, opened: bool) -> None:
    assert window.holds(datetime.fromisoformat(wall)) is opened


def test_a_window_moves_with_the_clock_of_its_zone() -> None:
    berlin = rule(time_zone=BERLIN, window=OFFICE)
    assert code_of(berlin, Past(), "2026-03-27T07:30") is SkipCode.WINDOW  # 08:30 in winter
    assert code_of(berlin, Past(), "2026-03-30T07:30") is None  # 09:30 in summer


def test_a_tick_whose_turn_comes_after_the_window_closed_starts_nothing() -> None:
    assert code_of(rule(window=OFFICE), Past(), "2026-01-05T16:55", "2026-01-05T17:05") is None
    assert code_of(rule(window=OFFICE), Past(), "2026-01-05T16:00", "2026-01-05T19:00") is SkipCode.WINDOW


@pytest.mark.parametrize(
    ("preset", "first", "second"),
    [
        (Preset.HOURLY, "2026-01-01T01:00", "2026-01-01T02:00"),
        (Preset.DAILY, "2026-01-01T07:00", "2026-01-02T07:00"),
        (Preset.WEEKDAYS, "2026-01-01T07:00", "2026-01-02T07:00"),
        (Preset.WEEKLY, "2026-01-05T07:00", "2026-01-12T07:00"),
        (Preset.MONTHLY, "2026-01-01T07:00", "2026-02-01T07:00"),
    ],
)
def test_presets_come_when_they_say(preset: Preset, first: str, second: str) -> None:
    runs = upcoming(timing(cron_of(preset, 7)), rule(), Past(), at("2026-01-01"), 2)
    assert runs == [at(first), at(second)]


def test_weekly_is_once_a_week_whatever_the_interval_says() -> None:
    runs = upcoming(timing(cron_of(Preset.WEEKLY, 9), BERLIN), rule(time_zone=BERLIN), Past(), at("2026-03-20"), 3)
    assert runs == [at("2026-03-23T08:00"), at("2026-03-30T07:00"), at("2026-04-06T07:00")]  # 9:00 before and after DST


def test_the_preview_leaves_out_what_will_be_skipped() -> None:
    office = rule(window=OFFICE, max_runs_per_day=3, min_interval=timedelta(minutes=90))
    runs = upcoming(timing("*/10 * * * *"), office, Past(), at("2026-01-09T08:00"), 5)  # a Friday
    assert runs == [
        *(at(f"2026-01-09T{wall}") for wall in ("09:00", "10:30", "12:00")),
        *(at(f"2026-01-12T{wall}") for wall in ("09:00", "10:30")),
    ]


def test_the_preview_begins_after_the_cooldown() -> None:
    past = Past(failed_at=at("2026-01-05T09:50"))
    assert upcoming(timing("*/5 * * * *"), rule(), past, at("2026-01-05T09:55"), 1) == [at("2026-01-05T10:20")]


def test_what_never_meets_its_window_has_no_preview() -> None:
    assert upcoming(timing("0 3 * * *"), rule(window=OFFICE), Past(), at("2026-01-01"), 1) == []
    with pytest.raises(BadTiming):
        upcoming(timing("0 0 30 2 *"), rule(), Past(), at("2026-01-01"), 1)


@given(
    start=st.integers(0, 365 * 24 * 60).map(lambda minutes: at("2026-01-01") + timedelta(minutes=minutes)),
    interval=st.integers(60, 3000),
    most=st.integers(1, 24),
    hours=st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda pair: pair[0] != pair[1]),
    days=st.frozensets(st.integers(1, 7), min_size=1),
    cron=st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "15 3,13,23 * * 1-5"]),
    zone=st.sampled_from(["UTC", BERLIN, "America/Santiago", "Australia/Lord_Howe"]),
)
def test_every_run_of_a_preview_would_be_let_through(
    start: datetime,
    interval: int,
    most: int,
    hours: tuple[int, int],
    days: frozenset[int],
    cron: str,
    zone: str,
) -> None:
    window = Window(opens=time(hours[0]), closes=time(hours[1]), days=days)
    one = rule(time_zone=zone, window=window, min_interval=timedelta(minutes=interval), max_runs_per_day=most)
    past = Past()
    for run in upcoming(timing(cron, zone), one, past, start, 8):
        assert judge(one, past, run, run) is None
        past = past.after(run, one.day_of(run))
