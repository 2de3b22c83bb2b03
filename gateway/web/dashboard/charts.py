"""How the queues went, as charts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from gateway.feature import Platform
from gateway.jobs.history import Step, Times
from gateway.web.dashboard.drawing import Chart, columns_of, lined, stacked
from gateway.web.dashboard.look import duration


class Range(msgspec.Struct, frozen=True):
    """Seconds back, and seconds of a step: a multiple of 60, so that a step is made of whole minutes."""

    word: str
    range_s: int
    step_s: int


RANGES: Final = {
    "1h": Range("1 hour", 3600, 60),
    "6h": Range("6 hours", 21_600, 300),
    "24h": Range("24 hours", 86_400, 900),
    "7d": Range("7 days", 604_800, 7200),
}


class QueueCharts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``steps`` are the numbers behind ``ended`` and ``waiting``, the newest first."""

    name: str
    ended: Chart
    waiting: Chart
    steps: list[Step]


async def last_hour(platform: Platform, names: Sequence[str]) -> dict[str, Chart]:
    """By queue, what ended in each minute of the last hour."""
    chosen = RANGES["1h"]
    steps = await platform.inspector.history.steps(names, chosen.range_s, chosen.step_s)
    moments = moments_of(datetime.now(UTC), chosen)
    return {name: _ended(_filled(steps[name], moments), moments, chosen) for name in names}


def moments_of(now: datetime, chosen: Range) -> list[datetime]:
    """When the steps begin, the newest last: that one is not over."""
    newest = datetime.fromtimestamp(now.timestamp() // chosen.step_s * chosen.step_s, UTC)
    number = chosen.range_s // chosen.step_s
    return [newest - timedelta(seconds=chosen.step_s * back) for back in range(number - 1, -1, -1)]


def _filled(steps: Sequence[Step], moments: Sequence[datetime]) -> list[Step]:
    """One for each moment; a step without a row is one in which nothing was seen."""
    by_time = {step.at: step for step in steps}
    empty = {name: 0 for name in Step.__struct_fields__ if name != "at"}
    return [by_time.get(at) or Step(at=at, **empty) for at in moments]


def charts_of(name: str, steps: Sequence[Step], moments: list[datetime], chosen: Range) -> QueueCharts:
    filled = _filled(steps, moments)
    waiting = [step.waiting for step in filled]
    words = [f"{step.waiting:,} waiting, {step.active:,} active" for step in filled]
    summary = f"{waiting[-1]:,} waiting now, at most {max(waiting):,}"
    series: list[tuple[str, Sequence[float]]] = [("waiting", waiting), ("active", [step.active for step in filled])]
    return QueueCharts(
        name=name,
        ended=_ended(filled, moments, chosen),
        waiting=lined(series, columns_of(moments, words), summary),
        steps=[step for step in reversed(filled) if step in steps],
    )


def _ended(filled: Sequence[Step], moments: list[datetime], chosen: Range) -> Chart:
    completed, failed = sum(step.completed for step in filled), sum(step.failed for step in filled)
    words = [f"{step.completed:,} completed, {step.failed:,} failed, {step.retried:,} tried again" for step in filled]
    summary = f"{completed:,} completed and {failed:,} failed in {chosen.word}"
    parts = [("completed", [step.completed for step in filled]), ("failed", [step.failed for step in filled])]
    return stacked(parts, columns_of(moments, words), summary)


def times_of(times: Sequence[Times], moments: list[datetime]) -> dict[str, Chart]:
    """How long attempts waited and ran: the middle one, and what 95 of 100 stayed below."""
    by_time = {one.at: one for one in times}
    found = [by_time.get(at) for at in moments]
    charts = {}
    for word in ("wait", "run"):
        middle = [getattr(one, f"{word}_p50") if one else None for one in found]
        most = [getattr(one, f"{word}_p95") if one else None for one in found]
        words = [
            "nothing ended" if low is None else f"p50 {duration(low)}, p95 {duration(high)}"
            for low, high in zip(middle, most, strict=True)
        ]
        newest = next((text for text in reversed(words) if text != "nothing ended"), "nothing ended")
        charts[word] = lined([("p50", middle), ("p95", most)], columns_of(moments, words), f"last: {newest}")
    return charts
