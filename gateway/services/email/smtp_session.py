"""Mails over an open SMTP connection, command by command, so that each failure is known with its phase."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.services.email.smtp_answers import (
    Cause,
    Delivery,
    Outcome,
    Phase,
    RecipientReply,
    SmtpFailure,
    Verdict,
    classify,
    classify_cause,
)
from gateway.services.email.smtp_dialogue import Dialogue, NoReply
from gateway.services.email.smtp_settings import SmtpSettings

_QUIT_TIMEOUT_S = 2.0  # a farewell is a courtesy; nothing waits longer for it
_GO_ON = 354
_RESET_DONE = 250
_NO_PATH = re.compile(r"[\x00-\x1f\x7f<>]")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and where it goes. ``data`` has CRLF line ends only. ``on_data`` is called right before the message
    itself goes out: from then on the server may have taken it."""

    sender: str
    recipients: Sequence[str]
    data: bytes
    on_data: Callable[[], None]


class _Step(NamedTuple):
    """One command, and the recipient that a RCPT is for."""

    phase: Phase
    words: str
    recipient: str = ""


class SmtpSession:
    """A connection that is greeted and logged in. Not for concurrent use: its owner sends one mail at a time.

    ``extensions``: what the server offers, in lower case.
    """

    def __init__(self, dialogue: Dialogue, settings: SmtpSettings, extensions: Container[str]) -> None:
        self._dialogue = dialogue
        self._settings = settings
        self._announces_size = "size" in extensions
        self._pipelining = "pipelining" in extensions
        self.opened_at = asyncio.get_running_loop().time()
        self.used_at = self.opened_at  # written by the pool
        self.mails = 0
        self.half_done = False  # a refused mail's envelope may still be open at the server; RSET closes it

    @property
    def is_open(self) -> bool:
        return self._dialogue.is_open

    async def send(self, mail: Envelope) -> Delivery:
        """One mail: MAIL, RCPT for each, DATA, then the message.

        Raises SmtpFailure, and ValueError on bare CR or LF (RFC 5321, 2.3.8: servers that take them for line ends can
        be tricked into a second mail).
        """
        wire, steps = _transparent(mail.data), self._steps(mail)
        self.half_done = True
        replies: dict[str, RecipientReply] = {}
        # All in one group (RFC 2920) or one by one; the message itself never goes out before 354 was read.
        for group in [steps] if self._pipelining else [[step] for step in steps]:
            if group[0].phase is Phase.DATA:
                _refuse_if_nobody(replies)
            await self._take(group, replies)
        mail.on_data()
        code, reply = await self._finish_data(wire, replies)
        self.mails, self.half_done = self.mails + 1, False
        return Delivery(code=code, reply=reply, recipients=replies)

    async def reset(self) -> bool:
        """RSET: whether the server is still there and ready for a new mail."""
        try:
            ((code, _),) = await self._dialogue.ask(b"RSET\r\n", 1, self._settings.command_timeout_s)
        except NoReply:
            return False
        self.half_done = False
        return self.is_open and code == _RESET_DONE

    async def quit(self) -> None:
        """Take leave if the server listens, then close; never raises."""
        try:
            if self.is_open:
                await self._dialogue.ask(b"QUIT\r\n", 1, _QUIT_TIMEOUT_S)
        except NoReply:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once. Bytes not yet written are dropped: a cancelled mail must not leave after all."""
        self._dialogue.abort()

    def _steps(self, mail: Envelope) -> list[_Step]:
        size = f" SIZE={len(mail.data)}" if self._announces_size else ""
        return [
            _Step(Phase.MAIL, f"MAIL FROM:<{_path(mail.sender)}>{size}\r\n"),
            *(_Step(Phase.RCPT, f"RCPT TO:<{_path(to)}>\r\n", to) for to in dict.fromkeys(mail.recipients)),
            _Step(Phase.DATA, "DATA\r\n"),
        ]

    async def _take(self, group: list[_Step], replies: dict[str, RecipientReply]) -> None:
        """Say a group of commands and judge each answer, in their order; fills ``replies``. Raises SmtpFailure."""
        words = "".join([step.words for step in group]).encode("ascii")
        silence: NoReply | None = None
        try:
            said = await self._dialogue.ask(words, len(group), self._settings.command_timeout_s)
        except NoReply as failure:
            silence, said = failure, failure.replies
        try:
            for step, (code, text) in zip(group, said, strict=False):
                _judge(step, code, text, replies)
        except SmtpFailure:
            if len(said) == len(group) and said[-1].code == _GO_ON:
                self.abort()  # it waits for a message that it shall not get: no other way leads out of DATA
            raise
        if silence is not None:
            phase = group[len(said)].phase
            raise _without_answer(phase, silence.cause, silence.detail, replies) from silence

    async def _finish_data(self, wire: bytes, replies: dict[str, RecipientReply]) -> tuple[int, str]:
        if not self.is_open:  # not a byte of the message went out
            raise _without_answer(Phase.DATA, Cause.DISCONNECTED, "", replies)
        try:
            ((code, reply),) = await self._dialogue.ask(wire, 1, self._settings.data_timeout_s)
        except NoReply as silence:
            phase = Phase.END_OF_DATA
            raise _without_answer(phase, silence.cause, silence.detail, replies) from silence
        if not self._dialogue.all_written:
            self.abort()  # answered before the final dot was out: the rest would be read as commands
        judged = classify(Phase.END_OF_DATA, code, reply)
        if judged.outcome is not Outcome.SENT:
            raise SmtpFailure(judged, Phase.END_OF_DATA, code, reply, _refused(replies))
        return code, reply


def _judge(step: _Step, code: int, text: str, replies: dict[str, RecipientReply]) -> None:
    """Keep a recipient's answer in ``replies``. Raises SmtpFailure where the answer ends the mail."""
    if step.phase is Phase.DATA:
        _refuse_if_nobody(replies)
    judged = classify(step.phase, code, text)
    if step.phase is Phase.RCPT and judged.outcome is not Outcome.PAUSE:
        replies[step.recipient] = RecipientReply(code, text, judged.outcome)
    elif judged.outcome is not Outcome.SENT:
        raise SmtpFailure(judged, step.phase, code, text, _refused(replies))


def _path(address: str) -> str:
    """A bare address as it may stand between angle brackets. Raises ValueError."""
    if not address.isascii() or _NO_PATH.search(address):
        raise ValueError(f"{address[:80]!r} cannot be said to an SMTP server")
    return address


def _without_answer(phase: Phase, cause: Cause, detail: str, replies: dict[str, RecipientReply]) -> SmtpFailure:
    return SmtpFailure(classify_cause(phase, cause, detail), phase, recipients=_refused(replies))


def _refused(replies: dict[str, RecipientReply]) -> dict[str, RecipientReply]:
    return {address: reply for address, reply in replies.items() if reply.verdict is not Outcome.SENT}


def _refuse_if_nobody(replies: dict[str, RecipientReply]) -> None:
    if any(reply.verdict is Outcome.SENT for reply in replies.values()):
        return
    # One that may be accepted later keeps the mail alive; the permanent refusals stand in ``recipients``.
    last = min(replies.values(), key=lambda reply: reply.verdict is not Outcome.RETRY)
    judged = Verdict(last.verdict, classify(Phase.RCPT, last.code, last.reply).reason)
    raise SmtpFailure(judged, Phase.RCPT, last.code, last.reply, replies)


def _transparent(data: bytes) -> bytes:
    """The message as it stands on the wire: dots doubled at line starts, and the final dot (RFC 5321, 4.5.2)."""
    ends = data.count(b"\r\n")
    if not ends == data.count(b"\n") == data.count(b"\r"):
        raise ValueError("the message has bare CR or LF characters")
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    if data.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed + (b".\r\n" if data.endswith(b"\r\n") else b"\r\n.\r\n")
