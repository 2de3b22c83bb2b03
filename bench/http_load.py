"""A lean HTTP/1.1 client for load: prepared requests over kept connections, so that the client is not measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import repeat
from typing import Any


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes, wanted: int) -> bytes:
        """The body of the answer. Raises ``RuntimeError`` for a status that is not ``wanted``."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        status, body = int(head[9:12]), await self._reader.readexactly(length)
        if status != wanted:
            raise RuntimeError(f"{status}: {body[:300]!r}")
        return body

    def close(self) -> None:
        self._writer.close()


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def flood(port: int, prepared: bytes, total: int, connections: int, wanted: int) -> tuple[float, list[float]]:
    """Send the same request ``total`` times; answers seconds in all and each one's milliseconds."""
    left: Iterator[None] = repeat(None, total)
    took: list[float] = []

    async def one() -> None:
        connection = await Connection.open(port)
        for _ in left:
            asked = time.perf_counter()
            await connection.ask(prepared, wanted)
            took.append((time.perf_counter() - asked) * 1000)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return time.perf_counter() - started, took


async def paced(port: int, prepared: bytes, total: int, per_s: int, wanted: int) -> list[float]:
    """The same, sent at a fixed rate whatever the answers do. Each one's milliseconds count from when it was due, so
    that a stall is seen by all who would have asked meanwhile."""
    idle, took = list[Connection](), list[float]()
    start = time.perf_counter()

    async def one(due: float) -> None:
        connection = idle.pop() if idle else await Connection.open(port)
        await connection.ask(prepared, wanted)
        took.append((time.perf_counter() - due) * 1000)
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for n in range(total):
            due = start + n / per_s
            if (ahead := due - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            group.create_task(one(due))
    for connection in idle:
        connection.close()
    return took


def percentile(each_ms: list[float], share: float) -> float:
    """The smallest value that ``share`` (0 to 1) of all do not exceed, to two decimals."""
    ordered = sorted(each_ms)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)


def percentiles(each_ms: list[float], prefix: str = "") -> dict[str, Any]:
    return {f"{prefix}p{p}_ms": percentile(each_ms, p / 100) for p in (50, 99)}
