"""Settings for people: values with secrets masked, and where each came from (``gateway config``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from gateway.settings.model import Settings

MASK = "•••"


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of ``config show``. ``value`` and ``default`` are masked texts; None is unset, or no default."""

    name: str
    value: str | None
    default: str | None
    source: str
    description: str


def setting_rows(settings: Settings | None = None, sources: Mapping[str, str] | None = None) -> list[SettingRow]:
    """A row for each setting, in the order of the model. Without ``settings``: the defaults, for the documentation."""
    rows = []
    for field, info in Settings.model_fields.items():
        default = None if info.default is PydanticUndefined else info.default
        value = default if settings is None else getattr(settings, field)
        source = (sources or {}).get(field, "default")
        rows.append(SettingRow(field.upper(), shown(value), shown(default), source, info.description or ""))
    return rows


def shown(value: Any) -> str | None:
    """The value as text without its secrets."""
    match value:
        case None:
            return None
        case SecretStr():
            return MASK
        case bool():
            return str(value).lower()
        case _:
            return masked_url(str(value))


def masked_url(text: str) -> str:
    """``redis://:secret@host`` becomes ``redis://:•••@host``; the values of a query's secret-like names go too."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return text.split("://", 1)[0] + f"://{MASK}"
    netloc = parts.netloc
    if "@" in netloc:
        user, _, host = netloc.rpartition("@")
        name, colon, _ = user.partition(":")
        netloc = f"{name}:{MASK}@{host}" if colon else f"{name}@{host}"
    query = "&".join(
        f"{pair.split('=', 1)[0]}={MASK}" if "password" in pair.split("=", 1)[0].lower() else pair
        for pair in parts.query.split("&")
    )
    # Not geturl(): it drops the slashes of unix:///path.
    return text.partition("://")[0] + "://" + netloc + parts.path + (f"?{query}" if query else "")
