"""What happened to a mail, for people: when it was accepted, and its events. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from gateway.services.email.schemas import EventView, MailSummary

_SAME_S: Final = 1.0  # the first event tells the acceptance, a moment after it
_KINDS: Final = {
    "queued": "waiting",
    "scheduled": "delayed",
    "rescheduled": "delayed",
    "processing": "active",
    "sent": "completed",
    "delivered": "completed",
    "bounced": "failed",
    "complained": "failed",
    "failed": "failed",
    "rejected": "failed",
    "unknown": "delayed",
    "cancelled": "cancelled",
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: the state of a job whose colour it has. ``after_s``: since the step before. ``said``: a server's words
    or an error."""

    kind: str
    word: str
    at: datetime
    after_s: float | None
    recipient: str | None = None
    code: int | None = None
    said: str = ""


def steps_of(mail: MailSummary, events: Sequence[EventView]) -> list[Step]:
    """``events`` oldest first; of a mail with many, the last ones."""
    steps = [Step(kind="waiting", word="accepted", at=mail.created_at, after_s=None)]
    for event in events:
        after_s = (event.at - steps[-1].at).total_seconds()
        if len(steps) == 1 and event.type == "queued" and after_s < _SAME_S:
            continue
        detail: dict[str, Any] = event.detail
        step = Step(
            kind=_KINDS.get(event.type, "waiting"),
            word=event.type.replace("_", " "),
            at=event.at,
            after_s=max(0.0, after_s),
            recipient=detail.get("recipient"),
            code=detail.get("code"),
            said=str(detail.get("reply") or detail.get("error") or ""),
        )
        steps.append(step)
    return steps
