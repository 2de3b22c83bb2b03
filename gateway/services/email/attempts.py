"""What an attempt to send writes and reads. Attempts of the same moment share one statement and its commit; a lone one
never waits (``jobs.batcher``)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.postgres import is_unavailable
from gateway.jobs.batcher import Batcher
from gateway.services.email.message import Attachment
from gateway.services.email.store import SQL, Row

_MOST = 50  # mails in one statement: their bodies come back in one answer


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt needs. ``pending`` are the recipients (bare addresses) without a final answer, in the mail's
    order; ``sent_at`` is set once a server accepted at least one."""

    id: UUID
    from_address: str
    to_addresses: list[str]
    cc_addresses: list[str]
    reply_to: list[str]
    subject: str
    html: str | None
    text: str | None
    headers: dict[str, str]
    simulate: str | None
    message_id: str
    created_at: datetime
    sent_at: datetime | None
    pending: list[str]
    has_attachments: bool


class RecipientAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``status``: accepted, rejected, or pending when the server said "later"."""

    address: str
    status: str
    code: int | None
    reply: str | None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended. ``outcome``: sent, retry, rejected, paused or unknown."""

    outcome: str
    code: int | None = None
    reply: str | None = None
    recipients: list[RecipientAnswer] = []


NOTHING_SENT = Answer(outcome="retry", reply="interrupted before the message was sent")


class _Start(msgspec.Struct, frozen=True):
    mail_id: UUID
    fence: int
    attempt: int


class _Told(msgspec.Struct, frozen=True):
    mail_id: UUID
    fence: int
    answer: Answer


class Attempts:
    """Attempts to send by ``transport``. ``fence`` is that of the job's claim. Raises what asyncpg raises; ``may_pass``
    tells what is worth asking again."""

    def __init__(self, pool: asyncpg.Pool[Row], transport: str) -> None:
        self._pool = pool
        self._transport = transport
        self._starts: Batcher[_Start, Outgoing | None] = Batcher("start attempts", self._start_all, _MOST)
        self._answers: Batcher[_Told, None] = Batcher("record answers", self._record_all, _MOST)

    async def start(self, mail_id: UUID, fence: int, attempt: int) -> Outgoing | None:
        """Record that it begins, and read the mail. It is committed when this returns. None: there is no such mail.

        Cancelled meanwhile, it is written all the same, and then that nothing was sent.
        """
        starting = self._starts.put(_Start(mail_id, fence, attempt))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting
            await self.record(mail_id, fence, NOTHING_SENT)
            raise

    async def record(self, mail_id: UUID, fence: int, answer: Answer) -> None:
        """Keep what the server said. It is committed when this returns."""
        await self._answers.add(_Told(mail_id, fence, answer))

    async def record_simulated(self, mail_id: UUID, fence: int, status: str) -> None:
        await self._pool.execute(SQL["record_simulated"], mail_id, fence, status)

    async def attachments(self, mail_id: UUID) -> list[Attachment]:
        return [Attachment(**row) for row in await self._pool.fetch(SQL["read_attachments"], mail_id)]

    async def _start_all(self, starts: Sequence[_Start]) -> list[Outgoing | None]:
        rows = await self._pool.fetch(
            SQL["start_attempts"],
            [start.mail_id for start in starts],
            [start.fence for start in starts],
            [start.attempt for start in starts],
            self._transport,
        )
        found = {row["id"]: Outgoing(**row) for row in rows}
        return [found.get(start.mail_id) for start in starts]

    async def _record_all(self, told: Sequence[_Told]) -> list[None]:
        for part in _each_mail_once(told):
            recipients = [(each.mail_id, recipient) for each in part for recipient in each.answer.recipients]
            await self._pool.execute(
                SQL["record_answers"],
                [each.mail_id for each in part],
                [each.fence for each in part],
                [each.answer.outcome for each in part],
                [each.answer.code for each in part],
                [each.answer.reply for each in part],
                [mail_id for mail_id, _ in recipients],
                [recipient.address for _, recipient in recipients],
                [recipient.status for _, recipient in recipients],
                [recipient.code for _, recipient in recipients],
                [recipient.reply for _, recipient in recipients],
            )
        return [None] * len(told)


def may_pass(error: BaseException) -> bool:
    """Whether the same statement may succeed later: the ledger is away, or two transactions stood in each other's
    way."""
    return is_unavailable(error) or isinstance(error, asyncpg.TransactionRollbackError)


def _each_mail_once(told: Sequence[_Told]) -> Iterator[list[_Told]]:
    """In order. A mail is there twice when its lease was lost and the next attempt ended in the same moment: one
    statement would change its row only once."""
    part: dict[UUID, _Told] = {}
    for each in told:
        if each.mail_id in part:
            yield list(part.values())
            part = {}
        part[each.mail_id] = each
    yield list(part.values())
