"""One process, one loop: uvicorn inside it, and a staged stop.

SIGTERM: not ready, stop fetching, finish active jobs (HTTP is served meanwhile), hand the rest back, then close the
listener, finish the requests, close the stores. A second signal ends the wait for jobs.

Under a supervisor several processes accept from one socket: one that is to go leaves it first, so that the others get
what comes, and ends its connections with their next answer.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog
import uvicorn

from gateway.app import create_app
from gateway.infra.lifecycle import StartError
from gateway.infra.log import configure_logging
from gateway.runtime import DevOptions, Runtime
from gateway.settings import Settings
from gateway.supervise.child import Inherited
from gateway.web.http_protocol import ConnectionsState, HttpProtocol
from gateway.web.shared_port import SharedPort
from gateway.web.socket_protocol import MESSAGE_MAX_BYTES, SocketProtocol

__all__ = ["DevOptions", "serve"]

log = structlog.get_logger(__name__)

_HURRY_S = 10.0
_LINGER_S = 5.0  # for connections without a request: longer than a busy client leaves one unused

Ready = Callable[[int], Awaitable[None]]


class Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn's own handlers would close the listener before the jobs are done."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = self.connections = ConnectionsState()
        self.listening = asyncio.Event()
        self._joined: asyncio.Server | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def join(self, listener: socket.socket) -> None:
        """Accept from ``listener`` too; nothing if ``leave`` was called before."""
        if self.connections.leaving:
            return
        config, state = self.config, self.lifespan.state

        def protocol() -> asyncio.Protocol:
            return HttpProtocol(config=config, server_state=self.server_state, app_state=state)

        loop = asyncio.get_running_loop()
        self._joined = await loop.create_server(protocol, sock=listener, backlog=config.backlog)
        self.servers.append(self._joined)

    def leave(self) -> None:
        """Accept no more from what was joined, and end each connection with its next answer."""
        if self._joined is not None:
            self._joined.close()
        self.connections.leaving = True
        for connection in tuple(self.connections.connections):
            if isinstance(connection, HttpProtocol):
                connection.end_with_this_answer()

    async def quiet(self) -> None:
        """Returns when no connection is left, at the latest after ``_LINGER_S`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while self.connections.connections:  # noqa: ASYNC110  uvicorn keeps a set and tells nobody
                    await asyncio.sleep(0.05)


async def serve(
    settings: Settings, *, ready: Ready | None = None, dev: DevOptions | None = None, inherited: Inherited | None = None
) -> int:
    """Serve at HOST and PORT, or at what was inherited, until a signal; answers the exit code. ``ready`` is called with
    the bound port once HTTP answers and the replica is ready. Raises ``UnknownQueue`` for GATEWAY_QUEUES,
    ``StartError`` for agents that cannot be read; logs why when it cannot start."""
    if inherited is not None:
        inherited.beat()
    runtime = await Runtime.open(settings, dev)
    configure_logging(settings.log_level, settings.log_format, instance=runtime.replica_id)
    listener = inherited.own if inherited is not None else _listen(settings.host, settings.port)
    app = create_app(runtime)
    server = Server(
        uvicorn.Config(
            app if inherited is None else SharedPort(app, inherited),
            http=HttpProtocol,
            ws=SocketProtocol,
            ws_max_size=MESSAGE_MAX_BYTES,
            ws_per_message_deflate=False,  # two compressors for each socket, for messages of 200 bytes
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.trusted_networks,
            timeout_keep_alive=75,  # longer than the 60 s of common proxies, so that they close first
            timeout_graceful_shutdown=10,  # for requests, also at a silent ledger; jobs have had their grace
        )
    )
    process = _Process(runtime, server, inherited)
    stopping = _on_signals(process)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    watching = asyncio.create_task(_announce(process, listener.getsockname()[1], ready), name="announce")
    try:
        await serving
    finally:
        watching.cancel()
        stopping.cancel()
        outcome = (await asyncio.gather(watching, stopping, return_exceptions=True))[0]
    return 1 if isinstance(outcome, Exception) else 0


@dataclass(frozen=True, slots=True)
class _Process:
    runtime: Runtime
    server: Server
    inherited: Inherited | None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


async def _announce(process: _Process, port: int, ready: Ready | None) -> None:
    """Tell the caller when this replica is ready; end the process when it never will be."""
    runtime, server, inherited = process.runtime, process.server, process.inherited
    await server.listening.wait()
    if inherited is not None and inherited.at_once:
        await server.join(inherited.public)
    try:
        await runtime.booted()
    except StartError as error:
        log.error("cannot_start", reason=str(error))
        server.should_exit = True
        raise
    except Exception as error:
        log.error("boot_failed", exc_info=error)
        server.should_exit = True
        raise
    # What the process consists of stays until its end. Looked through with each full collection it stops the loop, and
    # with it every request, for 36 ms (docs/performance.md).
    gc.collect()
    gc.freeze()
    if inherited is not None and not inherited.at_once:
        await server.join(inherited.public)
    if ready is not None:
        await ready(port)
    await asyncio.Event().wait()


def _on_signals(process: _Process) -> asyncio.Task[None]:
    runtime, server, inherited = process.runtime, process.server, process.inherited
    first, second = asyncio.Event(), asyncio.Event()

    def received(signum: signal.Signals) -> None:
        log.info("signal", name=signum.name, again=first.is_set())
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, received, signum)

    async def cut_off(inherited: Inherited) -> None:
        await inherited.cut_off()
        log.info("left_public_port")
        server.leave()
        inherited.public.close()  # also if it was not joined yet: nothing may hold the port
        first.set()

    leaving = asyncio.create_task(cut_off(inherited), name="lifeline") if inherited is not None else None

    async def stop() -> None:
        await first.wait()
        draining = asyncio.create_task(runtime.drain(runtime.settings.shutdown_grace_s))
        hurried = asyncio.create_task(second.wait())
        try:
            await asyncio.wait([draining, hurried], return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                log.warning("drain_cut_short", reason="a second signal")
                async with asyncio.timeout(_HURRY_S):
                    await runtime.hurry()
        except TimeoutError:
            log.warning("jobs_left_to_rescue", reason="they could not be handed back in time")
        finally:
            draining.cancel()
            hurried.cancel()
            if server.connections.leaving:
                await server.quiet()
            if leaving is not None:
                leaving.cancel()
            server.should_exit = True

    return asyncio.create_task(stop(), name="signals")
