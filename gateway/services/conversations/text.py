"""Texts of models as PostgreSQL can keep them. Pure."""

from __future__ import annotations

from typing import Any

from gateway.infra.postgres import storable_text


def cleaned(value: Any) -> Any:
    """``storable_text`` for all texts of a JSON value."""
    match value:
        case str():
            return storable_text(value)
        case list():
            return [cleaned(each) for each in value]
        case dict():
            return {storable_text(str(name)): cleaned(each) for name, each in value.items()}
    return value
