"""The shapes of e-mails: what a caller may send, what the job carries, what the API answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from gateway.services.email.addresses import Address
from gateway.services.email.message import Attachment

STATUSES = (
    "scheduled",
    "pending",
    "processing",
    "sent",
    "delivered",
    "bounced",
    "complained",
    "failed",
    "cancelled",
    "suppressed",
    "unknown",
)
OPEN_STATUSES = frozenset({"scheduled", "pending", "processing"})
SIMULATIONS = ("delivered", "bounced", "complained", "failed")


class EmailJobData(msgspec.Struct, frozen=True, rename="camel"):
    """The job's argument (document 003): ids only. ``queue_id`` is the id of the mail's row."""

    queue_id: str
    priority: int = 0
    user_id: str | None = None


class SendTimes(NamedTuple):
    """Not before, and not after unless it was tried by then. None: at once, and however late."""

    scheduled_at: datetime | None = None
    expires_at: datetime | None = None


class EmailJobResult(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The job's result (document 003). ``message_id`` is the SMTP Message-ID."""

    success: bool
    message_id: str | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """With ``success`` always present and the others only when known."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        return {"success": self.success, **result}


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that was checked and may be accepted as it is."""

    sender: Address
    to: list[Address]
    cc: list[Address] = []
    bcc: list[Address] = []
    reply_to: list[Address] = []
    subject: str = ""
    html: str | None = None
    text: str | None = None
    attachments: list[Attachment] = []
    headers: dict[str, str] = {}
    tags: list[dict[str, str]] = []
    metadata: dict[str, Any] = {}
    priority: int = 0
    category: str | None = None
    stream: str | None = None
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    group: str | None = None
    reference_type: str | None = None
    reference_id: str | None = None
    simulate: str | None = None

    @property
    def times(self) -> SendTimes:
        return SendTimes(self.scheduled_at, self.expires_at)


class Accepted(msgspec.Struct, frozen=True, rename="camel"):
    """The 202 of one mail. ``job_id`` is null in direct mode (document 003)."""

    id: UUID
    queue_id: UUID
    job_id: UUID | None
    status: str
    mode: str


class AttachmentView(msgspec.Struct, frozen=True, rename="camel"):
    """``size`` in bytes, decoded."""

    filename: str
    content_type: str
    content_id: str | None
    size: int


class RecipientView(msgspec.Struct, frozen=True, rename="camel"):
    """What the server said of one recipient. ``status``: pending, accepted, rejected."""

    address: str
    kind: str
    status: str
    code: int | None
    reply: str | None
    at: datetime | None


class EventView(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    at: datetime
    detail: dict[str, Any]


class AttemptView(msgspec.Struct, frozen=True, rename="camel"):
    """``outcome`` is null while the attempt runs, else sent, retry, rejected, paused or unknown."""

    attempt: int
    worker: str
    transport: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    code: int | None
    reply: str | None


class MailSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A mail in a list."""

    id: UUID
    queue_id: UUID
    job_id: UUID
    status: str
    sender: str = msgspec.field(name="from")
    to: list[str]
    cc: list[str]
    bcc: list[str]
    reply_to: list[str]
    subject: str
    tags: list[dict[str, str]]
    metadata: dict[str, Any]
    priority: int
    category: str | None
    stream: str | None
    reference_type: str | None
    reference_id: str | None
    test: str | None
    resend_of: UUID | None
    message_id: str
    uncertain: bool
    error: str | None
    scheduled_at: datetime | None
    expires_at: datetime | None
    group: str | None
    created_at: datetime
    updated_at: datetime
    sent_at: datetime | None


class MailView(MailSummary, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One mail. The last four are there only when ``include`` asks for them."""

    headers: dict[str, str]
    attachments: list[AttachmentView]
    recipients: list[RecipientView]
    html: str | msgspec.UnsetType | None = msgspec.UNSET
    text: str | msgspec.UnsetType | None = msgspec.UNSET
    events: list[EventView] | msgspec.UnsetType = msgspec.UNSET
    attempts: list[AttemptView] | msgspec.UnsetType = msgspec.UNSET
