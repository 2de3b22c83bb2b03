"""A lean WebSocket client (RFC 6455): one task for each connection, no library, so that the client is not measured."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Hear = Callable[[dict[str, Any], float], None]
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Socket:
    """``hear`` is called with each message of a channel and the time (seconds since 1970) at which it came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hear: Hear) -> None:
        self._reader = reader
        self._writer = writer
        self._hear = hear
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, port: int, token: str, channel: str, hear: Hear, since: int | None = None) -> Socket:
        """Returns when it listens."""
        socket = cls(*await asyncio.open_connection("127.0.0.1", port), hear)
        socket._writer.write(
            f"GET /api/ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await socket._reader.readuntil(b"\r\n\r\n")
        socket._say({"action": "auth", "token": token})
        fields = {} if since is None else {"since": since}
        socket._say({"action": "subscribe", "channel": channel, **fields})
        while (message := await socket._next()) and message["type"] != "subscribed":
            if message["type"] == "error":
                raise RuntimeError(str(message))
        socket._reading = asyncio.create_task(socket._read())
        return socket

    def _say(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        # A mask of zeros is one too: it leaves the text as it is.
        head = (
            struct.pack("!BB", 0x81, 0x80 | len(body))
            if len(body) < 126
            else struct.pack("!BBH", 0x81, 0xFE, len(body))
        )
        self._writer.write(head + b"\0\0\0\0" + body)

    async def _next(self) -> dict[str, Any]:
        while True:
            first, length = await self._reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            body = await self._reader.readexactly(length)
            if first & 0x0F == 9:  # a ping: without its pong the connection would be closed
                self._writer.write(struct.pack("!BB", 0x8A, 0x80 | length) + b"\0\0\0\0" + body)
            elif first & 0x0F == 8:
                raise ConnectionError(body[2:].decode())
            else:
                message: dict[str, Any] = json.loads(body)
                return message

    async def _read(self) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                message = await self._next()
                self._hear(message, time.time())

    async def lost(self) -> None:
        """Returns when the other side is gone."""
        assert self._reading is not None
        await asyncio.wait([self._reading])

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._writer.close()
