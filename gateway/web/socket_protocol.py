"""The server's WebSocket protocol, which also lets go of a client that does not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

CLOSE_S: Final = 2.0  # for the client's half of the closing handshake
MESSAGE_MAX_BYTES: Final = 1_000_000  # beyond it the connection is closed with 1009; much smaller ones are refused
SILENT: Final = 1011  # its reason is SILENT_REASON
SILENT_REASON: Final = "keepalive ping timeout"


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's would wait for room in the buffer of a client that never makes any, also to say that it is closed."""

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "websocket.close" and self.handshake_complete:
            self.writable.set()
            self.loop.call_later(CLOSE_S, self.transport.abort)
        await super().send(message)

    def keepalive_timeout(self) -> None:
        """A client that answered no ping may read nothing either: it is cut, and the application hears why."""
        was_open = not self.close_sent and not self.transport.is_closing()
        super().keepalive_timeout()
        if was_open:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": SILENT, "reason": SILENT_REASON})
            self.loop.call_later(CLOSE_S, self.transport.abort)


def is_silent(disconnect: Mapping[str, Any]) -> bool:
    """Whether this ``websocket.disconnect`` means that the client answered no ping."""
    return (disconnect.get("code"), disconnect.get("reason")) == (SILENT, SILENT_REASON)
