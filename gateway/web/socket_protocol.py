"""The server's WebSocket protocol, which also lets go of a client that does not read."""

from __future__ import annotations

from typing import Final

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

CLOSE_S: Final = 2.0  # for the client's half of the closing handshake
MESSAGE_MAX_BYTES: Final = 1_000_000  # beyond it the connection is closed with 1009; much smaller ones are refused


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's would wait for room in the buffer of a client that never makes any, also to say that it is closed."""

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "websocket.close" and self.handshake_complete:
            self.writable.set()
            self.loop.call_later(CLOSE_S, self.transport.abort)
        await super().send(message)
