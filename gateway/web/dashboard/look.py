"""Pages from templates. Escaping is on for everything; characters that hide or turn text round are written out."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup, escape

_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z| UTC)")
_NO_NAME: Final = re.compile(r'[/\\:*?"<>|]')
_SAFE: Final = "!#$&+-.^_`|~"  # with letters and digits: what RFC 8187 leaves as it is
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def visible(value: Any) -> Any:
    """Text in which nothing is hidden: control characters, and those that turn the direction, as their codes."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", value)
    return value


def duration(seconds: float | None) -> str:
    """``91 ms``, ``2.6 s``, ``3 m 20 s``, ``2 d 4 h``."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def moment(value: datetime | None) -> Markup:
    """A time as its distance from now, the exact one beside it for programs and on hover."""
    if value is None:
        return Markup("-")
    exact = _exact(value)
    away = (datetime.now(UTC) - value).total_seconds()
    if abs(away) < 1:
        words = "now"
    else:
        # Without tenths: they would change while one reads.
        distance = duration(float(round(abs(away))))
        words = f"{distance} ago" if away > 0 else f"in {distance}"
    return Markup('<time class="ago" datetime="{0}" title="{0}">{1}</time>').format(exact, words)


def clock(value: datetime | None) -> Markup:
    """The time itself; scripts write it in the reader's zone."""
    if value is None:
        return Markup("-")
    words = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time class="clock" datetime="{0}" title="{0}">{1}</time>').format(_exact(value), words)


def zoned(text: str) -> Markup:
    """Text of ours in which times stand as ISO 8601 or ``2026-05-01 15:00:00 UTC``: those as ``clock`` has them."""
    parts = [escape(visible(part)) for part in _TIME.split(text)]
    for place, found in enumerate(_TIME.findall(text)):
        try:
            at = datetime.fromisoformat(found.removesuffix(" UTC").removesuffix("Z") + "+00:00")
        except ValueError:  # in somebody's words: no time of any calendar
            parts.insert(2 * place + 1, escape(found))
        else:
            parts.insert(2 * place + 1, clock(at))
    return Markup("").join(parts)


def _exact(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(value: int) -> Markup:
    """With separators; a zero is no news, and looks so."""
    return Markup('<span class="zero">0</span>') if value == 0 else escape(f"{value:,}")


def segment(value: object) -> str:
    """As one segment of an address."""
    return quote(str(value), safe="")


def short_id(value: object) -> str:
    text = str(value)
    return f"{text[:8]}…{text[-4:]}" if len(text) == 36 else text


def clipped(text: str | None, most: int = 120) -> str:
    """One line of at most ``most`` characters."""
    if not text:
        return ""
    line = " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text[: most * 4]).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def file_name(text: str) -> str:
    """A name to save a file under on any system: nothing hidden, no path, not empty, at most 150 characters."""
    name = _NO_NAME.sub("_", _CONTROL.sub("_", text)).replace("\n", "_").replace("\t", "_").strip(" .")
    return name[-150:] or "file"


def attachment(text: str) -> str:
    """``Content-Disposition`` for a file of this name. The second form (RFC 6266, 4.3) says all characters; the first
    is for programs that do not know it."""
    name = file_name(text)
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "-_.") else "_" for each in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_SAFE)}"


@cache
def templates(brought: tuple[tuple[str, str], ...]) -> Environment:
    """The dashboard's templates; those in the folder ``pages`` of other packages begin with the name given for it."""
    loaders = {name: PackageLoader(package, "pages") for name, package in brought}
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(__package__), PrefixLoader(loaders)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "clipped": clipped,
        "clock": clock,
        "duration": duration,
        "moment": moment,
        "number": number,
        "segment": segment,
        "short_id": short_id,
        "zoned": zoned,
    }
    return environment
