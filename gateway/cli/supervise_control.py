"""What is asked of a running supervisor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import duration, one_line, print_facts, print_json, print_table, say
from gateway.cli.supervise_config import config_option, ecosystem_file, read_config

if TYPE_CHECKING:
    from gateway.supervise.messages import Process, Request, Status

COLUMNS = ["process", "pid", "state", "uptime", "restarts", "cpu", "memory", "jobs"]
_STOPPED_S = 0.2


@click.command(cls=GatewayCommand)
@config_option
def status() -> None:
    """Show the processes: state, uptime, restarts, processor, memory, running jobs; and what waits."""
    found = supervisor_status()
    if invocation().json:
        from msgspec import to_builtins

        return print_json(to_builtins(found))
    print_facts(facts(found))
    print()
    print_table(COLUMNS, rows(found))
    for reason in reasons(found):
        say(reason)


@click.command(cls=GatewayCommand, context_settings={"ignore_unknown_options": True})
@click.argument("number", metavar="N|+1|-1")
@config_option
def scale(number: str) -> None:
    """Run N processes from now on, or so many more or fewer. Fewer: the least busy leave the port and finish their
    jobs. A restart of the supervisor begins with the file's number again."""
    from gateway.supervise.messages import Request

    _ask(Request(do="scale", to=number), "{} processes are wanted")


@click.command(cls=GatewayCommand)
@config_option
def reload() -> None:
    """Read the configuration again and replace every process: the new one is ready before the old one leaves the port
    and finishes its jobs. Without waiting for these ends: memory is needed for both."""
    from gateway.supervise.messages import Request

    _ask(Request(do="reload"), "{} processes were replaced")


@click.command(cls=GatewayCommand)
@click.option("--pause", type=click.FloatRange(0), help="Seconds between two (else restart_pause, 60 s).")
@config_option
def restart(pause: float | None) -> None:
    """Replace every process, one at a time: a new one is ready, the old one has ended, the pause is over, the next."""
    from gateway.supervise.messages import Request

    _ask(Request(do="restart", pause_s=pause), "{} processes were replaced")


@click.command(cls=GatewayCommand)
@config_option
def stop() -> None:
    """Drain all processes and end the supervisor. Waits for it; Ctrl+C stops the waiting only."""
    from gateway.supervise.client import NotRunning, Silent
    from gateway.supervise.client import status as status_of
    from gateway.supervise.messages import Request

    path = _socket()
    _ask(Request(do="stop"), "{} processes drain", path)

    async def until_gone() -> None:
        while True:
            try:
                await status_of(path)
            except Silent:
                pass  # it is busy with its end
            except NotRunning:
                return
            await asyncio.sleep(_STOPPED_S)

    asyncio.run(until_gone())
    if not invocation().json:
        say("stopped")


def supervisor_status(path: Path | None = None) -> Status:
    """Raises CliError."""
    from gateway.supervise.client import NotRunning
    from gateway.supervise.client import status as status_of

    try:
        return asyncio.run(status_of(path or _socket()))
    except NotRunning as error:
        raise CliError(str(error), Exit.UNREACHABLE) from error


def facts(found: Status) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": found.name,
        "address": found.address,
        "supervisor": f"pid {found.pid}, up {duration(found.uptime_s)}",
        "instances": found.instances,
        "waiting": ", ".join(f"{queue} {number}" for queue, number in sorted(found.waiting.items())) or "-",
    }
    if found.busy_with is not None:
        shown["under way"] = found.busy_with
    if found.stopping:
        shown["under way"] = "stop"
    if found.logs_lost:
        shown["logs"] = f"{found.logs_lost} lines were lost: {found.logs_problem or 'over now'}"
    return shown


def reasons(found: Status) -> list[str]:
    """Why processes are not as they should be; what they wrote last is part of it."""
    return [f"{one.state}: {one_line(one.reason)}" for one in found.processes if one.reason is not None]


def rows(found: Status) -> list[list[Any]]:
    return [_row(process) for process in found.processes]


def _row(process: Process) -> list[Any]:
    return [
        process.number or "-",
        process.pid,
        process.state,
        None if process.uptime_s is None else duration(process.uptime_s),
        process.restarts,
        None if process.cpu_percent is None else f"{process.cpu_percent:.0f}%",
        None if process.rss_bytes is None else f"{process.rss_bytes / 1024**2:.0f}M",
        None if process.busy is None else f"{process.busy} of {process.slots}",
    ]


def _socket() -> Path:
    return read_config(ecosystem_file()).socket


def _ask(request: Request, done: str, path: Path | None = None) -> None:
    from gateway.supervise.client import Declined, NotRunning, ask

    try:
        number = asyncio.run(ask(path or _socket(), request, say))
    except NotRunning as error:
        raise CliError(str(error), Exit.UNREACHABLE) from error
    except Declined as error:
        raise CliError(str(error), Exit.REFUSED if error.refused else Exit.FAILED) from error
    if invocation().json:
        print_json({"processes": number})
    else:
        print(done.format(number))
