"""The query of ``GET /emails``: filters and cursor, from strings to values. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from gateway.services.email.addresses import split_name
from gateway.services.email.fields import ObjectReader, Problems, iso_instant
from gateway.services.email.schemas import STATUSES, MailSummary
from gateway.services.email.store import MailFilter

LIMIT_DEFAULT = 50
LIMIT_MAX = 100
_TEXT_MAX = 320
_NUMBER = re.compile(r"[0-9]{1,3}")
PARAMETERS = ("status", "to", "tag", "referenceType", "referenceId", "from", "until", "cursor", "limit")
_INCLUDES = ("body", "events", "attempts")


def read_filter(query: Mapping[str, str], owner: str | None) -> tuple[MailFilter, int]:
    """What to select, and the most rows. Raises ``Problem`` 400 naming every wrong parameter, unknown ones too."""
    problems = Problems()
    fields = ObjectReader(query, problems, known=PARAMETERS)
    recipient = fields.text("to", _TEXT_MAX)
    wanted = MailFilter(
        owner=owner,
        status=fields.word("status", STATUSES),
        recipient=split_name(recipient)[1].lower() if recipient else None,
        tag=tag_of(fields.text("tag", _TEXT_MAX)),
        reference_type=fields.text("referenceType", _TEXT_MAX),
        reference_id=fields.text("referenceId", _TEXT_MAX),
        since=fields.parsed("from", iso_instant),
        until=fields.parsed("until", iso_instant),
        before=fields.parsed("cursor", place_of),
    )
    limit = read_limit("limit", fields.raw("limit"), problems, low=1, default=LIMIT_DEFAULT)
    problems.raise_if_any()
    return wanted, limit


def read_limit(name: str, text: str | None, problems: Problems, *, low: int, default: int) -> int:
    if text is None:
        return default
    number = int(text) if _NUMBER.fullmatch(text) else None
    if number is None or not low <= number <= LIMIT_MAX:
        problems.add(name, f"must be a whole number from {low} to {LIMIT_MAX}, not {text[:20]!r}")
        return default
    return number


def read_include(text: str | None) -> set[str]:
    """Raises ``Problem`` 400 for a word that is not one of body, events, attempts."""
    words = {word.strip() for word in (text or "").split(",") if word.strip()}
    problems = Problems()
    for word in sorted(words - set(_INCLUDES)):
        problems.add("include", f"{word[:40]!r} is not one of {', '.join(_INCLUDES)}")
    problems.raise_if_any()
    return words


def next_cursor(last: MailSummary) -> str:
    return cursor_of(last.created_at, last.id)


def cursor_of(created_at: datetime, mail_id: UUID) -> str:
    """Where the next page begins: opaque to callers."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {mail_id}".encode()).decode().rstrip("=")


def place_of(text: str) -> tuple[datetime, UUID]:
    """Of a cursor. Raises ValueError."""
    try:
        moment, _, mail_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(" ")
        return iso_instant(moment), UUID(mail_id)
    except (binascii.Error, ValueError):
        raise ValueError("is not a cursor of this list: take page.nextCursor of an earlier answer") from None


def tag_of(text: str | None) -> dict[str, str] | None:
    """``name`` or ``name:value``."""
    if text is None:
        return None
    name, colon, value = text.partition(":")
    return {"name": name, "value": value} if colon else {"name": name}
