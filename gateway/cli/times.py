"""Times as people write them. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

import click

from gateway.cli.limits import milliseconds


def since_of(text: str | None, now: datetime) -> str | None:
    """``2h`` (ago), ``15:00`` (the last one) or ISO 8601, as ISO 8601 with a zone; None for None.

    Raises click.BadParameter.
    """
    if text is None:
        return None
    if text[-1:].isalpha() and text[:1].isdigit() and len(text) <= 10 and "T" not in text:
        try:
            return (now - timedelta(milliseconds=milliseconds("--since", text))).isoformat()
        except OverflowError:
            raise click.BadParameter(f'--since: "{text}" is longer ago than there are years') from None
    try:
        moment = moment_of(text, now)
    except click.BadParameter:
        raise click.BadParameter(f'"{text}" is not a time; examples: 2h, 15:00, 2026-05-01T15:00+02:00') from None
    return (moment - timedelta(days=1) if len(text) <= 5 and moment > now else moment).isoformat()


def moment_of(text: str, now: datetime) -> datetime:
    """``30m``, ``2h``, ``15:00`` (today or tomorrow) or ISO 8601; in ``now``'s zone where none is named.

    Raises click.BadParameter.
    """
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}.get(text[-1:])
    if unit and text[:-1].isascii() and text[:-1].isdigit() and len(text) <= 8:
        return now + timedelta(**{unit: int(text[:-1])})
    try:
        if len(text) <= 5:
            hour, minute = (int(part) for part in text.split(":"))
            clock = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return clock if clock > now else clock + timedelta(days=1)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f'"{text}" is not a time; examples: 15:00, 30m, 2026-05-01T15:00+02:00') from None
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
