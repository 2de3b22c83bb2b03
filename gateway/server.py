"""One process, one loop: uvicorn inside it, and a staged stop.

SIGTERM: not ready, stop fetching, finish active jobs (HTTP is served meanwhile), hand the rest back, then close the
listener, finish the requests, close the stores. A second signal ends the wait for jobs.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from gateway.app import create_app
from gateway.infra.lifecycle import StartError
from gateway.infra.log import configure_logging
from gateway.runtime import DevOptions, Runtime
from gateway.settings import Settings
from gateway.web.http_protocol import HttpProtocol
from gateway.web.socket_protocol import MESSAGE_MAX_BYTES, SocketProtocol

__all__ = ["DevOptions", "serve"]

log = structlog.get_logger(__name__)

_HURRY_S = 10.0

Ready = Callable[[int], Awaitable[None]]


class Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn's own handlers would close the listener before the jobs are done."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


async def serve(
    settings: Settings, *, host: str, port: int, ready: Ready | None = None, dev: DevOptions | None = None
) -> int:
    """Serve until a signal; answers the exit code. ``ready`` is called with the bound port once HTTP answers and the
    replica is ready. Raises ``UnknownQueue`` for GATEWAY_QUEUES, ``StartError`` for agents that cannot be read; logs
    why when it cannot start."""
    runtime = await Runtime.open(settings, dev)
    configure_logging(settings.log_level, settings.log_format, instance=runtime.replica_id)
    listener = _listen(host, port)
    server = Server(
        uvicorn.Config(
            create_app(runtime),
            http=HttpProtocol,
            ws=SocketProtocol,
            ws_max_size=MESSAGE_MAX_BYTES,
            ws_per_message_deflate=False,  # two compressors for each socket, for messages of 200 bytes
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,  # longer than the 60 s of common proxies, so that they close first
            timeout_graceful_shutdown=10,  # for requests, also at a silent ledger; jobs have had their grace
        )
    )
    stopping = _on_signals(runtime, server)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    watching = asyncio.create_task(_announce(runtime, server, listener.getsockname()[1], ready), name="announce")
    try:
        await serving
    finally:
        watching.cancel()
        stopping.cancel()
        outcome = (await asyncio.gather(watching, stopping, return_exceptions=True))[0]
    return 1 if isinstance(outcome, Exception) else 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


async def _announce(runtime: Runtime, server: Server, port: int, ready: Ready | None) -> None:
    """Tell the caller when this replica is ready; end the process when it never will be."""
    await server.listening.wait()
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
    if ready is not None:
        await ready(port)
    await asyncio.Event().wait()


def _on_signals(runtime: Runtime, server: Server) -> asyncio.Task[None]:
    first, second = asyncio.Event(), asyncio.Event()

    def received(signum: signal.Signals) -> None:
        log.info("signal", name=signum.name, again=first.is_set())
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, received, signum)

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
            server.should_exit = True

    return asyncio.create_task(stop(), name="signals")
