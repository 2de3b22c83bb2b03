"""What operators do to a mail: send it again, not at all, or once more."""

from __future__ import annotations

import asyncio
from email.utils import getaddresses
from hashlib import sha256
from typing import Final
from uuid import UUID

import msgspec

from gateway.idempotency import Answer, request_hash
from gateway.infra.log import mask_text
from gateway.jobs.errors import JobNotFound, WrongState
from gateway.pages import Asked, Done
from gateway.problem import Problem
from gateway.services.email.addresses import Address
from gateway.services.email.drafts import read_resend
from gateway.services.email.pages.content import mail_id_of
from gateway.services.email.queue import EmailQueueService
from gateway.services.email.service import Call, EmailService

NOTICES: Final = {
    "resent": "This is the new mail, on its way. The one before stays as it was.",
    "resent-before": "It was sent again already by the same form: this is that mail. Nothing was done.",
    "cancelled": "Cancelled: it will not be sent.",
    "retried": "It waits to be sent again; recipients that accepted it get it no second time.",
}
_ONCE_MAX: Final = 64
_TO_MAX: Final = 20_000  # characters; reading them stops all else
_WAITS_S: Final = (0.05, 0.2, 0.5, 1.0)


class _Resent(msgspec.Struct):
    """Of the answer to a resend, what is needed here."""

    id: str


class _Body(msgspec.Struct):
    data: _Resent


class MailActions:
    def __init__(self, mails: EmailService, queue: EmailQueueService) -> None:
        self._mails = mails
        self._queue = queue

    async def resend(self, asked: Asked) -> Done:
        """A new mail. The form's own word makes a second click find what the first one did."""
        mail_id, once = mail_id_of(asked), asked.form.get("once", "")
        if not (0 < len(once) <= _ONCE_MAX and once.isalnum()):
            raise _invalid("once", "is missing: open the mail's page again and send it from there")
        original = await self._mails.visible(asked.user, mail_id)
        to = _recipients(asked.form.get("to", ""), original.to)
        names = ",".join(address.addr for address in to).encode()
        # The recipients are part of the key: the form may be corrected and sent again.
        key = f"dashboard:{once}:{sha256(names).hexdigest()[:16]}"
        call = Call(caller=asked.user, key=key, request=request_hash("POST", f"/emails/{mail_id}/resend", names))
        answer = await self._once(call, mail_id, to)
        new = msgspec.json.decode(answer.body, type=_Body).data.id
        if answer.replayed:
            return Done(path=f"/emails/{new}", notice="resent-before", change=None)
        detail = {"newId": new, "to": [mask_text(address.addr) for address in to] or "as before"}
        return Done(path=f"/emails/{new}", notice="resent", change=("email.resend", str(mail_id), detail))

    async def _once(self, call: Call, mail_id: UUID, to: list[Address]) -> Answer:
        """The second click of two comes while the first is being answered: it waits for that."""
        for wait_s in _WAITS_S:
            try:
                return await self._mails.resend(call, mail_id, to)
            except Problem as problem:
                if problem.code != "concurrent_idempotent_requests":
                    raise
                await asyncio.sleep(wait_s)
        return await self._mails.resend(call, mail_id, to)

    async def cancel(self, asked: Asked) -> Done:
        mail_id = mail_id_of(asked)
        await self._mails.cancel(asked.user, mail_id)
        return Done(path=f"/emails/{mail_id}", notice="cancelled", change=("email.cancel", str(mail_id), {}))

    async def retry(self, asked: Asked) -> Done:
        """The same mail, by the job that failed."""
        mail_id = mail_id_of(asked)
        mail = await self._mails.visible(asked.user, mail_id)
        try:
            await self._queue.retry_job(mail.job_id)
        except (JobNotFound, WrongState):
            message = f"the mail is {mail.status}; only one whose job failed and is kept can be tried again"
            raise Problem(409, "wrong_state", message) from None
        detail = {"jobId": str(mail.job_id)}
        return Done(path=f"/emails/{mail_id}", notice="retried", change=("email.retry", str(mail_id), detail))


def _recipients(text: str, before: list[str]) -> list[Address]:
    """Nobody: as before, with cc and bcc. Raises Problem 400."""
    if not text or text == ", ".join(before):
        return []
    if len(text) > _TO_MAX:
        raise _invalid("to", f"is longer than {_TO_MAX:,} characters")
    try:
        addresses = [address for _, address in getaddresses([text])]
    except RecursionError:  # it follows each colon and parenthesis with a call
        addresses = [""]  # as it answers since Python 3.13
    if addresses == [""]:
        raise _invalid("to", "cannot be read: write the addresses alone, with commas between them")
    return read_resend({"to": addresses})


def _invalid(field: str, message: str) -> Problem:
    return Problem(400, "validation_error", f"{field}: {message}", details=[{"field": field, "message": message}])
