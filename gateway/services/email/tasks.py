"""Sending one mail: the job's attempt, from its row to the server's answer and back into the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

import structlog

from gateway.infra.postgres import LEDGER_ERRORS
from gateway.jobs.errors import Fail, Retry, Snooze
from gateway.jobs.registry import Task, TaskContext
from gateway.services.email import message
from gateway.services.email.addresses import split_name
from gateway.services.email.attempts import NOTHING_SENT, Answer, Attempts, Outgoing, RecipientAnswer, may_pass
from gateway.services.email.queue import EMAIL_QUEUE, SEND_TASK
from gateway.services.email.schemas import EmailJobData, EmailJobResult
from gateway.services.email.smtp_answers import REST_S, Delivery, Outcome, RecipientReply, SmtpFailure

log = structlog.get_logger(__name__)

_LEDGER_RETRY_S = 0.25
_AGAIN_S = 1.0
REPORT_AFTER_S = 1.0  # mails that are faster have the server's answer to show, and no report

CountEmail = Callable[[str, str], None]
"""Called once per attempt with the transport's name and the outcome (sent, retry, rejected, paused, unknown)."""


class Transport(Protocol):
    """Hands one message to a server. ``name`` stands in attempts and metrics."""

    name: str

    async def send(
        self, envelope_from: str, recipients: Sequence[str], data: bytes, on_data: Callable[[], None]
    ) -> Delivery:
        """Returns when it was accepted for at least one; raises ``SmtpFailure`` otherwise. ``on_data`` is called right
        before the message itself goes out."""
        ...


class EmailSender:
    """Performs ``email.send``."""

    def __init__(self, attempts: Attempts, transport: Transport, count: CountEmail) -> None:
        self._attempts = attempts
        self._transport = transport
        self._count = count

    def task(self) -> Task[EmailJobData]:
        return Task(
            name=SEND_TASK,
            queue=EMAIL_QUEUE,
            args=EmailJobData,
            perform=self.perform,
            report_after_s=REPORT_AFTER_S,
            no_replay="a mail's job only names the mail; send that again: POST /api/v1/emails/{id}/resend",
        )

    async def perform(self, data: EmailJobData, context: TaskContext) -> dict[str, Any]:
        """The result of document 003. Raises ``Retry``, ``Fail`` or ``Snooze`` as the server's answer demands."""
        facts = {"jobId": str(context.job.id), "queueId": data.queue_id}
        log.info("Processing email job", **facts, attempt=context.job.attempt, priority=context.job.priority)
        try:
            message_id = await self._or_snooze(UUID(data.queue_id), context)
        except Exception as error:
            log.warning(
                "Email job failed", **facts, attempt=context.job.attempt, error=str(error) or type(error).__name__
            )
            raise
        except asyncio.CancelledError:
            log.warning(
                "Email job failed", **facts, attempt=context.job.attempt, error="cut: time limit, stop or lost lease"
            )
            raise
        log.info("Email job completed", **facts, messageId=message_id)
        return EmailJobResult(success=True, message_id=message_id).as_json()

    async def _or_snooze(self, mail_id: UUID, context: TaskContext) -> str:
        """The ledger's absence is not the mail's failure: it costs no attempt (invariant F)."""
        try:
            return await self._attempt(mail_id, context)
        except LEDGER_ERRORS as error:
            if not may_pass(error):
                raise
            raise Snooze(f"the ledger does not answer: {error}", after_s=_AGAIN_S) from error

    async def _attempt(self, mail_id: UUID, context: TaskContext) -> str:
        job = context.job
        mail = await self._attempts.start(mail_id, job.fence, job.attempt)
        if mail is None:
            raise Fail(f"the mail {mail_id} does not exist any more")
        if not mail.pending:  # all were answered already: a crash came between the server's answer and the job's end
            return _finished(mail)
        if mail.simulate is not None:
            return await self._simulate(mail, mail.simulate, job.fence)
        try:
            data, envelope_from = await self._build(mail), split_name(mail.from_address)[1]
        except ValueError as error:
            return await self._unsendable(mail, job.fence, str(error))
        if not context.still_held():
            await self._record(mail, job.fence, NOTHING_SENT)
            raise Snooze("its lease ran out before anything was sent", after_s=_AGAIN_S)
        out = asyncio.Event()  # the message itself is on its way
        context.log(f"{len(data):,} bytes for {_recipients(len(mail.pending))}, by {self._transport.name}")
        await context.progress(None, f"connects, and names {_recipients(len(mail.pending))}")

        def on_its_way() -> None:
            out.set()
            context.log("the server takes the message")

        try:
            delivery = await self._transport.send(envelope_from, mail.pending, data, on_its_way)
        except SmtpFailure as failure:
            context.irrevocable()
            return await self._failed(mail, job.fence, failure)
        except asyncio.CancelledError:
            if not out.is_set():  # else nobody knows, and the open row says so to the next attempt
                context.irrevocable()
                await self._record(mail, job.fence, NOTHING_SENT)
            raise
        context.irrevocable()  # the answer must reach the ledger, however long that takes
        context.log(f"answered: {delivery.code} {delivery.reply}")
        answers = [_accepted_or_not(address, reply) for address, reply in delivery.recipients.items()]
        accepted = sum(answer.status == "accepted" for answer in answers)
        await context.progress(100, f"accepted for {accepted} of {_recipients(len(answers))}")
        return await self._settle(mail, job.fence, delivery.code, delivery.reply, answers)

    async def _build(self, mail: Outgoing) -> bytes:
        return message.build(
            message.Mail(
                message_id=mail.message_id,
                from_address=mail.from_address,
                to=mail.to_addresses,
                cc=mail.cc_addresses,
                reply_to=mail.reply_to,
                subject=mail.subject,
                date=mail.created_at,
                html=mail.html,
                text=mail.text,
                headers=mail.headers,
                attachments=await self._attempts.attachments(mail.id) if mail.has_attachments else [],
            )
        )

    async def _settle(
        self, mail: Outgoing, fence: int, code: int | None, reply: str | None, answers: list[RecipientAnswer]
    ) -> str:
        """Record each recipient's answer at once, then say what they mean for the job."""
        statuses = {answer.status for answer in answers}
        if "pending" in statuses:
            outcome = "retry"
        else:
            outcome = "sent" if "accepted" in statuses or mail.sent_at is not None else "rejected"
        await self._record(mail, fence, Answer(outcome=outcome, code=code, reply=reply, recipients=answers))
        if outcome == "retry":
            later = [answer for answer in answers if answer.status == "pending"]
            raise Retry(f"{len(later)} of {len(answers)} recipients were put off: {_words(later[0])}")
        if outcome == "rejected":
            raise Fail(f"every recipient was refused: {_words(answers[0])}")
        return mail.message_id

    async def _failed(self, mail: Outgoing, fence: int, failure: SmtpFailure) -> str:
        """The server took it for nobody, or nobody knows. Returns only if an earlier attempt reached somebody."""
        if failure.verdict is Outcome.REJECT:
            answers = [_refused(address, failure) for address in mail.pending]
            return await self._settle(mail, fence, failure.code, failure.reply, answers)
        outcome = {Outcome.PAUSE: "paused", Outcome.UNKNOWN: "unknown"}.get(failure.verdict, "retry")
        # What was said to RCPT is final where it was a refusal; the others were not sent to.
        refused = [
            _accepted_or_not(address, reply)
            for address, reply in failure.recipients.items()
            if reply.verdict is Outcome.REJECT
        ]
        reply = failure.reply or str(failure)
        await self._record(mail, fence, Answer(outcome=outcome, code=failure.code, reply=reply, recipients=refused))
        if failure.verdict is Outcome.PAUSE:
            raise Snooze(str(failure), after_s=failure.pause_s or REST_S, pause_queue=True)
        raise Retry(str(failure), uncertain=failure.verdict is Outcome.UNKNOWN)

    async def _unsendable(self, mail: Outgoing, fence: int, reason: str) -> str:
        """No message can be made of this mail: no attempt will change that."""
        await self._record(mail, fence, Answer(outcome="rejected", reply=reason))
        raise Fail(f"the message cannot be built: {reason}")

    async def _record(self, mail: Outgoing, fence: int, answer: Answer) -> None:
        """While the ledger is away the answer is kept here and told again: forgetting it would send the mail twice."""
        while True:
            try:
                await self._attempts.record(mail.id, fence, answer)
                break
            except LEDGER_ERRORS as error:
                if not may_pass(error):
                    raise
                log.warning("answer_waits_for_ledger", queueId=str(mail.id), outcome=answer.outcome, error=str(error))
                await asyncio.sleep(_LEDGER_RETRY_S)
        self._count(self._transport.name, answer.outcome)

    async def _simulate(self, mail: Outgoing, outcome: str, fence: int) -> str:
        """No server is asked: the outcome that the mail's ``test`` field names."""
        if outcome == "failed":
            answer = Answer(outcome="rejected", reply="simulated failure")
            await self._attempts.record(mail.id, fence, answer)
            raise Fail("simulated failure")
        await self._attempts.record_simulated(mail.id, fence, outcome)
        return mail.message_id


def _finished(mail: Outgoing) -> str:
    if mail.sent_at is None:
        raise Fail("every recipient was refused in an earlier attempt")
    return mail.message_id


_RECIPIENT_STATUS = {Outcome.SENT: "accepted", Outcome.REJECT: "rejected"}


def _accepted_or_not(address: str, reply: RecipientReply) -> RecipientAnswer:
    status = _RECIPIENT_STATUS.get(reply.verdict, "pending")
    return RecipientAnswer(address=address, status=status, code=reply.code, reply=reply.reply)


def _refused(address: str, failure: SmtpFailure) -> RecipientAnswer:
    """The recipient's own refusal if it had one, else the whole mail's."""
    own = failure.recipients.get(address)
    if own is not None and own.verdict is Outcome.REJECT:
        return _accepted_or_not(address, own)
    return RecipientAnswer(address=address, status="rejected", code=failure.code, reply=failure.reply or str(failure))


def _recipients(number: int) -> str:
    return "1 recipient" if number == 1 else f"{number} recipients"


def _words(answer: RecipientAnswer) -> str:
    return " ".join(str(word) for word in (answer.code, answer.reply) if word)
