"""Mails that another feature asks for by a job: ``email.request`` makes and queues one, once for each id."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from gateway.access import Principal
from gateway.infra.postgres import LEDGER_ERRORS
from gateway.jobs.errors import Fail, QueueFull, Snooze
from gateway.jobs.registry import Task, TaskContext
from gateway.services.email.attempts import may_pass
from gateway.services.email.drafts import read_draft
from gateway.services.email.fields import Problems
from gateway.services.email.queue import EMAIL_QUEUE
from gateway.services.email.service import EmailService

log = structlog.get_logger(__name__)

REQUEST_TASK: Final = "email.request"
_AGAIN_S: Final = 1.0


class MailRequest(msgspec.Struct, frozen=True):
    """``id``: the asker's own, which becomes the mail's; ``owner``: whose the mail is; ``draft``: what ``POST /emails``
    takes."""

    id: str
    owner: str
    draft: dict[str, Any]


class MailRequests:
    """Performs ``email.request``."""

    def __init__(self, mails: EmailService) -> None:
        self._mails = mails

    def task(self) -> Task[MailRequest]:
        return Task(
            name=REQUEST_TASK,
            queue=EMAIL_QUEUE,
            args=MailRequest,
            perform=self.perform,
            no_replay="its mail has the id that was asked for; send that again: POST /api/v1/emails/{id}/resend",
        )

    async def perform(self, request: MailRequest, _context: TaskContext) -> dict[str, Any]:
        """The mail's id, also when an earlier attempt made it. Raises ``Fail`` for a draft that ``POST /emails`` would
        refuse, ``Snooze`` while the queue is full or the ledger away."""
        problems = Problems()
        draft = read_draft(request.draft, self._mails.default_from, problems)
        if draft is None:
            raise Fail(f"no such mail can be sent: {problems.summary()}")
        asker = Principal(id=request.owner, kind="feature", scopes=frozenset())
        try:
            new = await self._mails.accept_once(asker, UUID(request.id), draft)
        except QueueFull as error:
            raise Snooze(str(error), after_s=float(error.retry_after_s)) from error
        except LEDGER_ERRORS as error:
            if not may_pass(error):
                raise
            raise Snooze(f"the ledger does not answer: {error}", after_s=_AGAIN_S) from error
        log.info("Email requested", queueId=request.id, new=new)
        return {"emailId": request.id}
