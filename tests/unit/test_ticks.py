"""When schedules are due: days on which clocks change, hostile expressions, and laws that hold for any of them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.jobs.ticks import (
    ALIASES,
    BadTiming,
    Missed,
    Timing,
    check_timing,
    expression_of,
    next_tick,
    next_ticks,
    plan,
    zone_of,
)

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
ZONES = (BERLIN, NEW_YORK, "UTC", "America/Santiago", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata")


def of_cron(cron: str, zone: str = "UTC", **more: datetime) -> Timing:
    return Timing(cron=cron, time_zone=zone, anchor=ANCHOR, **more)


def local(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def walls(cron: str, zone: str, after: str, count: int) -> list[str]:
    """Ticks as the wall clock shows them, with its offset: ``28T02:30+01:00``."""
    ticks = next_ticks(of_cron(cron, zone), local(after, zone), count)
    return [tick.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")[8:] for tick in ticks]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # Once a day: in the hour that is left out, when it ends; in the hour that comes twice, the first time.
        ("30 2 * * *", BERLIN, "2026-03-28T00:00", ["28T02:30+01:00", "29T03:00+02:00", "30T02:30+02:00"]),
        ("30 2 * * *", BERLIN, "2026-10-24T00:00", ["24T02:30+02:00", "25T02:30+02:00", "26T02:30+01:00"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T00:00", ["07T02:30-05:00", "08T03:00-04:00", "09T02:30-04:00"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T00:00", ["31T01:30-04:00", "01T01:30-04:00", "02T01:30-05:00"]),
        # Two times that both end up at the end of the hour left out are one tick.
        ("0,30 2,3 * * *", BERLIN, "2026-03-29T00:00", ["29T03:00+02:00", "29T03:30+02:00", "30T02:00+02:00"]),
        # A star: by elapsed time.
        ("*/30 * * * *", BERLIN, "2026-03-29T01:15", ["29T01:30+01:00", "29T03:00+02:00", "29T03:30+02:00"]),
        (
            "*/30 * * * *",
            BERLIN,
            "2026-10-25T02:15",
            ["25T02:30+02:00", "25T02:00+01:00", "25T02:30+01:00", "25T03:00+01:00"],
        ),
        ("*/30 2 * * *", BERLIN, "2026-03-28T12:00", ["30T02:00+02:00", "30T02:30+02:00"]),
        ("0 * * * *", NEW_YORK, "2026-11-01T00:30", ["01T01:00-04:00", "01T01:00-05:00", "01T02:00-05:00"]),
        # Midnight itself is left out; half an hour is.
        ("*/5 1 6 9 *", "America/Santiago", "2026-08-01T00:00", ["06T01:00-03:00", "06T01:05-03:00"]),
        ("0 0 * * *", "America/Santiago", "2026-09-05T01:00", ["06T01:00-03:00", "07T00:00-03:00"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04T00:00", ["04T02:30+11:00", "05T02:15+11:00"]),
    ],
)
def test_days_on_which_clocks_change(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert walls(cron, zone, after, len(expected)) == expected


def test_a_search_from_within_the_repeated_hour_looks_forward() -> None:
    second_time = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 02:15 in Berlin, for the second time
    tick = next_tick(of_cron("30 2 * * *", BERLIN), second_time)
    assert tick == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_names_and_rare_days() -> None:
    assert next_tick(of_cron("@daily"), ANCHOR) == ANCHOR + timedelta(days=1)
    assert {name: expression_of(name).count(" ") for name in ALIASES} == dict.fromkeys(ALIASES, 4)
    assert next_tick(of_cron("0 0 29 2 *"), ANCHOR) == datetime(2028, 2, 29, tzinfo=UTC)
    assert next_tick(of_cron("0 9 * * mon-fri"), datetime(2026, 1, 2, 12, tzinfo=UTC)) == datetime(
        2026, 1, 5, 9, tzinfo=UTC
    )
    assert next_tick(of_cron("0 0 * 2 MON#5"), ANCHOR) == datetime(2044, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("", "may hold digits"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("* * * * * *", "six fields: seconds are not taken"),
        ("* * * *", "has 4 fields"),
        ("60 * * * *", "bad minute"),
        ("* * * * 8", "bad day-of-week"),
        ("5-1 * * * *", "bad minute"),
        ("*/0 * * * *", "bad minute"),
        ("0-99999999999999999999 * * * *", "bad minute"),
        ("* " * 5000, "longer than 200"),
        ("1," * 5000 + "1 * * * *", "longer than 200"),
        ("0 0 * * *\n", "may hold digits"),
        ("0\t0 * * *", "may hold digits"),
        ("0 0 * * \x00", "may hold digits"),
        ("٠ 0 * * *", "may hold digits"),
        ("%s %n * * *", "may hold digits"),
        ("@reboot", "no name that is known: @hourly"),
        ("L/2 * * * *", "bad minute"),
        ("0 0 LW/3/4 * *", "bad day-of-month"),
    ],
)
def test_hostile_expressions_are_refused_at_once(cron: str, said: str) -> None:
    began = time.thread_time()
    with pytest.raises(BadTiming, match=said) as raised:
        check_timing(of_cron(cron))
    assert raised.value.field == "cron"
    assert len(str(raised.value)) < 300
    assert time.thread_time() - began < 0.5


@settings(max_examples=300, deadline=20_000)
@given(st.text(alphabet="0123456789*/,-#LWMONFEB @", max_size=220))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    timing = of_cron(text, BERLIN)
    try:
        check_timing(timing)
        tick = next_tick(timing, ANCHOR)
    except BadTiming:
        return
    assert tick is not None and tick > ANCHOR


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("europe/berlin", 'did you mean "Europe/Berlin"'),
        ("Berlin", 'did you mean "Europe/Berlin"'),
        ("../../etc/passwd", "no name of"),
        ("/etc/localtime", "no name of"),
        ("Europe", "no name of"),
        ("localtime", "no name of"),
        ("", "no name of"),
        ("UTC+2", "no name of"),
        ("A" * 100_000, "no name of"),
        ("Europe/Berlin\x00", "no name of"),
    ],
)
def test_unknown_zones_are_refused(name: str, said: str) -> None:
    with pytest.raises(BadTiming, match=said) as raised:
        zone_of(name)
    assert raised.value.field == "time_zone"


@pytest.mark.parametrize(
    ("timing", "field"),
    [
        (Timing(anchor=ANCHOR), "cron"),
        (Timing(anchor=ANCHOR, cron="* * * * *", every_s=5), "cron"),
        (Timing(anchor=ANCHOR, every_s=0), "every_s"),
        (Timing(anchor=ANCHOR, every_s=366 * 86_400 + 1), "every_s"),
        (Timing(anchor=ANCHOR, every_s=5, start_at=ANCHOR, end_at=ANCHOR - timedelta(1)), "end_at"),
    ],
)
def test_times_that_contradict_each_other(timing: Timing, field: str) -> None:
    with pytest.raises(BadTiming) as raised:
        check_timing(timing)
    assert raised.value.field == field


def test_start_and_end_are_included() -> None:
    start, end = ANCHOR + timedelta(hours=3), ANCHOR + timedelta(hours=5)
    hourly = of_cron("0 * * * *", start_at=start, end_at=end)
    assert next_ticks(hourly, ANCHOR, 9) == [start, start + timedelta(hours=1), end]
    every = Timing(every_s=3600, anchor=start, start_at=start, end_at=end)
    assert next_ticks(every, ANCHOR, 9) == next_ticks(hourly, ANCHOR, 9)


minutes = st.sampled_from(["*", "*/7", "0", "5,35", "1-3", "30", "59"])
hours = st.sampled_from(["*", "*/13", "0", "1-3", "2", "0,2,23", "1-3/2"])
timings = st.one_of(
    st.builds(
        lambda minute, hour, day, zone: of_cron(f"{minute} {hour} {day} * *", zone),
        minutes,
        hours,
        st.sampled_from(["*", "*", "1", "*/9", "L"]),
        st.sampled_from(ZONES),
    ),
    st.builds(lambda every_s: Timing(every_s=every_s, anchor=ANCHOR), st.integers(1, 1_000_000)),
)
moments = st.timedeltas(timedelta(days=-365), timedelta(days=730)).map(lambda since: ANCHOR + since)


@settings(max_examples=300, deadline=20_000)
@given(timings, moments)
def test_ticks_strictly_increase_and_none_is_left_out(timing: Timing, after: datetime) -> None:
    ticks = next_ticks(timing, after, 12)
    assert all(earlier < later for earlier, later in pairwise([after, *ticks]))
    assert all(tick.microsecond == 0 and tick.tzinfo is UTC for tick in ticks)
    for earlier, later in pairwise([after, *ticks]):  # from anywhere in between, the next one is the same
        for part in (0.01, 0.5, 0.99):
            assert next_tick(timing, earlier + (later - earlier) * part) == later
        assert next_tick(timing, later - timedelta(microseconds=1)) == later


@settings(max_examples=200, deadline=20_000)
@given(timings, moments, st.timedeltas(timedelta(0), timedelta(days=400)), st.integers(1, 30))
def test_laws_of_missed_ticks(timing: Timing, after: datetime, away: timedelta, most: int) -> None:
    due = next_tick(timing, after)
    assert due is not None
    now = due + away
    all_of_them, once, skip = (
        plan(timing, missed, most, due, now) for missed in (Missed.ALL, Missed.ONCE, Missed.SKIP)
    )
    for todo in (all_of_them, once, skip):
        assert todo.next_at is not None and todo.next_at > now, "what comes next has not come"
        assert next_tick(timing, now) == todo.next_at, "no tick after now is left out"
        assert all(due <= tick <= now for tick in todo.ticks)
        assert len(set(todo.ticks)) == len(todo.ticks) and list(todo.ticks) == sorted(todo.ticks)
    assert all_of_them.ticks[0] == due
    assert 1 <= len(all_of_them.ticks) <= most
    assert all(next_tick(timing, one) == other for one, other in pairwise(all_of_them.ticks))
    after_all = next_tick(timing, all_of_them.ticks[-1])
    assert (after_all == all_of_them.next_at) == (all_of_them.skipped is None), "what is left out is said"
    [latest] = once.ticks
    assert next_tick(timing, latest) == once.next_at, "the one job is for the latest tick"
    assert skip.ticks == ((latest,) if now - latest <= timedelta(minutes=1) else ())
    assert skip.ticks or skip.skipped is not None


def test_years_of_absence_cost_no_more_than_a_moment() -> None:
    minutely, now = of_cron("* * * * *", BERLIN), datetime(2046, 1, 1, tzinfo=UTC)
    began = time.thread_time()
    for missed in Missed:
        assert len(plan(minutely, missed, 100, ANCHOR, now).ticks) == {"skip": 1, "once": 1, "all": 100}[missed]
    assert time.thread_time() - began < 1.0
