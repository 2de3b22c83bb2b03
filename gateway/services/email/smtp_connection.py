"""Opening an SMTP connection, step by step, so that each failure is known with its phase.

``aiosmtplib`` connects, secures and logs in. Its protocol reads one reply at a time, so the mails are sent by
``smtp_session``, which takes the connection over.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import aiosmtplib

from gateway.services.email.smtp_answers import Cause, Phase, SmtpFailure, classify, classify_cause
from gateway.services.email.smtp_dialogue import Dialogue
from gateway.services.email.smtp_session import SmtpSession
from gateway.services.email.smtp_settings import SmtpSettings

_NO_ESMTP = (500, 502, 504)  # the answers of a server that knows HELO alone (RFC 5321, 4.1.1.1)
_NOT_THIS_MECHANISM = 504  # RFC 4954, 4: the next mechanism may do


async def open_session(settings: SmtpSettings, context: ssl.SSLContext | None) -> SmtpSession:
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
    session = None
    try:
        with _phase(Phase.CONNECT):
            await client.connect(timeout=settings.connect_timeout_s)
        await _greet(client)
        await _secure(client, settings)
        await _log_in(client, settings)
        if client.transport is None:
            raise _without_answer(Phase.EHLO, Cause.DISCONNECTED)
        session = SmtpSession(Dialogue(client.transport), settings, client.esmtp_extensions)
    finally:
        if session is None:
            _abort(client)
    return session


async def _greet(client: aiosmtplib.SMTP) -> None:
    with _phase(Phase.EHLO):
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if error.code not in _NO_ESMTP:
                raise
            await client.helo()


async def _secure(client: aiosmtplib.SMTP, settings: SmtpSettings) -> None:
    if settings.tls not in ("starttls", "auto"):
        return
    if not client.supports_extension("starttls"):
        if settings.tls == "starttls":
            raise _without_answer(Phase.STARTTLS, Cause.NOT_OFFERED, "STARTTLS")
        return
    with _phase(Phase.STARTTLS):
        await client.starttls()
    await _greet(client)


async def _log_in(client: aiosmtplib.SMTP, settings: SmtpSettings) -> None:
    if settings.user is None:
        return
    secure = client.get_transport_info("sslcontext") is not None
    if not secure and settings.tls == "auto" and not _is_local(client):
        raise _without_answer(Phase.AUTH, Cause.NOT_OFFERED, "TLS, without which the password is not sent")
    # CRAM-MD5 last where TLS hides the password already: it forces servers to keep passwords readable.
    order = ("plain", "login", "cram-md5") if secure else ("cram-md5", "plain", "login")
    offered = [each for each in order if each in client.server_auth_methods]
    if not offered:
        raise _without_answer(Phase.AUTH, Cause.NOT_OFFERED, "AUTH with PLAIN, LOGIN or CRAM-MD5")
    for at, mechanism in enumerate(offered):
        with _phase(Phase.AUTH):
            try:
                await _authenticate(client, mechanism, settings.user, settings.password or "")
            except aiosmtplib.SMTPAuthenticationError as error:
                if error.code != _NOT_THIS_MECHANISM or at == len(offered) - 1:
                    raise
            else:
                return


async def _authenticate(client: aiosmtplib.SMTP, mechanism: str, user: str, password: str) -> None:
    if mechanism == "plain":
        await client.auth_plain(user, password)
    elif mechanism == "login":
        await client.auth_login(user, password)
    else:
        await client.auth_crammd5(user, password)


@contextmanager
def _phase(phase: Phase) -> Iterator[None]:
    """Turn what the client raises inside into SmtpFailure of this phase."""
    try:
        yield
    except aiosmtplib.SMTPResponseException as error:
        if phase is Phase.CONNECT:
            phase = Phase.GREETING
        if error.code < 0:
            raise _without_answer(phase, Cause.MALFORMED, error.message[:200]) from error
        raise SmtpFailure(classify(phase, error.code, error.message), phase, error.code, error.message) from error
    except (TimeoutError, aiosmtplib.SMTPTimeoutError) as error:
        raise _without_answer(phase, Cause.TIMEOUT) from error
    except (ssl.SSLError, aiosmtplib.SMTPConnectError) as error:
        untrusted = error if isinstance(error, ssl.SSLError) else error.__cause__
        if isinstance(untrusted, ssl.SSLError):
            raise _without_answer(phase, Cause.TLS, str(untrusted)) from error
        raise _without_answer(phase, Cause.UNREACHABLE, str(error)) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise _without_answer(phase, Cause.DISCONNECTED) from error


def _without_answer(phase: Phase, cause: Cause, detail: str = "") -> SmtpFailure:
    return SmtpFailure(classify_cause(phase, cause, detail), phase)


def _abort(client: aiosmtplib.SMTP) -> None:
    if client.transport is not None:
        cast(asyncio.WriteTransport, client.transport).abort()  # uvloop's is one, though it does not inherit from it
    client.close()


def _is_local(client: aiosmtplib.SMTP) -> bool:
    peer = client.get_transport_info("peername")
    return isinstance(peer, tuple) and (str(peer[0]).startswith("127.") or peer[0] == "::1")


def _own_name() -> str:
    """For EHLO; an address literal if there is no full name (RFC 5321, 4.1.4). Not ``getfqdn``: it asks DNS, which can
    take seconds in a container."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() and not any(c.isspace() for c in name) else "[127.0.0.1]"
