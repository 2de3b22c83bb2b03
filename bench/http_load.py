"""A lean HTTP/1.1 client for load: prepared requests over kept connections, so that the client is not measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import repeat


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def flood(port: int, prepared: bytes, total: int, connections: int, wanted: int) -> tuple[float, list[float]]:
    """Send the same request ``total`` times; answers seconds in all and each one's milliseconds, sorted."""
    left: Iterator[None] = repeat(None, total)
    took: list[float] = []

    async def one() -> None:
        connection = await Connection.open(port)
        for _ in left:
            asked = time.perf_counter()
            status, body = await connection.ask(prepared)
            took.append((time.perf_counter() - asked) * 1000)
            if status != wanted:
                raise RuntimeError(f"{status}: {body[:300]!r}")
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return time.perf_counter() - started, sorted(took)


def percentile(sorted_ms: list[float], share: float) -> float:
    return round(sorted_ms[min(len(sorted_ms) - 1, int(len(sorted_ms) * share))], 2)
