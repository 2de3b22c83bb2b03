"""Accepting, changing and repeating mails: rows, job and idempotent answer in one transaction, then a word to the
dispatcher."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from gateway.access import Principal, Scope
from gateway.feature import Platform
from gateway.idempotency import Answer, run_idempotent
from gateway.infra.tracing import under
from gateway.infra.uuid7 import uuid7
from gateway.jobs.batcher import Batcher
from gateway.jobs.errors import JobNotFound, WrongState
from gateway.jobs.job import Inserted, NewJob
from gateway.problem import Problem
from gateway.services.email.addresses import Address, parse_address
from gateway.services.email.message import new_message_id
from gateway.services.email.queue import send_job
from gateway.services.email.schemas import OPEN_STATUSES, Accepted, Draft, EmailJobData, MailSummary
from gateway.services.email.store import Connection, MailStore, NewMail, Row
from gateway.settings import Settings

_MOST_AT_ONCE = 50  # requests in one commit

Work = Callable[[Connection, list[Inserted]], Awaitable[Answer]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for work, and how the request is recognised when it comes again (``idempotency.request_hash``)."""

    caller: Principal
    key: str | None
    request: bytes


def default_sender(settings: Settings) -> Address | None:
    """Who sends mails that name no sender; None when the settings name nobody."""
    if settings.smtp_from_email is None:
        return None
    sender = parse_address(settings.smtp_from_email)
    return sender._replace(name=settings.smtp_from_name) if settings.smtp_from_name else sender


def visible_to(caller: Principal) -> str | None:
    """The owner whose mails the caller may see; None sees everybody's."""
    return None if caller.sees_all else caller.id


def changeable_by(caller: Principal) -> str | None:
    """The owner whose mails the caller may cancel, move and send again; None: everybody's. Seeing is not enough: a
    repeated mail goes to whom the caller names."""
    return None if caller.changes_all else caller.id


class EmailService:
    """Raises ``Problem`` for what the caller did wrong, and what asyncpg raises when the ledger is away."""

    def __init__(self, platform: Platform) -> None:
        self.store = MailStore(platform.pool)
        self.default_from = default_sender(platform.settings)
        self._group_by = platform.settings.email_group_by
        self._pool = platform.pool
        self._engine = platform.engine
        self._together: Batcher[list[NewMail], list[Accepted]] = Batcher("accept", self._accept_together, _MOST_AT_ONCE)

    async def accept(self, call: Call, drafts: Sequence[Draft], body: Callable[[list[Accepted]], Any]) -> Answer:
        """Accept mails, all or none. ``body`` makes the 202's JSON of what was accepted, in the drafts' order.

        Without an idempotency key there is nothing to look up first: requests of the same moment share one commit.
        Files keep their own, so that a commit stays small.
        """
        if call.key is None and drafts and not any(draft.attachments for draft in drafts):
            mails = [self._new_mail(call.caller, draft) for draft in drafts]
            return Answer.of(202, body(await self._together.add(mails)))

        async def work(connection: Connection, inserted: list[Inserted]) -> Answer:
            mails = [self._new_mail(call.caller, draft) for draft in drafts]
            return Answer.of(202, body(await self._insert(connection, mails, inserted) if mails else []))

        return await self._once(call, work)

    async def accept_once(self, caller: Principal, mail_id: UUID, draft: Draft) -> bool:
        """Accept a mail under an id that its asker chose; False if there is one already. Raises ``QueueFull``."""
        mail = self._new_mail(caller, draft, mail_id=mail_id)
        inserted: list[Inserted] = []
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await self._insert(connection, [mail], inserted)
        except asyncpg.UniqueViolationError:
            return False
        await self._engine.offer(inserted)
        return True

    async def resend(self, call: Call, mail_id: UUID, to: list[Address]) -> Answer:
        """Send a copy of a mail that has ended, to the same recipients or only ``to``. Its files are copied, it is sent
        at once. Raises Problem 404, and 409 ``not_finished`` while the original may still be sent, ``content_removed``
        when retention took what it said."""

        async def work(connection: Connection, inserted: list[Inserted]) -> Answer:
            row = await self.store.original(connection, mail_id, changeable_by(call.caller))
            if row is None:
                raise not_found(mail_id)
            if row["status"] in OPEN_STATUSES:
                message = f"the mail is {row['status']}; it can be sent again when it has ended"
                raise Problem(409, "not_finished", message)
            if row["content_removed_at"] is not None:
                removed = f"{row['content_removed_at']:%Y-%m-%dT%H:%M:%SZ}"
                message = f"its body and files were removed at {removed} (EMAIL_CONTENT_RETENTION_DAYS); send a new one"
                raise Problem(409, "content_removed", message)
            mail = self._new_mail(call.caller, _repeated(row, to), resend_of=mail_id)
            accepted = await self._insert(connection, [mail], inserted)
            await self.store.copy_attachments(connection, mail_id, mail.id)
            return Answer.of(202, {"success": True, "data": {**_builtins(accepted[0]), "resendOf": str(mail_id)}})

        return await self._once(call, work)

    async def reschedule(self, caller: Principal, mail_id: UUID, moment: datetime) -> MailSummary:
        """Send a scheduled mail at another time; a past one means now. Raises Problem 404, 409 ``not_scheduled``, and
        400 for a time at which it has expired."""
        mail = await self._changeable(caller, mail_id)
        try:
            if mail.status != "scheduled":
                raise WrongState(mail.job_id, mail.status, "")
            if mail.expires_at is not None and moment >= mail.expires_at:
                message = f"must be before {mail.expires_at:%Y-%m-%dT%H:%M:%SZ}, the mail's expiresAt"
                details = [{"field": "scheduledAt", "message": message}]
                raise Problem(400, "validation_error", f"scheduledAt: {message}", details=details)
            await self._engine.reschedule(mail.job_id, moment)
        except (WrongState, JobNotFound):
            status = (await self._changeable(caller, mail_id)).status
            message = f"the mail is {status}; only a scheduled mail can be rescheduled"
            raise Problem(409, "not_scheduled", message) from None
        return await self._changeable(caller, mail_id)

    async def cancel(self, caller: Principal, mail_id: UUID) -> None:
        """Do not send a mail that is not being sent yet. Cancelling twice is no mistake. Raises Problem 404 and 409
        ``already_processing`` or ``already_finished``."""
        mail = await self._changeable(caller, mail_id)
        if mail.status == "cancelled":
            return
        try:
            await self._engine.cancel(mail.job_id, f"cancelled by {caller.id}")
        except (WrongState, JobNotFound):
            status = (await self._changeable(caller, mail_id)).status
            if status == "cancelled":  # somebody else was faster
                return
            message = f"the mail is {status}; only a mail that is not being sent yet can be cancelled"
            if status in OPEN_STATUSES:
                raise Problem(409, "already_processing", message) from None
            raise Problem(409, "already_finished", message) from None

    async def visible(self, caller: Principal, mail_id: UUID) -> MailSummary:
        """Raises Problem 404, also for somebody else's mail."""
        return await self._owned(mail_id, visible_to(caller))

    async def demand_content(self, caller: Principal, mail_id: UUID) -> None:
        """Raises Problem 403 for who may see everybody's mails, but not what others wrote in them."""
        if caller.reads_content or not caller.sees_all:
            return
        if await self.store.get(mail_id, caller.id) is None:
            message = f"Bodies of others' e-mails need the scope {Scope.ADMIN_CONTENT}; ask without include=body"
            raise Problem(403, "insufficient_scope", message)

    async def _changeable(self, caller: Principal, mail_id: UUID) -> MailSummary:
        """Raises Problem 404, also for a mail that the caller may only see."""
        return await self._owned(mail_id, changeable_by(caller))

    async def _owned(self, mail_id: UUID, owner: str | None) -> MailSummary:
        found = await self.store.get(mail_id, owner)
        if found is None:
            raise not_found(mail_id)
        return found[0]

    async def _once(self, call: Call, work: Work) -> Answer:
        inserted: list[Inserted] = []
        answer = await run_idempotent(
            self._pool, call.caller.id, call.key, call.request, lambda connection: work(connection, inserted)
        )
        if inserted and not answer.replayed:
            await self._engine.offer(inserted)
        return answer

    async def _accept_together(self, requests: Sequence[list[NewMail]]) -> list[list[Accepted]]:
        inserted: list[Inserted] = []
        async with self._pool.acquire() as connection, connection.transaction():
            accepted = iter(await self._insert(connection, [mail for mails in requests for mail in mails], inserted))
        await self._engine.offer(inserted)
        return [[next(accepted) for _ in mails] for mails in requests]

    async def _insert(self, connection: Connection, mails: list[NewMail], inserted: list[Inserted]) -> list[Accepted]:
        jobs = [_job_of(mail) for mail in mails]
        self._engine.admit(jobs)
        statuses = await self.store.insert(connection, mails)
        inserted += await self._engine.insert(connection, jobs)
        # The kept answer must be the given one, so the mode is the one before the commit, not the offer's.
        mode = self._engine.mode
        return [
            Accepted(
                id=mail.id,
                queue_id=mail.id,
                job_id=mail.job_id if mode == "queue" else None,
                status=statuses[mail.id],
                mode=mode,
            )
            for mail in mails
        ]

    def _new_mail(
        self, caller: Principal, draft: Draft, resend_of: UUID | None = None, mail_id: UUID | None = None
    ) -> NewMail:
        mail_id = mail_id or uuid7()
        return NewMail(
            id=mail_id,
            job_id=uuid7(),
            owner=caller.id,
            user_id=caller.id if caller.kind == "user" else None,
            message_id=new_message_id(mail_id, draft.sender.domain),
            draft=draft,
            group=draft.group or group_of(draft, caller.id, self._group_by),
            resend_of=resend_of,
        )


def group_of(draft: Draft, owner: str, by: str) -> str | None:
    """The group of a mail that names none, as EMAIL_GROUP_BY says. Pure."""
    match by:
        case "domain" if draft.to:
            return draft.to[0].domain.lower()
        case "owner":
            return owner
        case _:
            return None


def not_found(mail_id: UUID | str) -> Problem:
    return Problem(404, "not_found", f"there is no e-mail {str(mail_id)[:64]!r} for you")


def _job_of(mail: NewMail) -> NewJob:
    with under(mail.origin):  # mails of several requests are accepted together
        return send_job(mail.job_id, _job_data(mail), mail.draft.times, mail.draft.tags, mail.group)


def _job_data(mail: NewMail) -> EmailJobData:
    return EmailJobData(queue_id=str(mail.id), priority=mail.draft.priority, user_id=mail.user_id)


def _repeated(row: Row, to: list[Address]) -> Draft:
    """The original's content. With ``to``, nobody else gets the copy."""
    return Draft(
        sender=parse_address(row["from_address"]),
        to=to or _addresses(row["to_addresses"]),
        cc=[] if to else _addresses(row["cc_addresses"]),
        bcc=[] if to else _addresses(row["bcc_addresses"]),
        reply_to=_addresses(row["reply_to"]),
        group=row["group_key"],
        **{name: row[name] for name in _REPEATED},
    )


_REPEATED = (
    *("subject", "html", "text", "headers", "tags", "metadata", "priority", "category", "stream"),
    *("reference_type", "reference_id", "simulate"),
)


def _addresses(texts: list[str]) -> list[Address]:
    return [parse_address(text) for text in texts]


def _builtins(accepted: Accepted) -> dict[str, Any]:
    result: dict[str, Any] = msgspec.to_builtins(accepted)
    return result
