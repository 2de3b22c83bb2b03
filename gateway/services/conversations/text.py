"""Texts of models as PostgreSQL can keep them. Pure."""

from __future__ import annotations

from typing import Any


def clean(text: str) -> str:
    """Neither NUL nor lone surrogates."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def cleaned(value: Any) -> Any:
    """The same for all texts of a JSON value."""
    match value:
        case str():
            return clean(value)
        case list():
            return [cleaned(each) for each in value]
        case dict():
            return {clean(str(name)): cleaned(each) for name, each in value.items()}
    return value
