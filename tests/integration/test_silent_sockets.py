"""A client of ``/api/ws`` that answers no ping, behind a server that asks often."""

from __future__ import annotations

import asyncio
import socket

import httpx
import uvicorn

from gateway.app import create_app
from gateway.runtime import Runtime
from gateway.server import Server
from gateway.web.socket_protocol import SocketProtocol
from tests.support.eventually import eventually
from tests.support.web import settings_for

HANDSHAKE = (
    b"GET /api/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def test_who_answers_no_ping_is_closed_with_1011_and_counted(database_url: str) -> None:
    app = create_app(await Runtime.open(settings_for(database_url)))
    often = uvicorn.Config(
        app, ws=SocketProtocol, ws_ping_interval=0.1, ws_ping_timeout=0.1, lifespan="on", log_config=None
    )
    server = Server(often)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            async with asyncio.timeout(30):
                await server.listening.wait()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(HANDSHAKE)
                said = await reader.read()  # to its end
            assert (1011).to_bytes(2, "big") + b"keepalive ping timeout" in said
            writer.close()
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

                async def counted() -> bool:
                    return 'gateway_realtime_ended_total{reason="silent"} 1.0' in (await client.get("/metrics")).text

                await eventually(counted)
        finally:
            server.should_exit = True
            await serving
