"""What the dashboard's pages read of mails: bounded, whatever the tables hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.services.email import store
from gateway.services.email.message import Attachment
from gateway.services.email.schemas import AttemptView, EventView
from gateway.services.email.store import Row

SQL = load_sql(__package__)

LOOKED_MAX: Final = 10_000  # mails that one look by text reads
NEWEST: Final = 100  # attempts and events of one mail; it can have thousands when a server refused it for days
_ID_MARGIN_MS: Final = 3_600_000  # an id is made by another clock than the time of acceptance
_ID_MS_MAX: Final = 2**48 - 1

Place = tuple[datetime, UUID]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which mails a page lists; None is no condition. ``recipient`` and ``part`` in lower case, ``before``: the
    (created_at, id) of the last mail of the page before."""

    status: str | None = None
    recipient: str | None = None
    tag: dict[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: Place | None = None
    part: str | None = None


class Listed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A mail in the dashboard's list."""

    id: UUID
    job_id: UUID
    status: str
    sender: str = msgspec.field(name="from")
    to: list[str]
    cc: list[str]
    bcc: list[str]
    subject: str
    tags: list[dict[str, str]]
    resend_of: UUID | None
    uncertain: bool
    error: str | None
    created_at: datetime
    updated_at: datetime
    sent_at: datetime | None
    scheduled_at: datetime | None


class Found(msgspec.Struct, frozen=True):
    """``following``: where the next page begins, None at the end. ``looked``: how many mails were read."""

    mails: list[Listed]
    following: Place | None
    looked: int


class Beside(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``html_bytes``, ``text_bytes``: None without such a body. ``job_state``: None when the job was deleted.
    ``resends``: mails that repeat this one, newest first."""

    files_bytes: int
    html_bytes: int | None
    text_bytes: int | None
    smtp_reply: str | None
    content_removed_at: datetime | None
    job_state: str | None
    resends: list[UUID]


class Beginning(msgspec.Struct, frozen=True):
    """Of a text; ``left``: how many more characters there are."""

    text: str
    left: int

    @classmethod
    def of(cls, text: str, most: int) -> Beginning:
        return cls(text[:most], max(0, len(text) - most))


class MailReader:
    """Raises what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self._pool = pool

    async def search(self, wanted: Wanted, limit: int) -> Found:
        before_at, before_id = wanted.before or (None, None)
        most = LOOKED_MAX if wanted.part is not None or wanted.recipient is not None else limit + 1
        rows = await self._pool.fetch(
            SQL["search_mails"],
            wanted.status,
            wanted.recipient,
            [wanted.tag] if wanted.tag else None,
            wanted.since,
            wanted.until,
            before_at,
            before_id,
            _above(before_at) if before_at is not None else None,
            wanted.part,
            most,
            limit + 1,
        )
        fits = [row for row in rows if row["fits"]]
        looked = rows[0]["looked"] if rows else 0
        last = fits[limit - 1] if len(fits) > limit else rows[-1] if looked == most else None
        following = (last["created_at"], last["id"]) if last is not None else None
        return Found([_listed(row) for row in fits[:limit]], following, looked)

    async def beside(self, mail_id: UUID) -> Beside | None:
        row = await self._pool.fetchrow(SQL["mail_beside"], mail_id)
        return Beside(**row) if row is not None else None

    async def events(self, mail_id: UUID) -> list[EventView]:
        """The last ones, oldest first."""
        rows = await self._pool.fetch(SQL["newest_events"], mail_id, NEWEST)
        return [EventView(**row) for row in reversed(rows)]

    async def attempts(self, mail_id: UUID) -> list[AttemptView]:
        """The last ones, newest first."""
        return [AttemptView(**row) for row in await self._pool.fetch(SQL["newest_attempts"], mail_id, NEWEST)]

    async def text(self, mail_id: UUID, most: int) -> Beginning:
        """``most``: characters."""
        row = await self._pool.fetchrow(SQL["text_beginning"], mail_id, most)
        return (
            Beginning((row["text"] or "").replace("\r\n", "\n"), row["left_out"] or 0)
            if row is not None
            else Beginning("", 0)
        )

    async def attachment(self, mail_id: UUID, position: int) -> Attachment | None:
        row = await self._pool.fetchrow(SQL["read_attachment"], mail_id, position)
        return Attachment(**row) if row is not None else None

    async def attachments(self, mail_id: UUID) -> list[Attachment]:
        return [Attachment(**row) for row in await self._pool.fetch(store.SQL["read_attachments"], mail_id)]

    async def images(self, mail_id: UUID) -> list[Attachment]:
        return [Attachment(**row) for row in await self._pool.fetch(SQL["read_images"], mail_id)]

    async def names_of_jobs(self, job_ids: Sequence[UUID]) -> dict[UUID, str]:
        """To whom their mails go."""
        rows = await self._pool.fetch(SQL["recipients_of_jobs"], list(job_ids))
        others = {row["job_id"]: row["recipients"] - 1 for row in rows}
        return {
            row["job_id"]: row["first"] + (f" and {others[row['job_id']]} more" if others[row["job_id"]] else "")
            for row in rows
        }

    async def of_job(self, job_id: UUID) -> tuple[UUID, str] | None:
        """Id and subject."""
        row = await self._pool.fetchrow(SQL["mail_of_job"], job_id)
        return (row["id"], row["subject"]) if row is not None else None


def _above(moment: datetime) -> UUID:
    """An id above all that were made by then (RFC 9562, 5.7: the first 48 bits are milliseconds)."""
    milliseconds = int(moment.timestamp() * 1000) + _ID_MARGIN_MS
    return UUID(int=min(max(milliseconds, 0), _ID_MS_MAX) << 80)


_LISTED: Final = {"sender": "from_address", "to": "to_addresses", "cc": "cc_addresses", "bcc": "bcc_addresses"}


def _listed(row: Row) -> Listed:
    values: dict[str, Any] = {name: row[_LISTED.get(name, name)] for name in Listed.__struct_fields__}
    return Listed(**values)
