"""Failures grouped by what went wrong, however the ids and addresses in their words differ. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

import msgspec

_DIFFERENT: Final = (
    (re.compile(r"[\w.+%'•*-]+@[\w•*-]+(?:\.[\w-]+)+"), "<address>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b"), "<id>"),  # ULID
    (re.compile(r"https?://[^\s'\"<>]+"), "<address>"),
    (re.compile(r"\b\d+(?:\.\d+)+\b"), "<n>"),
)
_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?!\w)")
_CODE: Final = re.compile(r"[45]\d\d")
ERROR_READ: Final = 300  # characters of each error (failures_lately.sql)
_SAMPLES: Final = 3
_PART_MAX: Final = 150  # characters of an error that are looked for
_PART_MIN: Final = 4


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    queue: str
    error: str
    at: datetime


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``error``: one for all. ``part``: a pattern to find them by, None: there are no words in it.
    ``samples``: the newest jobs."""

    queue: str
    error: str
    count: int
    first_at: datetime
    last_at: datetime
    part: str | None
    samples: list[UUID]


@lru_cache(maxsize=8192)  # a page that is looked at again has mostly the failures that it had: 20 ms of 1,000
def normalised(error: str) -> str:
    """The first line, with what differs from job to job replaced."""
    line = error.strip().splitlines()[0] if error.strip() else "(no message)"
    for pattern, word in _DIFFERENT:
        line = pattern.sub(word, line)
    return _without_numbers(line)


def _without_numbers(line: str) -> str:
    """The first one that may be a code of SMTP or HTTP stays: it says what went wrong."""
    code = next((found.start() for found in _NUMBER.finditer(line) if _CODE.fullmatch(found[0])), None)
    return _NUMBER.sub(lambda found: found[0] if found.start() == code else "<n>", line)


def grouped(failures: Iterable[Failure]) -> list[FailureGroup]:
    """Groups, the largest first."""
    found: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        found.setdefault((failure.queue, normalised(failure.error)), []).append(failure)
    groups = [
        FailureGroup(
            queue=queue,
            error=error,
            count=len(members),
            first_at=min(member.at for member in members),
            last_at=max(member.at for member in members),
            part=_part(error, [member.error for member in members]),
            samples=[one.id for one in sorted(members, key=_at, reverse=True)[:_SAMPLES]],
        )
        for (queue, error), members in found.items()
    ]
    return sorted(groups, key=lambda group: (-group.count, group.queue, group.error))


def _at(failure: Failure) -> datetime:
    return failure.at


def _part(error: str, errors: Sequence[str]) -> str | None:
    """A pattern for the search by error: what was replaced, and what cannot be written there, is ``*``; where the line
    begins and ends belongs to it, lest it finds other groups whose errors say more."""
    text = re.sub(r"<(?:n|id|address)>", "*", error)
    written = "".join("*" if char == '"' or not char.isprintable() else char for char in text)
    whole = re.sub(r"\*(?:\s*\*)+", "*", written)
    pattern = whole[:_PART_MAX].strip("* ")
    if len(pattern.replace("*", "").strip()) < _PART_MIN or not all(one.strip() for one in errors):
        return None
    begins = whole.startswith(pattern) and not any(one[0].isspace() for one in errors)
    ends = whole.endswith(pattern) and all(_has_whole_line(one) for one in errors)
    begun = f"^{pattern}" if begins else pattern.lstrip("^")
    return f"{begun}$" if ends else begun.rstrip("$")


def _has_whole_line(error: str) -> bool:
    """Its first line ends where the search sees it end."""
    first, newline, _ = error.partition("\n")
    return first.splitlines() == [first.rstrip()] and (newline != "" or len(error) < ERROR_READ)
