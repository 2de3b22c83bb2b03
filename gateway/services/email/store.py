"""The mails' own tables: one method per named statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.infra.tracing import Origin, origin
from gateway.jobs.job import NewJob
from gateway.services.email.schemas import (
    AttachmentView,
    AttemptView,
    Draft,
    EmailJobData,
    EventView,
    MailSummary,
    RecipientView,
)

SQL = load_sql("gateway.services.email")

Row = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[Row] | asyncpg.pool.PoolConnectionProxy[Row]"


class NewMail(msgspec.Struct, frozen=True, kw_only=True):
    """A draft with what the gateway decides. ``group``: the draft's, or the one that the settings give it;
    ``resend_of``: the mail that it repeats."""

    id: UUID
    job_id: UUID
    owner: str
    user_id: str | None
    message_id: str
    draft: Draft
    group: str | None = None
    resend_of: UUID | None = None
    origin: Origin = msgspec.field(default_factory=origin)


class MailFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which mails a list shows; None is no condition. ``recipient`` is a bare address in lower case, ``tag`` a name,
    maybe with its value, ``before`` the (created_at, id) of the last mail of the page before."""

    owner: str | None = None
    status: str | None = None
    recipient: str | None = None
    tag: dict[str, str] | None = None
    reference_type: str | None = None
    reference_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, UUID] | None = None


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A mail locked for the rest of the transaction, and its job; ``job_state`` is None when the job was pruned.
    ``expires_at`` only while the mail waits for its first attempt."""

    job_id: UUID
    job_state: str | None
    priority: int | None
    seq: int | None
    expires_at: datetime | None
    tags: list[dict[str, str]]
    group_key: str | None


class MailStore:
    """Raises what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self._pool = pool

    # Accepting: always in the caller's transaction, together with the jobs.

    async def insert(self, connection: Connection, mails: Sequence[NewMail]) -> dict[UUID, str]:
        """Insert mails, recipients, first events and files; answers each mail's status (scheduled or pending)."""
        recipients = [row for mail in mails for row in _recipient_rows(mail)]
        rows = await connection.fetch(SQL["insert_mails"], [_mail_row(mail) for mail in mails], recipients)
        files = [(mail.id, at, file) for mail in mails for at, file in enumerate(mail.draft.attachments)]
        if files:
            await connection.execute(
                SQL["insert_attachments"],
                [mail_id for mail_id, _, _ in files],
                [at for _, at, _ in files],
                [file.filename for _, _, file in files],
                [file.content_type for _, _, file in files],
                [file.content_id for _, _, file in files],
                [file.content for _, _, file in files],
            )
        return {row["id"]: row["status"] for row in rows}

    async def orphans(self, limit: int) -> list[tuple[EmailJobData, datetime | None]]:
        """Mails that wait for a job that does not exist, and when they were to be sent."""
        rows = await self._pool.fetch(SQL["reconcile"], limit)
        return [(EmailJobData(str(row["id"]), row["priority"], row["user_id"]), row["scheduled_at"]) for row in rows]

    async def copy_attachments(self, connection: Connection, source: UUID, target: UUID) -> None:
        await connection.execute(SQL["copy_attachments"], source, target)

    async def original(self, connection: Connection, mail_id: UUID, owner: str | None) -> Row | None:
        """What a resend repeats, and the mail's status."""
        return await connection.fetchrow(SQL["read_original"], mail_id, owner)

    async def lock(self, connection: Connection, mail_id: UUID) -> Held | None:
        row = await connection.fetchrow(SQL["lock_mail"], mail_id)
        return Held(**row) if row else None

    async def set_job(self, connection: Connection, mail_id: UUID, job: NewJob) -> None:
        await connection.execute(SQL["set_job"], mail_id, job.id, job.priority, job.run_at, job.expires_at)

    # Reading for people. ``owner`` None sees everybody's mails.

    async def get(self, mail_id: UUID, owner: str | None) -> tuple[MailSummary, dict[str, str]] | None:
        """The mail and its own headers."""
        row = await self._pool.fetchrow(SQL["get_mail"], mail_id, owner)
        return (_summary(row), row["headers"]) if row else None

    async def page(self, wanted: MailFilter, limit: int) -> list[MailSummary]:
        before_at, before_id = wanted.before or (None, None)
        rows = await self._pool.fetch(
            SQL["list_mails"],
            wanted.owner,
            wanted.status,
            wanted.recipient,
            [wanted.tag] if wanted.tag else None,
            wanted.reference_type,
            wanted.reference_id,
            wanted.since,
            wanted.until,
            before_at,
            before_id,
            limit,
        )
        return [_summary(row) for row in rows]

    async def jobs_of_recipient(self, address: str, below: UUID, limit: int) -> list[UUID]:
        """A finder of jobs (``jobs/candidates.py``); ``address`` is a bare one in any case."""
        rows = await self._pool.fetch(SQL["find_jobs_of_recipient"], address.lower(), below, limit)
        return [row["job_id"] for row in rows]

    async def bodies(self, mail_id: UUID) -> tuple[str | None, str | None]:
        """HTML and text."""
        row = await self._pool.fetchrow(SQL["get_bodies"], mail_id)
        return (row["html"], row["text"]) if row else (None, None)

    async def recipients(self, mail_id: UUID) -> list[RecipientView]:
        return [RecipientView(**row) for row in await self._pool.fetch(SQL["list_recipients"], mail_id)]

    async def attachment_views(self, mail_id: UUID) -> list[AttachmentView]:
        return [AttachmentView(**row) for row in await self._pool.fetch(SQL["list_attachments"], mail_id)]

    async def events(self, mail_id: UUID) -> list[EventView]:
        return [EventView(**row) for row in await self._pool.fetch(SQL["list_events"], mail_id)]

    async def attempts(self, mail_id: UUID) -> list[AttemptView]:
        return [AttemptView(**row) for row in await self._pool.fetch(SQL["list_attempts"], mail_id)]


def _mail_row(mail: NewMail) -> dict[str, Any]:
    draft = mail.draft
    return {
        "id": mail.id,
        "job_id": mail.job_id,
        "owner": mail.owner,
        "user_id": mail.user_id,
        "message_id": mail.message_id,
        "resend_of": mail.resend_of,
        "from_address": draft.sender.header,
        "to_addresses": [address.header for address in draft.to],
        "cc_addresses": [address.header for address in draft.cc],
        "bcc_addresses": [address.header for address in draft.bcc],
        "reply_to": [address.header for address in draft.reply_to],
        **{name: getattr(draft, name) for name in _SAME_IN_DRAFT},
        "group_key": mail.group,
    }


_SAME_IN_DRAFT = (
    *("subject", "html", "text", "headers", "tags", "metadata", "priority", "category", "stream", "reference_type"),
    *("reference_id", "simulate", "scheduled_at", "expires_at"),
)


def _recipient_rows(mail: NewMail) -> list[dict[str, Any]]:
    """One row per bare address: who stands in to and cc is sent to once."""
    kinds: dict[str, str] = {}
    for kind, addresses in (("to", mail.draft.to), ("cc", mail.draft.cc), ("bcc", mail.draft.bcc)):
        for address in addresses:
            kinds.setdefault(address.addr, kind)
    return [
        {"email_id": mail.id, "address": address, "kind": kind, "position": at}
        for at, (address, kind) in enumerate(kinds.items())
    ]


def _summary(row: Row) -> MailSummary:
    return MailSummary(
        id=row["id"],
        queue_id=row["id"],
        job_id=row["job_id"],
        status=row["status"],
        sender=row["from_address"],
        to=row["to_addresses"],
        cc=row["cc_addresses"],
        bcc=row["bcc_addresses"],
        test=row["simulate"],
        group=row["group_key"],
        **{name: row[name] for name in _SAME_NAMES},
    )


_SAME_NAMES = (
    *("reply_to", "subject", "tags", "metadata", "priority", "category", "stream", "reference_type", "reference_id"),
    *(
        "resend_of",
        "message_id",
        "uncertain",
        "error",
        "scheduled_at",
        "expires_at",
        "created_at",
        "updated_at",
        "sent_at",
    ),
)
