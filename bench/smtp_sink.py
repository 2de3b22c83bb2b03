"""An SMTP server that accepts everything and keeps nothing: ``python -m bench.smtp_sink PORT``.

It prints how many mails it took when its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Sink(asyncio.Protocol):
    taken = 0

    def __init__(self) -> None:
        self._buffer = b""
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        if self._in_data:
            _, end, rest = self._buffer.partition(b"\r\n.\r\n")
            if not end:
                return False
            self._buffer, self._in_data = rest, False
            Sink.taken += 1
            self._transport.write(b"250 2.0.0 taken\r\n")
            return True
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return False
        self._buffer = rest
        verb = line[:4].upper()
        if verb == b"DATA":
            self._in_data = True
            self._transport.write(b"354 go on\r\n")
        elif verb == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        elif verb == b"EHLO":
            self._transport.write(b"250-sink\r\n250 PIPELINING\r\n")
        else:
            self._transport.write(b"250 ok\r\n")
        return True


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Sink, "127.0.0.1", port)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(Sink.taken, flush=True)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
