"""A TCP proxy that fails on command, between us and a real server."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards ``127.0.0.1:port`` to one upstream address; the port stays the same over ``down`` and ``up``.

    ``delay_s`` holds back each chunk in both directions. ``stall`` is a black hole: connections are accepted and stay
    open, nothing passes. ``half_open`` forwards to the server and swallows its answers.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_server = asyncio.Event()
        self._to_client = asyncio.Event()
        self._to_server.set()
        self._to_client.set()
        self.delay_s = 0.0
        self.port = 0
        self.accepted = 0

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    async def up(self) -> None:
        """Listen (again), forwarding."""
        self.flow()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse new connections and reset the open ones, as when the server's machine restarts."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def lead(self, host: str, port: int) -> None:
        """Take new connections to another address."""
        self._upstream = (host, port)

    def cut(self) -> None:
        """Reset every open connection; new ones are served."""
        for writer in tuple(self._links):
            _reset(writer)

    def stall(self) -> None:
        """Let nothing pass in either direction until ``flow``."""
        self._to_server.clear()
        self._to_client.clear()

    def half_open(self) -> None:
        """Let requests reach the server, and no answer come back, until ``flow``."""
        self._to_client.clear()

    def flow(self) -> None:
        """End ``stall`` and ``half_open``: what was held back passes now."""
        self._to_server.set()
        self._to_client.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._links.add(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_writer: asyncio.StreamWriter | None = None
        try:
            await self._to_server.wait()
            server_reader, server_writer = await asyncio.open_connection(*self._upstream)
            self._links.add(server_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer, self._to_server))
                group.create_task(self._pump(server_reader, writer, self._to_client))
        except* OSError:
            _reset(writer)  # either side went away, so the other one does
        finally:
            for link in (writer, server_writer):
                if link is not None:
                    self._links.discard(link)
                    link.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        while chunk := await source.read(65536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await gate.wait()
            sink.write(chunk)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, as a machine does that lost its connections."""
    connection = writer.get_extra_info("socket")
    if not writer.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
