"""``gateway serve`` and ``gateway worker``."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from gateway import __version__
from gateway.cli.command import GatewayCommand
from gateway.cli.errors import CliError, Exit
from gateway.cli.local import load_settings
from gateway.cli.loop import run_loop
from gateway.cli.ports import is_free, taken_message

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.supervise.child import Inherited


@click.command(cls=GatewayCommand)
@click.option("--host", help="Address to listen on (HOST, else 0.0.0.0).")
@click.option("--port", type=click.IntRange(0, 65_535), help="TCP port (PORT, else 3003); 0 takes a free one.")
@click.option(
    "--role", type=click.Choice(["all", "api", "worker"]), help="What this process does (GATEWAY_ROLE, else all)."
)
@click.option("--queues", metavar="NAME[,NAME]", help="Queues to work on (GATEWAY_QUEUES, else all).")
@click.option("--inherited", hidden=True, help="What `gateway supervise` gives its processes.")
def serve(host: str | None, port: int | None, role: str | None, queues: str | None, inherited: str | None) -> int:
    """Run the gateway: API and workers in one process. Needs DATABASE_URL; settings come from the environment."""
    return run({"HOST": host, "PORT": port, "GATEWAY_ROLE": role, "GATEWAY_QUEUES": queues}, inherited)


@click.command(cls=GatewayCommand)
@click.option("--host", help="Address for health and metrics (HOST, else 0.0.0.0).")
@click.option("--port", type=click.IntRange(0, 65_535), help="TCP port for health and metrics (PORT, else 3003).")
@click.option("--queues", metavar="NAME[,NAME]", help="Queues to work on (GATEWAY_QUEUES, else all).")
def worker(host: str | None, port: int | None, queues: str | None) -> int:
    """Run workers only: no API, only health and metrics."""
    return run({"HOST": host, "PORT": port, "GATEWAY_ROLE": "worker", "GATEWAY_QUEUES": queues})


def run(options: Mapping[str, str | int | None], inherited: str | None = None) -> int:
    """Serve until a signal stops it. ``options`` win over the environment. Returns the exit code."""
    given = {name: str(value) for name, value in options.items() if value is not None}
    settings = load_settings({**os.environ, **given}, serving=True).settings
    if inherited is not None:
        return run_loop(_serve(settings, _inherited(inherited)))
    check_address(settings.host, settings.port)
    return run_loop(_serve(settings))


def _inherited(text: str) -> Inherited:
    from gateway.supervise.child import Inherited, outlive_reader

    try:
        outlive_reader()
        return Inherited.of(text)
    except (ValueError, OSError) as error:
        raise CliError(f"--inherited is for `gateway supervise` alone: {error}", Exit.USAGE) from error


def check_address(host: str, port: int, another: str = "--port {port}") -> None:
    """Refuse a port that is taken before anything else is started; ``another``: how to name another one. Raises
    CliError."""
    try:
        free = port == 0 or is_free(host, port)
    except PermissionError as error:
        raise CliError(f"Port {port} needs more rights than this user has. Use one above 1023.") from error
    except OSError as error:
        why = "is no address of this machine" if error.errno == errno.EADDRNOTAVAIL else str(error.strerror)
        raise CliError(f"HOST {host} {why}. Use 0.0.0.0 or 127.0.0.1.", Exit.USAGE) from error
    if not free:
        raise CliError(taken_message(port, another))


async def _serve(settings: Settings, inherited: Inherited | None = None) -> int:
    from gateway.infra.lifecycle import StartError
    from gateway.server import serve as serve_until_stopped

    print(start_line(settings), flush=True)

    async def listening(port: int) -> None:
        where = f"localhost:{port}, supervised" if inherited else f"{url_host(settings.host)}:{port}"
        print(f"listening on http://{where}", flush=True)

    try:
        return await serve_until_stopped(settings, ready=listening, inherited=inherited)
    except StartError as error:
        raise CliError(str(error), code="cannot_start") from error


def start_line(settings: Settings) -> str:
    """The first of the two lines of a start: version, role, mode, what is turned on, slots, mail server. No secrets."""
    facts = [f"gateway {__version__}", f"role={settings.gateway_role}", str(settings.queue_redis or "direct")]
    if settings.profiles:
        facts.append(f"profiles={','.join(settings.profiles)}")
    if settings.runs_workers:
        facts.append(" ".join(f"{queue}={slots}" for queue, slots in _slots(settings).items()))
        if settings.smtp_host:
            facts.append(f"smtp={settings.smtp_host}:{settings.smtp_port}")
    return " · ".join(facts)


def _slots(settings: Settings) -> dict[str, int]:
    """How many jobs this process runs at once, of each queue that it works on."""
    concurrency = {
        "email": settings.email_queue_concurrency,
        "orchestration": settings.orchestration_queue_concurrency,
        "chat": settings.chat_queue_concurrency,
        "deep-research": settings.deep_research_queue_concurrency,
    }
    there = ("email", "orchestration", *settings.profiles)
    named = settings.queue_names
    return {queue: concurrency[queue] for queue in there if named is None or {queue, f"{queue}-queue"} & {*named}}


def url_host(host: str) -> str:
    """``host`` as it stands in a URL that can be opened: a wildcard address is this machine."""
    if host in ("0.0.0.0", "::", ""):
        return "localhost"
    return f"[{host}]" if ":" in host else host
