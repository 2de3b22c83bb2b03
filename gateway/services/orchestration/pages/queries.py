"""What the addresses of the pages ask for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode
from uuid import UUID

from gateway.problem import Problem

Word = TypeVar("Word", bound=StrEnum)


def wrong(name: str, message: str) -> Problem:
    return Problem(400, "validation_error", f"{name} {message}", details=[{"field": name, "message": message}])


def id_in(query: Mapping[str, str], name: str) -> UUID | None:
    """None: it was left out or empty. Raises Problem 400."""
    text = query.get(name)
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise wrong(name, "is not an id like 0198c1d2-...") from None


def word_in(query: Mapping[str, str], name: str, words: type[Word]) -> Word | None:
    """None: it was left out or empty. Raises Problem 400."""
    text = query.get(name)
    if not text:
        return None
    try:
        return words(text)
    except ValueError:
        raise wrong(name, f"must be one of {', '.join(words)}") from None


def line_in(query: Mapping[str, str], name: str, most: int) -> str | None:
    """One line of at most ``most`` characters; None: it was left out or empty. Raises Problem 400."""
    text = query.get(name, "").strip()
    if len(text) > most or not text.isprintable():
        raise wrong(name, f"must be at most {most} printable characters")
    return text or None


def address(query: Mapping[str, str], kept: tuple[str, ...], **others: object) -> str:
    """``?`` and what of the query stays, with what is new in it; None takes something out."""
    fields: dict[str, object] = {name: query[name] for name in kept if query.get(name)}
    fields |= others
    words = urlencode({name: str(value) for name, value in fields.items() if value is not None})
    return f"?{words}" if words else "?"
