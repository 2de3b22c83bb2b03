"""The server's HTTP protocol, which also lets go of a client that does not read its event stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

END_S: Final = 2.0  # for what is left to be read
_EXTENSION: Final = "gateway.end_soon"


class ConnectionsState(ServerState):
    """``leaving``: each answer is the last of its connection, so that clients go on at another process."""

    leaving = False


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's would wait for room in the buffer of a client that never makes any: a generator that hangs in that
    learns of nothing, and closing such a connection waits too."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is self.scope:  # else it becomes a WebSocket
            self.scope["extensions"] = {_EXTENSION: {"call": partial(self._end_soon, cycle)}}
            if isinstance(self.server_state, ConnectionsState) and self.server_state.leaving:
                cycle.keep_alive = False

    def end_with_this_answer(self) -> None:
        """A connection that waits for its next request is left: it may be on its way."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False

    def _end_soon(self, cycle: RequestResponseCycle) -> None:
        self.loop.call_later(END_S, self._cut, cycle)

    def _cut(self, cycle: RequestResponseCycle) -> None:
        unread = self.cycle is cycle and self.transport.get_write_buffer_size() > 0
        if unread or not cycle.response_complete:
            self.transport.abort()


def end_soon(scope: Mapping[str, Any]) -> Callable[[], None]:
    """What cuts the connection of this request if its answer has not been read ``END_S`` seconds after the call."""
    extension = (scope.get("extensions") or {}).get(_EXTENSION)
    return extension["call"] if extension is not None else _nothing


def _nothing() -> None:
    """Another server, as that of tests, has no such connection."""
