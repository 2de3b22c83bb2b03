"""Settings for people: values with secrets masked, and where each came from (``gateway config``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from gateway.settings.model import Settings

MASK = "•••"
_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|auth|credential|signature", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of ``config show``. ``value`` and ``default`` are masked texts; None is unset, or no default.

    ``problem``: what is wrong with it; None is nothing.
    """

    name: str
    value: str | None
    default: str | None
    source: str
    description: str
    problem: str | None = None


def setting_rows(settings: Settings | None = None, sources: Mapping[str, str] | None = None) -> list[SettingRow]:
    """A row for each setting, in the order of the model. Without ``settings``: the defaults, for the documentation."""
    rows = []
    # Inherited ones last: pydantic puts them first.
    for field in sorted(Settings.model_fields, key=lambda name: name not in Settings.__annotations__):
        info = Settings.model_fields[field]
        default = None if info.default is PydanticUndefined else info.default
        value = default if settings is None else getattr(settings, field)
        source = (sources or {}).get(field, "default")
        rows.append(SettingRow(field.upper(), shown(value), shown(default), source, info.description or ""))
    return rows


def raw_rows(values: Mapping[str, str], sources: Mapping[str, str], problems: Mapping[str, str]) -> list[SettingRow]:
    """Rows of settings that are not all valid: ``values`` as they were written, by field; ``problems`` by variable."""
    rows = []
    for row in setting_rows(None, sources):
        raw = values.get(row.name.lower())
        value = row.value if raw is None else shown_raw(row.name.lower(), raw)
        rows.append(replace(row, value=value, problem=problems.get(row.name)))
    return rows


def shown_raw(field: str, value: str) -> str:
    """A value as it was written, without its secrets."""
    info = Settings.model_fields[field]
    # repr=False marks addresses that may hold a password: masked in part if they are addresses, else as a whole.
    secret = "SecretStr" in str(info.annotation) or (info.repr is False and "://" not in value)
    return MASK if secret else masked_url(value)


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
        # A / ? or # in the password, not encoded: the password stands behind it too.
        unsplit = "@" not in parts.netloc and "@" in parts.path + parts.query + parts.fragment
    except ValueError:
        unsplit = True
    if unsplit:
        return text.split("://", 1)[0] + f"://{MASK}"
    netloc = parts.netloc
    if "@" in netloc:
        user, _, host = netloc.rpartition("@")
        name, colon, _ = user.partition(":")
        netloc = f"{name}:{MASK}@{host}" if colon else f"{name}@{host}"
    query = "&".join(
        f"{pair.split('=', 1)[0]}={MASK}" if _SECRET_NAME.search(pair.split("=", 1)[0]) else pair
        for pair in parts.query.split("&")
    )
    # Not geturl(): it drops the slashes of unix:///path.
    return text.partition("://")[0] + "://" + netloc + parts.path + (f"?{query}" if query else "")
