"""The development mail server: catches every mail, sends none, and shows them under ``/dev/inbox``.

Imported in development alone: ``aiosmtpd`` is not among the product's dependencies. The inbox asks for no token, which
is right only because ``gateway dev`` listens on loopback.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session
from litestar import delete, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from gateway.access import PUBLIC
from gateway.problem import Problem
from gateway.services.email.caught import Caught, CaughtSummary, NotReleased, Released, read_caught, read_summary
from gateway.services.email.smtp import SmtpPool
from gateway.services.email.smtp_answers import SmtpFailure

INBOX_PATH = "/dev/inbox"
KEPT_MAILS = 1000
KEPT_BYTES = 256 * 1024 * 1024  # so that a loop of large attachments does not eat the developer's memory

_SIZE_LIMIT = 32 * 1024 * 1024  # bytes of one mail; above the API's 10 MB of attachments in base64

log = structlog.get_logger(__name__)
logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's own logger: a line for every command otherwise


class _Protocol(SMTP):
    """One client. Registered, so that stopping can close it; the library's controller would need a thread for that."""

    def __init__(self, sandbox: Sandbox, clients: set[_Protocol]) -> None:
        super().__init__(
            sandbox,
            data_size_limit=_SIZE_LIMIT,
            hostname="sandbox.localhost",
            ident="gateway sandbox",
            loop=asyncio.get_running_loop(),
        )
        self._clients = clients
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._clients.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._clients.discard(self)
        self.closed.set()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class _Kept(NamedTuple):
    summary: CaughtSummary
    raw: bytes
    sender: str  # of the envelope


class Sandbox:
    """A component: an SMTP server on loopback and the mails it caught, newest kept (``KEPT_MAILS``, ``KEPT_BYTES``).

    ``port`` 0 takes a free one; it is known after ``start``. ``outlet``: to whom people may release caught mails.
    """

    name = "sandbox"

    def __init__(self, port: int = 0, host: str = "127.0.0.1", outlet: SmtpPool | None = None) -> None:
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None
        self._clients: set[_Protocol] = set()
        self._outlet = outlet
        self._released: dict[str, Released] = {}
        self._releasing: set[str] = set()
        self._mails: dict[str, _Kept] = {}  # oldest first
        self._bytes = 0
        self._numbers = count(1)

    async def start(self) -> None:
        """Raises OSError if the port is taken."""
        if self._outlet is not None:
            await self._outlet.start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Protocol(self, self._clients), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        clients = list(self._clients)
        for client in clients:
            client.close()
        for client in clients:
            await client.closed.wait()
        if self._outlet is not None:
            await self._outlet.stop()

    @property
    def server(self) -> str | None:
        return self._outlet.address if self._outlet is not None else None

    def messages(self) -> list[CaughtSummary]:
        """Newest first."""
        return [kept.summary for kept in reversed(self._mails.values())]

    def get(self, mail_id: str) -> Caught:
        """Raises KeyError."""
        kept = self._mails[mail_id]
        return read_caught(kept.summary, kept.raw)

    def source(self, mail_id: str) -> bytes:
        """As it came. Raises KeyError."""
        return self._mails[mail_id].raw

    def released(self, mail_id: str) -> Released | None:
        return self._released.get(mail_id)

    async def release(self, mail_id: str) -> Released:
        """Send a mail on, once, to the recipients of its envelope. Raises KeyError and ``NotReleased``."""
        kept = self._mails[mail_id]
        if self._outlet is None:
            raise NotReleased("there is no server to release it to")
        if mail_id in self._released or mail_id in self._releasing:
            raise NotReleased("it was released before, or is just being")
        self._releasing.add(mail_id)
        try:
            delivery = await self._outlet.send(kept.sender, kept.summary.to, kept.raw)
        except SmtpFailure as failure:
            raise NotReleased(f"{self.server} does not take it: {failure}") from failure
        finally:
            self._releasing.discard(mail_id)
        released = Released(
            at=datetime.now(UTC), server=self._outlet.address, reply=f"{delivery.code} {delivery.reply}"
        )
        self._released[mail_id] = released
        log.info("caught mail released", id=mail_id, to=kept.summary.to, server=released.server)
        return released

    def clear(self) -> None:
        self._mails.clear()
        self._released.clear()
        self._bytes = 0

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Called by aiosmtpd for each message; the return value is the answer to the client."""
        raw = envelope.content if isinstance(envelope.content, bytes) else b""
        number, sender = str(next(self._numbers)), envelope.mail_from or ""
        summary = read_summary(number, raw, sender, envelope.rcpt_tos, datetime.now(UTC))
        self._keep(_Kept(summary, raw, sender))
        log.info("mail caught by the inbox", id=summary.id, to=summary.to, path=f"{INBOX_PATH}/{summary.id}")
        return f"250 2.0.0 caught as {summary.id}"

    def _keep(self, kept: _Kept) -> None:
        self._mails[kept.summary.id] = kept
        self._bytes += len(kept.raw)
        while len(self._mails) > KEPT_MAILS or (self._bytes > KEPT_BYTES and len(self._mails) > 1):
            dropped = self._mails.pop(next(iter(self._mails)))
            self._released.pop(dropped.summary.id, None)
            self._bytes -= len(dropped.raw)


def inbox_routes(sandbox: Sandbox) -> list[HTTPRouteHandler]:
    """The inbox over HTTP: list, one, empty. Answers are plain JSON, without the API's envelope."""

    @get(INBOX_PATH, opt={"access": PUBLIC}, sync_to_thread=False, summary="Mails caught in development, newest first")
    def list_caught() -> list[CaughtSummary]:
        return sandbox.messages()

    @get(f"{INBOX_PATH}/{{mail_id:str}}", opt={"access": PUBLIC}, sync_to_thread=False, summary="One caught mail")
    def show_caught(mail_id: FromPath[str]) -> Caught:
        try:
            return sandbox.get(mail_id)
        except KeyError:
            raise Problem(
                404, "not_found", f"The inbox has no mail {mail_id!r}; GET {INBOX_PATH} lists them."
            ) from None

    @delete(INBOX_PATH, opt={"access": PUBLIC}, sync_to_thread=False, summary="Empty the inbox")
    def clear_caught() -> None:
        sandbox.clear()

    return [list_caught, show_caught, clear_caught]
