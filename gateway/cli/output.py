"""What commands print: tables for people, tab-separated lines for pipes, JSON on request.

stdout carries the answer, stderr everything said about it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def for_people(stream: IO[str]) -> bool:
    return stream.isatty()


def console(stream: IO[str] | None = None) -> Console:
    """A console that writes colours to a terminal only, and none with ``NO_COLOR`` (no-color.org)."""
    target = stream or sys.stdout
    plain = bool(os.environ.get("NO_COLOR")) or not for_people(target)
    return Console(file=target, no_color=plain, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """A remark for people, on stderr."""
    print(message, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on a terminal; elsewhere a header line and one tab-separated line for each row."""
    if not for_people(sys.stdout):
        for line in (columns, *rows):
            print("\t".join(one_line(value) for value in line))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[position], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(value)) for value in row))
    console().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """One thing in detail: ``name  value`` lines, aligned on a terminal and tab-separated elsewhere."""
    people = for_people(sys.stdout)
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {one_line(value)}" if people else f"{name}\t{one_line(value)}")


def one_line(value: Any) -> str:
    """Without tabs or control characters: data must not move columns or the terminal's cursor."""
    if value is None:
        return "-"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return "".join(
        " " if character.isspace() else character
        for character in text
        if character.isprintable() or character.isspace()
    )


def harmless(text: str) -> str:
    """Of lines that others wrote, such as models: without what moves the terminal's cursor or sets its title."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")


def ago(moment: str | None, now: datetime | None = None) -> str:
    """``2024-05-01T10:00:00Z`` as ``3m ago`` or ``in 2h``: one unit, rounded down."""
    if moment is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    size = duration(abs(seconds))
    return f"{size} ago" if seconds >= 0 else f"in {size}"


def duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"
