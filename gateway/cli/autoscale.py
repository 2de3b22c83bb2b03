"""``gateway autoscale``: the right number of replicas on hosts without Kubernetes."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.local import load_settings
from gateway.cli.loop import run_loop
from gateway.cli.output import print_json
from gateway.cli.ports import is_free
from gateway.cli.supervise_config import read_config

if TYPE_CHECKING:
    from gateway.autoscale.controller import Pass
    from gateway.autoscale.fleet import Fleet, ProcessFleet

COMPOSE = "docker compose up -d --no-recreate --no-deps --scale {service}={{replicas}} {service}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The bounds and times of one call; seconds."""

    minimum: int
    maximum: int
    signal: str
    interval_s: float
    down_after_s: float


@click.command(cls=GatewayCommand)
@click.option("--min", "minimum", type=click.IntRange(1), default=2, show_default=True, help="Fewest replicas.")
@click.option("--max", "maximum", type=click.IntRange(1), default=10, show_default=True, help="Most replicas.")
@click.option(
    "--signal",
    type=click.Choice(["demand", "waiting"]),
    default="demand",
    show_default=True,
    help="demand: worker slots that the queues can use; waiting: 50 waiting jobs for each replica.",
)
@click.option("--interval", type=click.FloatRange(0.1), default=15.0, show_default=True, help="Seconds between looks.")
@click.option(
    "--down-after",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Seconds for which fewer must be enough before some go.",
)
@click.option("--compose", metavar="SERVICE", help="Scale this service of the compose file in this directory.")
@click.option("--command", metavar="COMMAND", help="Scale with a command of yours; {replicas} is the number.")
@click.option(
    "--supervised",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Scale the running `gateway supervise` of this ecosystem.toml.",
)
@click.option("--scrape", metavar="URL", multiple=True, help="Where a replica answers, for --compose and --command.")
@click.option("--replicas", type=click.IntRange(1), help="How many run now, for --compose and --command (else --min).")
@click.option(
    "--base-port", type=click.IntRange(1, 65_000), default=3003, show_default=True, help="First port of processes here."
)
def autoscale(scrape: tuple[str, ...], base_port: int, supervised: Path | None, **options: Any) -> int:
    """Keep as many replicas as the queues can use, by the algorithm of Kubernetes' autoscaler.

    Without --supervised, --compose and --command it runs `gateway serve` processes on this host itself, on ports from
    --base-port on, and ends the least busy ones with SIGTERM: they finish their jobs. Ctrl+C or SIGTERM drains all.
    """
    from gateway.autoscale.fleet import CommandFleet, ProcessFleet
    from gateway.infra.log import configure_logging

    configure_logging("info", "auto", instance="autoscale")
    wanted = Wanted(
        options["minimum"], options["maximum"], options["signal"], options["interval"], options["down_after"]
    )
    if wanted.minimum > wanted.maximum:
        raise CliError(f"--min {wanted.minimum} is more than --max {wanted.maximum}", Exit.USAGE)
    line = _command(options["compose"], options["command"])
    if supervised is not None:
        if line is not None:
            raise CliError("--supervised excludes --compose and --command", Exit.USAGE)
        return run_loop(_of_supervisor(supervised, wanted))
    if line is None:
        load_settings(os.environ, serving=True)  # with wrong ones no process would start, over and over
        serve = [sys.executable, "-m", "gateway", "serve", "--port", "{port}"]
        fleet = ProcessFleet(serve, _ports(base_port), os.environ)
        return run_loop(_until_told(fleet, wanted, fleet))
    if not scrape:
        raise CliError("--compose and --command need --scrape URL: where a replica's /metrics is", Exit.USAGE)
    urls = [_address(url) for url in scrape]
    return run_loop(_until_told(CommandFleet(line, urls, options["replicas"] or wanted.minimum), wanted, None))


async def _of_supervisor(file: Path, wanted: Wanted) -> int:
    from gateway.autoscale.fleet import SupervisedFleet

    fleet = SupervisedFleet(read_config(file).socket)
    await fleet.look()
    if not fleet.size:
        raise CliError(
            f"No supervisor runs for {file}. Start it with: gateway supervise --config {file}", Exit.UNREACHABLE
        )
    return await _until_told(fleet, wanted, None)


def _command(compose: str | None, command: str | None) -> str | None:
    """The command that scales; None: processes of our own. Raises CliError."""
    if compose is not None and command is not None:
        raise CliError("--compose and --command exclude each other", Exit.USAGE)
    if compose is not None:
        return COMPOSE.format(service=shlex.quote(compose))
    if command is not None and "{replicas}" not in command:
        raise CliError("--command must hold {replicas}, where the number goes", Exit.USAGE)
    try:
        shlex.split(command or "")
    except ValueError as error:
        raise CliError(f"--command {command}: {error}", Exit.USAGE) from error
    return command


def _address(url: str) -> str:
    """Where a replica answers, without ``/metrics``. Raises CliError."""
    try:
        found = urlsplit(url)
        whole = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise CliError(f"--scrape {url} is no address of a replica; write http://localhost:3003", Exit.USAGE)
    return url.rstrip("/").removesuffix("/metrics")


def _ports(first: int) -> Callable[[], int]:
    def free() -> int:
        return next(port for port in range(first, 65_536) if is_free("127.0.0.1", port) and port not in given)

    given = set[int]()

    def take() -> int:
        # One that was given away may not listen yet; by the time that all are used up, those that ended are free again.
        if len(given) > 1000:
            given.clear()
        given.add(port := free())
        return port

    return take


async def _until_told(fleet: Fleet, wanted: Wanted, own: ProcessFleet | None) -> int:
    from gateway.autoscale.algorithm import Behavior, Policy, Rules, Scaler
    from gateway.autoscale.controller import Autoscaler
    from gateway.autoscale.signal import Signal

    up = Rules(0.0, (Policy("Percent", 100, 30.0), Policy("Pods", 2, 30.0)))
    down = Rules(wanted.down_after_s, (Policy("Percent", 25, 60.0), Policy("Pods", 1, 60.0)))
    scaler = Scaler(wanted.minimum, wanted.maximum, Behavior(up, down))
    autoscaler = Autoscaler(fleet, scaler, Signal(wanted.signal), time.monotonic)
    passes = asyncio.create_task(autoscaler.run(wanted.interval_s, _tell(invocation().json)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, passes.cancel)
    await asyncio.wait([passes])
    if own is not None:
        print(f"draining {own.size} replicas", file=sys.stderr)
        await own.close()
    if not passes.cancelled():
        passes.result()
    return 0


def _tell(as_json: bool) -> Callable[[Pass], None]:
    from msgspec import to_builtins

    last: list[tuple[int, str | None]] = []

    def told(seen: Pass) -> None:
        blind = _blind(seen)
        if as_json:
            print_json(to_builtins(seen))
        elif seen.failed is not None:
            print(f"{seen.before} replicas: {seen.failed}", file=sys.stderr)
        elif last != [(seen.after, blind)]:
            why = blind or f"wished: {', '.join(map(str, seen.wishes))}"
            print(f"{seen.before} -> {seen.after} replicas ({why})", flush=True)
        last[:] = [(seen.after, blind)]

    return told


def _blind(seen: Pass) -> str | None:
    """Why nobody knows how many are needed; None: it is known."""
    if not seen.before:
        return "the fewest: none runs yet"
    if any(wish is not None for wish in seen.wishes):
        return None
    if not seen.answered:
        return "no replica answers"
    return (
        "the answers show no worker slots, or no demand: ask replicas with workers, and see whether PostgreSQL answers"
    )
