"""The SMTP transport: a pool of reused connections to one server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from gateway.infra.tracing import Attributes, span
from gateway.services.email.smtp_answers import Cause, Delivery, Outcome, Phase, SmtpFailure, classify_cause
from gateway.services.email.smtp_connection import open_session
from gateway.services.email.smtp_session import Envelope, SmtpSession
from gateway.services.email.smtp_settings import SmtpSettings, TlsMode

__all__ = ["PoolStatistics", "SmtpPool", "SmtpSettings", "TlsMode"]

_OUT_OF_STEP = 503  # "bad sequence of commands": the session is not where we think it is


def _ignored() -> None:
    return None


class PoolStatistics(msgspec.Struct, frozen=True):
    """Connections now: ``open`` = busy + idle; ``waiting`` mails have none yet."""

    open: int
    busy: int
    idle: int
    waiting: int


class SmtpPool:
    """A component. Opens connections when mails come, at most ``max_connections``, and gives the one used last first,
    so that surplus ones fall idle and are closed.

    A connection is replaced after ``max_mails_per_connection`` mails or ``max_age_s``, closed when idle for ``idle_s``,
    and never used again after 421, a timeout, a cut or anything unexpected.
    """

    name = "smtp"

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.max_connections)
        self._waiting = 0
        self._idle: dict[SmtpSession, asyncio.TimerHandle] = {}  # in order of return; the timer closes it
        self._busy: set[SmtpSession] = set()
        self._leaving: set[asyncio.Task[None]] = set()  # QUIT on its way
        self._context: ssl.SSLContext | None = None
        self._running = False

    async def start(self) -> None:
        """Reads the certificates; connects to nobody yet. Raises OSError if ``ca_file`` cannot be read."""
        if self._settings.tls != "none" and self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context, cafile=self._settings.ca_file)
        self._running = True

    async def stop(self) -> None:
        """Takes leave on idle connections, cuts busy ones."""
        self._running = False
        for connection in list(self._idle):
            self._leave(connection)
        for connection in self._busy:
            connection.abort()
        await asyncio.gather(*self._leaving)

    @property
    def address(self) -> str:
        """``host:port``, for people."""
        return f"{self._settings.host}:{self._settings.port}"

    @property
    def statistics(self) -> PoolStatistics:
        idle = sum(connection.is_open for connection in self._idle)
        busy = len(self._busy)
        return PoolStatistics(open=idle + busy, busy=busy, idle=idle, waiting=self._waiting)

    async def check(self) -> None:
        """Connect, secure and log in as a mail would, then leave. Raises SmtpFailure."""
        connection = await open_session(self._settings, self._context)
        await connection.quit()

    async def send(
        self, envelope_from: str, recipients: Sequence[str], data: bytes, on_data: Callable[[], None] = _ignored
    ) -> Delivery:
        """Hand ``data`` (see ``message.build``) to the server for these bare addresses.

        Returns when it was accepted for at least one; raises SmtpFailure otherwise. A reused connection that turns out
        dead before anything was accepted on it is replaced once, which is no attempt: the server has seen no mail.
        Cancelling cuts the connection; unless ``on_data`` has been called by then, the server has no message.
        """
        if not self._running:
            raise RuntimeError("the SMTP pool is not running")
        mail = Envelope(envelope_from, recipients, data, on_data)
        server: Attributes = {"server.address": self._settings.host, "server.port": self._settings.port}
        with span("SMTP send", "client", server) as step:
            delivery = await self._deliver(mail)
            step.note({"smtp.response.code": delivery.code})
        return delivery

    async def _deliver(self, mail: Envelope) -> Delivery:
        async with self._slot():
            connection = await self._reusable()
            if connection is not None:
                try:
                    return await self._send_on(connection, mail)
                except SmtpFailure as failure:
                    if not _found_dead(failure):
                        raise
            connection = await open_session(self._settings, self._context)
            return await self._send_on(connection, mail)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots.locked() and self._waiting >= self._settings.max_waiters:
            raise SmtpFailure(classify_cause(Phase.CONNECT, Cause.BUSY), Phase.CONNECT)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _reusable(self) -> SmtpSession | None:
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if not connection.is_open:
                continue
            if self._worn(connection):
                self._leave(connection)
                continue
            doubtful = connection.half_done or self._now() - connection.used_at >= self._settings.check_idle_s
            if not doubtful or await self._answers(connection):
                return connection
        return None

    async def _answers(self, connection: SmtpSession) -> bool:
        alive = False
        self._busy.add(connection)
        try:
            alive = await connection.reset()
        finally:
            self._busy.discard(connection)
            if not alive:
                connection.abort()
        return alive

    async def _send_on(self, connection: SmtpSession, mail: Envelope) -> Delivery:
        in_step = False
        self._busy.add(connection)
        try:
            delivery = await connection.send(mail)
            in_step = True
            return delivery
        except SmtpFailure as failure:
            in_step = _is_plain_refusal(failure)
            raise
        finally:
            self._busy.discard(connection)
            if in_step:
                self._give_back(connection)
            else:
                connection.abort()

    def _give_back(self, connection: SmtpSession) -> None:
        connection.used_at = self._now()
        if not connection.is_open or not self._running or self._worn(connection):
            self._leave(connection)
            return
        timer = asyncio.get_running_loop().call_later(self._settings.idle_s, self._leave, connection)
        self._idle[connection] = timer

    def _leave(self, connection: SmtpSession) -> None:
        timer = self._idle.pop(connection, None)
        if timer is not None:
            timer.cancel()
        task = asyncio.get_running_loop().create_task(connection.quit())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _worn(self, connection: SmtpSession) -> bool:
        age = self._now() - connection.opened_at
        return connection.mails >= self._settings.max_mails_per_connection or age >= self._settings.max_age_s

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _found_dead(failure: SmtpFailure) -> bool:
    """Cut, silent, or closing (421: idle too long, enough mails on this connection) before the envelope was begun."""
    return failure.phase is Phase.MAIL and failure.code in (None, 421)


def _is_plain_refusal(failure: SmtpFailure) -> bool:
    refused = failure.verdict in (Outcome.REJECT, Outcome.RETRY)
    return refused and failure.code is not None and failure.code >= 400 and failure.code != _OUT_OF_STEP
