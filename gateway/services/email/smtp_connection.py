"""One SMTP connection, command by command, so that each failure is known with its phase.

``aiosmtplib`` speaks the protocol; its ``sendmail`` and ``data`` are not used, because their errors do not tell a cut
before the message from one after it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import aiosmtplib

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
from gateway.services.email.smtp_settings import SmtpSettings

_NO_ESMTP = (500, 502, 504)  # the answers of a server that knows HELO alone (RFC 5321, 4.1.1.1)
_NOT_THIS_MECHANISM = 504  # RFC 4954, 4: the next mechanism may do
_QUIT_TIMEOUT_S = 2.0  # a farewell is a courtesy; nothing waits longer for it


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and where it goes. ``data`` has CRLF line ends only. ``on_data`` is called right before the message
    itself goes out: from then on the server may have taken it."""

    sender: str
    recipients: Sequence[str]
    data: bytes
    on_data: Callable[[], None]


class SmtpConnection:
    """An open session. Not for concurrent use: its owner sends one mail at a time."""

    def __init__(self, client: aiosmtplib.SMTP, settings: SmtpSettings) -> None:
        self._client = client
        self._settings = settings
        self.opened_at = asyncio.get_running_loop().time()
        self.used_at = self.opened_at  # written by the pool
        self.mails = 0
        self.half_done = False  # a refused mail's envelope may still be open at the server; RSET closes it

    @property
    def is_open(self) -> bool:
        return self._client.is_connected

    @classmethod
    async def open(cls, settings: SmtpSettings, context: ssl.SSLContext | None) -> SmtpConnection:
        """Connect, greet, secure, log in. Raises SmtpFailure: nothing was sent."""
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            local_hostname=settings.local_hostname or _own_name(),
            timeout=settings.command_timeout_s,
            use_tls=settings.tls == "tls",
            start_tls=False,  # done below, where its failures have a phase
            tls_context=context,
        )
        connection = cls(client, settings)
        ready = False
        try:
            with _phase(Phase.CONNECT):
                await client.connect(timeout=settings.connect_timeout_s)
            await connection._greet()
            await connection._secure()
            await connection._log_in()
            ready = True
        finally:
            if not ready:
                connection.abort()
        return connection

    async def send(self, mail: Envelope) -> Delivery:
        """One mail: MAIL, RCPT for each, DATA.

        Raises SmtpFailure, and ValueError on bare CR or LF (RFC 5321, 2.3.8: servers that take them for line ends can
        be tricked into a second mail).
        """
        wire = _transparent(mail.data)
        self.half_done = True
        options = [f"SIZE={len(mail.data)}"] if self._client.supports_extension("size") else []
        with _phase(Phase.MAIL):
            await self._client.mail(mail.sender, options=options)
        replies = {address: await self._ask_recipient(address) for address in dict.fromkeys(mail.recipients)}
        _refuse_if_nobody(replies)
        await self._begin_data(replies)
        mail.on_data()
        code, reply = await self._finish_data(wire, replies)
        self.mails, self.half_done = self.mails + 1, False
        return Delivery(code=code, reply=reply, recipients=replies)

    async def reset(self) -> bool:
        """RSET: whether the server is still there and ready for a new mail."""
        try:
            await self._client.rset()
        except (aiosmtplib.SMTPException, OSError):
            return False
        self.half_done = False
        return self.is_open

    async def quit(self) -> None:
        """Take leave if the server listens, then close; never raises."""
        try:
            if self.is_open:
                await self._client.quit(timeout=_QUIT_TIMEOUT_S)
        except (aiosmtplib.SMTPException, OSError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once. Bytes not yet written are dropped: a cancelled mail must not leave after all."""
        if self._client.transport is not None:
            _writing(self._client.transport).abort()
        self._client.close()

    async def _greet(self) -> None:
        with _phase(Phase.EHLO):
            try:
                await self._client.ehlo()
            except aiosmtplib.SMTPHeloError as error:
                if error.code not in _NO_ESMTP:
                    raise
                await self._client.helo()

    async def _secure(self) -> None:
        mode = self._settings.tls
        if mode not in ("starttls", "auto"):
            return
        if not self._client.supports_extension("starttls"):
            if mode == "starttls":
                raise _without_answer(Phase.STARTTLS, Cause.NOT_OFFERED, "STARTTLS")
            return
        with _phase(Phase.STARTTLS):
            await self._client.starttls()
        await self._greet()

    async def _log_in(self) -> None:
        settings = self._settings
        if settings.user is None:
            return
        secure = self._client.get_transport_info("sslcontext") is not None
        if not secure and settings.tls == "auto" and not _is_local(self._client):
            raise _without_answer(Phase.AUTH, Cause.NOT_OFFERED, "TLS, without which the password is not sent")
        # CRAM-MD5 last where TLS hides the password already: it forces servers to keep passwords readable.
        order = ("plain", "login", "cram-md5") if secure else ("cram-md5", "plain", "login")
        offered = [each for each in order if each in self._client.server_auth_methods]
        if not offered:
            raise _without_answer(Phase.AUTH, Cause.NOT_OFFERED, "AUTH with PLAIN, LOGIN or CRAM-MD5")
        for at, mechanism in enumerate(offered):
            with _phase(Phase.AUTH):
                try:
                    await self._authenticate(mechanism, settings.user, settings.password or "")
                except aiosmtplib.SMTPAuthenticationError as error:
                    if error.code != _NOT_THIS_MECHANISM or at == len(offered) - 1:
                        raise
                else:
                    return

    async def _authenticate(self, mechanism: str, user: str, password: str) -> None:
        if mechanism == "plain":
            await self._client.auth_plain(user, password)
        elif mechanism == "login":
            await self._client.auth_login(user, password)
        else:
            await self._client.auth_crammd5(user, password)

    async def _ask_recipient(self, address: str) -> RecipientReply:
        with _phase(Phase.RCPT):
            try:
                response = await self._client.rcpt(address)
            except aiosmtplib.SMTPRecipientRefused as refused:
                response = aiosmtplib.SMTPResponse(refused.code, refused.message)
        judged = classify(Phase.RCPT, response.code, response.message)
        if judged.outcome is Outcome.PAUSE:
            raise SmtpFailure(judged, Phase.RCPT, response.code, response.message)
        return RecipientReply(response.code, response.message, judged.outcome)

    async def _begin_data(self, replies: dict[str, RecipientReply]) -> None:
        with _phase(Phase.DATA, replies):
            code, reply = await self._client.execute_command(b"DATA")
        judged = classify(Phase.DATA, code, reply)
        if judged.outcome is not Outcome.SENT:
            raise SmtpFailure(judged, Phase.DATA, code, reply, _refused(replies))

    async def _finish_data(self, wire: bytes, replies: dict[str, RecipientReply]) -> tuple[int, str]:
        protocol, transport = self._client.protocol, self._client.transport
        with _phase(Phase.DATA, replies):
            if protocol is None:
                raise aiosmtplib.SMTPServerDisconnected("connection lost after the answer to DATA")
            protocol.write(wire)  # raises before the first byte, or takes all of it
        with _phase(Phase.END_OF_DATA, replies):
            code, reply = await protocol.read_response(timeout=self._settings.data_timeout_s)
        if transport is not None and self.is_open and _writing(transport).get_write_buffer_size():
            self.abort()  # answered before the final dot was out: the rest would be read as commands
        judged = classify(Phase.END_OF_DATA, code, reply)
        if judged.outcome is not Outcome.SENT:
            raise SmtpFailure(judged, Phase.END_OF_DATA, code, reply, _refused(replies))
        return code, reply


@contextmanager
def _phase(phase: Phase, replies: dict[str, RecipientReply] | None = None) -> Iterator[None]:
    """Turn what the client raises inside into SmtpFailure of this phase."""
    refused = _refused(replies or {})
    try:
        yield
    except aiosmtplib.SMTPResponseException as error:
        if phase is Phase.CONNECT:
            phase = Phase.GREETING
        if error.code < 0:
            raise _without_answer(phase, Cause.MALFORMED, error.message[:200], refused) from error
        raise SmtpFailure(
            classify(phase, error.code, error.message), phase, error.code, error.message, refused
        ) from error
    except (TimeoutError, aiosmtplib.SMTPTimeoutError) as error:
        raise _without_answer(phase, Cause.TIMEOUT, recipients=refused) from error
    except (ssl.SSLError, aiosmtplib.SMTPConnectError) as error:
        untrusted = error if isinstance(error, ssl.SSLError) else error.__cause__
        if isinstance(untrusted, ssl.SSLError):
            raise _without_answer(phase, Cause.TLS, str(untrusted), refused) from error
        raise _without_answer(phase, Cause.UNREACHABLE, str(error), refused) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise _without_answer(phase, Cause.DISCONNECTED, recipients=refused) from error


def _without_answer(
    phase: Phase, cause: Cause, detail: str = "", recipients: dict[str, RecipientReply] | None = None
) -> SmtpFailure:
    return SmtpFailure(classify_cause(phase, cause, detail), phase, recipients=recipients)


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


def _writing(transport: asyncio.BaseTransport) -> asyncio.WriteTransport:
    return cast(asyncio.WriteTransport, transport)  # it is one, though uvloop's does not inherit from it


def _is_local(client: aiosmtplib.SMTP) -> bool:
    peer = client.get_transport_info("peername")
    return isinstance(peer, tuple) and (str(peer[0]).startswith("127.") or peer[0] == "::1")


def _own_name() -> str:
    """For EHLO; an address literal if there is no full name (RFC 5321, 4.1.4). Not ``getfqdn``: it asks DNS, which can
    take seconds in a container."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() and not any(c.isspace() for c in name) else "[127.0.0.1]"
