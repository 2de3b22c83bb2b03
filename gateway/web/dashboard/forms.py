"""Reading what a form sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from litestar import Request

from gateway.web.queues_schemas import REASON_MAX, invalid

FORM_MAX_BYTES: Final = 1_000_000
TICKED_MAX: Final = 200  # rows that one form names
_FIELDS_MAX: Final = TICKED_MAX + 50


async def read_form(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Fields that were filled in, by name, without the space around them. Raises Problem 400."""
    return dict(await read_fields(request))


async def read_fields(request: Request[Any, Any, Any]) -> list[tuple[str, str]]:
    """As ``read_form``, with all values of a name: a ticked box each."""
    try:
        pairs = parse_qsl((await request.body()).decode("utf-8"), errors="strict", max_num_fields=_FIELDS_MAX)
    except ValueError:  # of decoding too
        raise invalid("body", "is not a form") from None
    return [(name, value.strip()) for name, value in pairs if value.strip()]


def reason_of(form: Mapping[str, str]) -> str | None:
    """Raises Problem 400."""
    reason = form.get("reason")
    if reason is not None and not (len(reason) <= REASON_MAX and reason.isprintable()):
        raise invalid("reason", f"must be at most {REASON_MAX} printable characters")
    return reason


def number_of(form: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """None when it was left empty. Raises Problem 400."""
    text = form.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        raise invalid(name, f"must be a whole number from {least} to {most}")
    return int(text)
