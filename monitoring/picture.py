"""``python -m monitoring.picture``: draw the dashboard from what its queries answer in a rehearsal of three minutes.

Writes ``docs/pictures/dashboard-light.svg`` and ``-dark.svg``. It is no screenshot of Grafana: titles, grid and queries
are the dashboard's, the answers are those of a real Prometheus, and the drawing is ours.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path

from monitoring.panels import ROWS, Panel
from monitoring.rehearsal import Points, Recording, record

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
WIDTH, HEAD, ROW_HEAD, GAP = 1200, 78, 30, 8
COLUMN = (WIDTH - 2 * GAP) / 24
HEIGHTS = {True: 84, False: 210}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
LINES = ("#2da44e", "#0969da", "#bf8700", "#8250df", "#cf222e", "#1b7c83", "#bc4c00", "#6e7781")
THEMES = {
    "light": {"back": "#f6f8fa", "panel": "#ffffff", "edge": "#d0d7de", "text": "#1f2328", "faint": "#656d76"},
    "dark": {"back": "#0d1117", "panel": "#161b22", "edge": "#30363d", "text": "#e6edf3", "faint": "#8d96a0"},
}
Theme = dict[str, str]
Place = tuple[float, float, float, float]
CAPTION = (
    "Drawn from the dashboard's own queries, as a real Prometheus answered them after a rehearsal with two replicas: "
    "not a Grafana screenshot."
)


def main() -> int:
    recording = record()
    for name, theme in THEMES.items():
        (PICTURES / f"dashboard-{name}.svg").write_text(drawn(recording, theme), "utf-8")
    return 0


def drawn(recording: Recording, theme: Theme) -> str:
    parts, y = list[str](), float(HEAD)
    for title, panels in ROWS:
        parts.append(_text(GAP + 2, y + 20, f"▾ {title}", theme["text"], size=13, weight=600))
        y, x = y + ROW_HEAD, float(GAP)
        for panel in panels:
            place = (x, y, panel.width * COLUMN - GAP, HEIGHTS[panel.single] - GAP)
            parts += _panel(panel, recording, place, theme)
            x += panel.width * COLUMN
            if x > WIDTH - COLUMN:
                x, y = float(GAP), y + HEIGHTS[panel.single]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" font-family="{FONT}">'
    back = f'<rect width="{WIDTH}" height="{y:.0f}" fill="{theme["back"]}"/>'
    marks = " · ".join(f"{at + 1} {what}" for at, (_, what) in enumerate(recording.marks))
    title = [
        _text(GAP + 2, 24, "Gateway", theme["text"], size=18, weight=600),
        _text(GAP + 2, 44, CAPTION, theme["faint"]),
        _text(GAP + 2, 64, marks, theme["text"]),
    ]
    return "\n".join([head, back, *title, *parts, "</svg>", ""])


def _panel(panel: Panel, recording: Recording, place: Place, theme: Theme) -> Iterator[str]:
    x, y, width, height = place
    yield (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="4" fill="{theme["panel"]}"'
        f' stroke="{theme["edge"]}"/>'
    )
    yield _text(x + 10, y + 19, panel.title, theme["text"], size=12, weight=600)
    series = [(name, points) for name, points in recording.series[panel.title] if points]
    series.sort(key=lambda one: -max(value for _, value in one[1]))
    if not series:
        yield _text(x + width / 2, y + height / 2 + 8, "no data in this rehearsal", theme["faint"], anchor="middle")
    elif panel.single:
        value = series[0][1][-1][1]
        bad = panel.limit is not None and value >= panel.limit
        yield _text(x + 10, y + 58, _number(value, panel.unit), LINES[4] if bad else LINES[0], size=28, weight=600)
    else:
        yield from _chart(panel, series, recording, place, theme)


def _chart(
    panel: Panel, series: list[tuple[str, Points]], recording: Recording, place: Place, theme: Theme
) -> Iterator[str]:
    x, y, width, height = place
    left, right, top, bottom = x + 52, x + width - 12, y + 36, y + height - 50
    lowest = -_round_up(-min(0.0, *(value for _, points in series for _, value in points))) if panel.signed else 0.0
    highest = _round_up(max(value for _, points in series for _, value in points))
    span = (highest - lowest) or 1.0

    def across(at: float) -> float:
        return left + (right - left) * at / recording.length_s

    def up(value: float) -> float:
        return bottom - (bottom - top) * (value - lowest) / span

    for value in (lowest, (lowest + highest) / 2, highest):
        yield f'<path d="M{left:.0f} {up(value):.1f}H{right:.0f}" stroke="{theme["edge"]}" stroke-width="0.7"/>'
        yield _text(left - 6, up(value) + 4, _number(value, panel.unit), theme["faint"], size=10, anchor="end")
    for number, (at, _) in enumerate(recording.marks):
        line = f"M{across(at):.1f} {top}V{bottom}"
        yield f'<path d="{line}" stroke="{theme["faint"]}" stroke-width="0.7" stroke-dasharray="2 3"/>'
        yield _text(across(at), top - 3, str(number + 1), theme["faint"], size=9, anchor="middle")
    for number, (_, points) in enumerate(series):
        colour = LINES[number % len(LINES)]
        for path in _paths(points):
            line = "L".join(f"{across(at):.1f} {up(value):.1f}" for at, value in path)
            yield f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="1.4" stroke-linejoin="round"/>'
    yield from _legend(panel, series, (x + 10, y + height - 28, width - 20, 0), theme)


def _paths(points: Points) -> Iterator[Points]:
    """Pieces without a gap: where nothing is known no line is drawn."""
    piece = [points[0]]
    for before, point in pairwise(points):
        if point[0] - before[0] > 3:
            yield piece
            piece = []
        piece.append(point)
    yield piece


def _legend(panel: Panel, series: list[tuple[str, Points]], place: Place, theme: Theme) -> Iterator[str]:
    x, y, width, _ = place
    at, line = x, y
    for number, (name, points) in enumerate(series):
        said = f"{name or panel.title}  max {_number(max(value for _, value in points), panel.unit)}"
        long = 5.6 * len(said) + 22
        if at > x and at + long > x + width:
            at, line = x, line + 14
        if line > y + 14:
            break  # the smallest have no room
        yield f'<rect x="{at:.1f}" y="{line - 4:.1f}" width="10" height="3" fill="{LINES[number % len(LINES)]}"/>'
        yield _text(at + 14, line + 1, said, theme["faint"], size=10)
        at += long


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _number(value: float, unit: str) -> str:
    match unit:
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "s" if abs(value) >= 60:
            return f"{value / 60:.3g} min"
        case "s" if abs(value) < 1:
            return f"{value * 1000:.3g} ms"
        case "s":
            return f"{value:.3g} s"
        case "ops" | "reqps":
            return f"{value:.3g} /s"
        case _:
            return f"{value:.4g}"


def _text(x: float, y: float, text: str, fill: str, **style: str | int) -> str:
    """``style``: size (12), weight (400), anchor (start)."""
    size, weight, anchor = (
        style.get(name, usual) for name, usual in (("size", 12), ("weight", 400), ("anchor", "start"))
    )
    look = f'font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>'


if __name__ == "__main__":
    sys.exit(main())
