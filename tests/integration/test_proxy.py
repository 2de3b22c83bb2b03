"""The proxy of the fault tests does what it says; a fault test on one that does not would prove nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import pytest

from tests.support.eventually import eventually
from tests.support.proxy import Proxy


class Echo:
    """Sends every line back, and counts the lines that it saw."""

    def __init__(self) -> None:
        self.seen = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionResetError):
            while line := await reader.readline():
                self.seen += 1
                writer.write(line)
                await writer.drain()


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server, Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"word\n")
    return await reader.readline()


async def test_forwards_and_delays(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await _say(reader, writer) == b"word\n"
    proxy.delay_s = 0.05
    started = time.monotonic()
    assert await _say(reader, writer) == b"word\n"
    assert time.monotonic() - started >= 0.1
    writer.close()


async def test_half_open_swallows_answers_until_it_flows(proxy: Proxy, echo: Echo) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.half_open()
    answer = asyncio.create_task(_say(reader, writer))
    await eventually(lambda: echo.seen == 1)
    assert not answer.done()
    proxy.flow()
    assert await answer == b"word\n"
    writer.close()


async def test_stall_accepts_and_lets_nothing_pass(proxy: Proxy, echo: Echo) -> None:
    proxy.stall()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    answer = asyncio.create_task(_say(reader, writer))
    await eventually(lambda: proxy.accepted == 1)
    assert (echo.seen, answer.done()) == (0, False)
    proxy.flow()
    assert await answer == b"word\n"
    writer.close()


async def test_cut_resets_open_connections_only(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await _say(reader, writer)
    proxy.cut()
    with pytest.raises(ConnectionResetError), closing(writer):
        await _say(reader, writer)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await _say(reader, writer) == b"word\n"
    writer.close()


async def test_down_refuses_and_up_serves_the_same_port(proxy: Proxy) -> None:
    port = proxy.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _say(reader, writer)
    await proxy.down()
    with pytest.raises(ConnectionResetError), closing(writer):
        await _say(reader, writer)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await proxy.up()
    assert proxy.port == port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await _say(reader, writer) == b"word\n"
    writer.close()
