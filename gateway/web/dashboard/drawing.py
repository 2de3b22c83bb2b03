"""Charts as SVG that the server draws: they need no script, and no style that the content policy forbids.

A chart is 600 by 120 units whatever its size on the page; words and numbers stand beside it in HTML, as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

WIDTH: Final = 600
HEIGHT: Final = 120
_STEPS: Final = (1, 2, 2.5, 5, 10)


class Bar(msgspec.Struct, frozen=True):
    """A rectangle from the top left, with what it stands for (``kind``: a class of the style sheet)."""

    kind: str
    x: float
    y: float
    width: float
    height: float


class Column(msgspec.Struct, frozen=True):
    """A step over the whole height, to be pointed at: ``words`` say what happened in it."""

    x: float
    width: float
    at: datetime
    words: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """``top``: the value at the upper edge. ``lines``: the points of each polyline, in parts where values are missing.
    ``summary``: what it shows, in words."""

    top: float
    bars: list[Bar] = []
    lines: list[tuple[str, list[str]]] = []
    columns: list[Column]
    summary: str


Series = Sequence[float | None]


def rounded_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten: an upper edge that one can read from."""
    if value <= 0:
        return 1.0
    size = 1.0
    while size * 10 < value:
        size *= 10
    while size > value:
        size /= 10
    return next(step * size for step in _STEPS if step * size >= value)


def stacked(parts: Sequence[tuple[str, Sequence[float]]], columns: list[Column], summary: str) -> Chart:
    """Bars for each step, the first part lowest."""
    top = rounded_up(max((sum(values) for values in zip(*(series for _, series in parts), strict=True)), default=0))
    bars: list[Bar] = []
    for place, column in enumerate(columns):
        base = float(HEIGHT)
        for kind, series in parts:
            height = series[place] / top * HEIGHT
            if height:
                base -= height
                bars.append(Bar(kind, column.x, round(base, 2), round(column.width * 0.86, 2), round(height, 2)))
    return Chart(top=top, bars=bars, columns=columns, summary=summary)


def lined(series: Sequence[tuple[str, Series]], columns: list[Column], summary: str) -> Chart:
    """A line for each series; where a value is missing, the line is interrupted."""
    top = rounded_up(max((value for _, values in series for value in values if value is not None), default=0))
    lines = [(kind, _parts(values, columns, top)) for kind, values in series]
    return Chart(top=top, lines=lines, columns=columns, summary=summary)


def _parts(values: Series, columns: Sequence[Column], top: float) -> list[str]:
    parts: list[list[str]] = [[]]
    for value, column in zip(values, columns, strict=True):
        if value is None:
            parts.append([])
            continue
        y = round(HEIGHT - value / top * HEIGHT, 2)
        # Level over the whole step, so that one alone is seen too.
        parts[-1] += [f"{column.x},{y}", f"{round(column.x + column.width, 2)},{y}"]
    return [" ".join(part) for part in parts if part]


def columns_of(times: Sequence[datetime], words: Sequence[str]) -> list[Column]:
    width = WIDTH / max(len(times), 1)
    return [
        Column(round(place * width, 2), round(width, 2), at, text)
        for place, (at, text) in enumerate(zip(times, words, strict=True))
    ]
