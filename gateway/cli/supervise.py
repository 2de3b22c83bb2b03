"""``gateway supervise``: several processes on one port, and what is done with them while they run."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import click

from gateway.cli.command import LazyCommand, LazyGroup
from gateway.cli.errors import CliError, Exit
from gateway.cli.local import load_settings
from gateway.cli.output import for_people
from gateway.cli.ports import is_free, taken_message
from gateway.cli.serve import check_address, url_host
from gateway.cli.supervise_config import config_option, ecosystem_file, read_config

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.supervise.config import Ecosystem
    from gateway.supervise.logs import LogFiles
    from gateway.supervise.pool import Plan

COMMANDS = {
    "status": LazyCommand("gateway.cli.supervise_control:status", "Processes, memory, jobs."),
    "monit": LazyCommand("gateway.cli.supervise_monit:monit", "The same, live in the terminal."),
    "scale": LazyCommand("gateway.cli.supervise_control:scale", "More or fewer processes: 8, +1, -1."),
    "reload": LazyCommand("gateway.cli.supervise_control:reload", "Replace all with new code and configuration."),
    "restart": LazyCommand("gateway.cli.supervise_control:restart", "Replace one at a time, with a pause."),
    "stop": LazyCommand("gateway.cli.supervise_control:stop", "Drain all, and end."),
    "logs": LazyCommand("gateway.cli.supervise_logs:logs", "Logs of all processes."),
    "unit": LazyCommand("gateway.cli.supervise_unit:unit", "A systemd unit, for the start at boot."),
}
_BACKLOG = 2048
_ANOTHER_PORT = "PORT={port}"
_PORT_S = 5.0  # until processes of a supervisor that was killed have let go of the port


@click.group(cls=LazyGroup, lazy=COMMANDS, invoke_without_command=True)
@config_option
@click.option("--instances", metavar="N|max", help="How many processes (else as the file says).")
@click.option("--echo/--no-echo", default=None, help="Print all logs here too (else: on a terminal, and as process 1).")
@click.pass_context
def supervise(ctx: click.Context, instances: str | None, echo: bool | None) -> int | None:
    """Run several `gateway serve` processes on one port, in the foreground, as an ecosystem.toml says.

    A process that ends is started again; one above max_memory_restart is drained and replaced. SIGTERM or Ctrl+C
    drains all, a second one hands back running jobs at once, SIGHUP reloads.
    """
    if ctx.invoked_subcommand is not None:
        return None
    eco = read_config(ecosystem_file(), instances)
    os.chdir(eco.cwd)
    return _run(eco, instances, _echoes() if echo is None else echo)


def _echoes() -> bool:
    return for_people(sys.stdout) or os.getpid() == 1


def _run(eco: Ecosystem, instances: str | None, echo: bool) -> int:
    from gateway.infra.log import configure_logging
    from gateway.supervise.config import ConfigError
    from gateway.supervise.control import lock
    from gateway.supervise.logs import Files, LogFiles, LogStream

    plan, settings = _plan(eco)
    try:
        held = lock(eco.socket)
    except ConfigError as error:
        raise CliError(str(error), Exit.REFUSED, "runs_already") from error
    with held, shared_socket(settings) as public:
        files = Files(out=eco.out_file, err=eco.error_file, max_bytes=eco.log_max_bytes, retain=eco.log_retain)
        try:
            logs = LogFiles(files, sys.stdout if echo else sys.stderr, echo_all=echo)
        except OSError as error:
            raise CliError(f"{error.filename}: {error.strerror}; see logs in {eco.path}") from error
        logs.start()
        try:
            configure_logging("info", "json", stream=cast("Any", LogStream(logs)))
            return asyncio.run(_supervise(plan, settings, public, logs, instances))
        finally:
            logs.close()


async def _supervise(
    plan: Plan, settings: Settings, public: socket.socket, logs: LogFiles, instances: str | None
) -> int:
    from gateway.supervise.config import ConfigError
    from gateway.supervise.notify import Notifier
    from gateway.supervise.supervisor import Ground, Supervisor

    path = plan.ecosystem.path
    port = public.getsockname()[1]

    def read_plan() -> Plan:
        try:
            found = _plan(read_config(path, instances))[0]
        except CliError as error:
            raise ConfigError(error.message) from error
        if found.ecosystem.socket != plan.ecosystem.socket:
            raise ConfigError(f"socket was {plan.ecosystem.socket}: set it back, or restart the supervisor to move it")
        return found

    ground = Ground(public, f"http://{url_host(settings.host)}:{port}", logs, Notifier(os.environ))
    print(f"supervising {plan.ecosystem.instances} processes on {ground.address}", file=sys.stderr, flush=True)
    return await Supervisor(plan, read_plan, ground).run()


def _plan(eco: Ecosystem) -> tuple[Plan, Settings]:
    """What the processes get. Raises CliError for settings with which none would start."""
    from gateway.supervise.notify import VARIABLES
    from gateway.supervise.pool import Plan
    from gateway.supervise.process import Program

    environment = {name: value for name, value in {**os.environ, **eco.env}.items() if name not in VARIABLES}
    settings = load_settings(environment, serving=True).settings
    program = Program(
        command=[sys.executable, "-m", "gateway", "serve"],
        environment={**environment, "PYTHONUNBUFFERED": "1"},
        cwd=eco.cwd,
        control=eco.socket,
        kill_after_s=settings.shutdown_grace_s + 60,
    )
    return Plan(eco, program), settings


def shared_socket(settings: Settings) -> socket.socket:
    """The socket that all processes share. Raises CliError."""
    address, deadline = (settings.host, settings.port), time.monotonic() + _PORT_S
    with suppress(OSError):  # check_address says what is wrong
        while not is_free(*address) and time.monotonic() < deadline:
            time.sleep(0.1)
    check_address(*address, _ANOTHER_PORT)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # as `gateway serve` has it
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:  # taken at this moment
        raise CliError(taken_message(settings.port, _ANOTHER_PORT)) from error
