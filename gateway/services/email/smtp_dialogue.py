"""Commands out, replies in (RFC 5321, 4.2), in groups where the server allows it (RFC 2920). Knows no mail."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast

from gateway.services.email.smtp_answers import Cause

_LINE_MAX = 8192  # bytes; RFC 5321 (4.5.3.1.5) allows 512
_REPLY_MAX = 4 * _LINE_MAX  # all lines of one reply, so that a server without an end fills no memory


class Reply(NamedTuple):
    """``text``: the lines without their codes, joined by newlines; what is no UTF-8, or NUL, is replaced."""

    code: int
    text: str


class NoReply(Exception):
    """Why the next reply did not come. ``replies``: those of the group that did."""

    def __init__(self, cause: Cause, detail: str, replies: list[Reply]) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail
        self.replies = replies


class Dialogue(asyncio.Protocol):
    """Takes a connection over from whoever greeted and logged in. One ``ask`` at a time.

    Whatever the server says unasked closes the connection: it would be taken for the answer to the next command.
    """

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # it is one, though uvloop's does not inherit from it
        self._lost = transport.is_closing()
        self._buffer = bytearray()
        self._replies: list[Reply] = []
        self._lines: list[bytes] = []  # of a reply that goes on
        self._wanted = 0
        self._complete: asyncio.Future[None] | None = None
        self._timeout_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return not (self._lost or self._transport.is_closing())

    @property
    def all_written(self) -> bool:
        return self._lost or self._transport.get_write_buffer_size() == 0

    def abort(self) -> None:
        """Close at once. Bytes not yet written are dropped."""
        self._transport.abort()

    async def ask(self, words: bytes, replies: int, timeout_s: float) -> list[Reply]:
        """Write all of ``words``, or nothing, and return that many replies. ``timeout_s``: for each of them.

        Raises NoReply; after a TIMEOUT the connection is out of step.
        """
        if not self.is_open:
            raise NoReply(Cause.DISCONNECTED, "", [])
        loop = asyncio.get_running_loop()
        self._replies, self._wanted, self._timeout_s = [], replies, timeout_s
        self._complete = loop.create_future()
        self._timer = loop.call_later(timeout_s, self._fail, Cause.TIMEOUT)
        self._transport.write(words)
        try:
            await self._complete
        finally:
            self._timer.cancel()
            self._complete = None
        return self._replies

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        if self._complete is None or self._complete.done():
            self.abort()
            return
        self._buffer += data
        before = len(self._replies)
        try:
            self._read()
        except ValueError as error:
            self._fail(Cause.MALFORMED, str(error))
            return
        if len(self._replies) == self._wanted:
            if self._buffer or self._lines:
                self.abort()
            self._complete.set_result(None)
        elif len(self._replies) > before:
            self._restart_timer()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._fail(Cause.DISCONNECTED)

    def _read(self) -> None:
        """Move whole lines from the buffer, up to the last reply that was asked for. Raises ValueError."""
        while len(self._replies) < self._wanted and (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            code = line[:3]
            if not code.isdigit() or len(code) < 3:
                raise ValueError(f"not a reply: {line[:200]!r}")
            self._lines.append(line[4:].strip())
            if line[3:4] != b"-":
                text = b"\n".join(self._lines).decode("utf-8", "replace").replace("\0", "\ufffd")
                self._lines = []
                self._replies.append(Reply(int(code), text))
        if len(self._buffer) > _LINE_MAX or sum(map(len, self._lines)) > _REPLY_MAX:
            raise ValueError("the reply has no end")

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._fail, Cause.TIMEOUT)

    def _fail(self, cause: Cause, detail: str = "") -> None:
        if self._complete is not None and not self._complete.done():
            self._complete.set_exception(NoReply(cause, detail, self._replies))
