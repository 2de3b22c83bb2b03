"""The development mail server: catches every mail, sends none, and shows them under ``/dev/inbox``.

Imported in development alone: ``aiosmtpd`` is not among the product's dependencies. The inbox asks for no token, which
is right only because ``gateway dev`` listens on loopback.
"""

from __future__ import annotations

import asyncio
import email
import logging
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from itertools import count
from typing import Any

import msgspec
import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session
from litestar import delete, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from gateway.access import PUBLIC
from gateway.problem import Problem

INBOX_PATH = "/dev/inbox"
KEPT_MAILS = 1000
KEPT_BYTES = 256 * 1024 * 1024  # so that a loop of large attachments does not eat the developer's memory

_SIZE_LIMIT = 32 * 1024 * 1024  # bytes of one mail; above the API's 10 MB of attachments in base64

log = structlog.get_logger(__name__)
logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's own logger: a line for every command otherwise


class CaughtSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``to`` has the envelope's recipients, so blind copies are seen; ``from`` is the header's, as readers show it."""

    id: str
    from_: str = msgspec.field(name="from")
    to: list[str]
    subject: str
    received_at: datetime


class Caught(CaughtSummary, frozen=True, kw_only=True, rename="camel"):
    """``headers``: [name, value] in order, decoded. ``raw`` is the source as it came, undecodable bytes replaced."""

    headers: list[tuple[str, str]]
    text: str | None
    html: str | None
    raw: str


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


class Sandbox:
    """A component: an SMTP server on loopback and the mails it caught, newest kept (``KEPT_MAILS``, ``KEPT_BYTES``).

    ``port`` 0 takes a free one; it is known after ``start``.
    """

    name = "sandbox"

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None
        self._clients: set[_Protocol] = set()
        self._mails: dict[str, tuple[CaughtSummary, bytes]] = {}  # oldest first
        self._bytes = 0
        self._numbers = count(1)

    async def start(self) -> None:
        """Raises OSError if the port is taken."""
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

    def messages(self) -> list[CaughtSummary]:
        """Newest first."""
        return [summary for summary, _ in reversed(self._mails.values())]

    def get(self, mail_id: str) -> Caught:
        """Raises KeyError."""
        summary, raw = self._mails[mail_id]
        message = _parse(raw)
        return Caught(
            **{name: getattr(summary, name) for name in CaughtSummary.__struct_fields__},
            headers=[(name, str(value)) for name, value in message.items()],
            text=_body(message, "plain"),
            html=_body(message, "html"),
            raw=raw.decode("utf-8", "replace"),
        )

    def clear(self) -> None:
        self._mails.clear()
        self._bytes = 0

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Called by aiosmtpd for each message; the return value is the answer to the client."""
        raw = envelope.content if isinstance(envelope.content, bytes) else b""
        message = _parse(raw)
        summary = CaughtSummary(
            id=str(next(self._numbers)),
            from_=str(message["from"] or envelope.mail_from),
            to=list(envelope.rcpt_tos),
            subject=str(message["subject"] or ""),
            received_at=datetime.now(UTC),
        )
        self._keep(summary, raw)
        log.info("mail caught by the inbox", id=summary.id, to=summary.to, path=f"{INBOX_PATH}/{summary.id}")
        return f"250 2.0.0 caught as {summary.id}"

    def _keep(self, summary: CaughtSummary, raw: bytes) -> None:
        self._mails[summary.id] = (summary, raw)
        self._bytes += len(raw)
        while len(self._mails) > KEPT_MAILS or (self._bytes > KEPT_BYTES and len(self._mails) > 1):
            _, dropped = self._mails.pop(next(iter(self._mails)))
            self._bytes -= len(dropped)


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


def _parse(raw: bytes) -> EmailMessage:
    return email.message_from_bytes(raw, policy=policy.default)


def _body(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    if part is None:
        return None
    content: Any = part.get_content()
    return str(content).replace("\r\n", "\n")
