"""``gateway dev``: the whole gateway on this machine, its own PostgreSQL and a mail server that catches all."""

from __future__ import annotations

import signal
import sys
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import click

from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import print_facts, print_json, say
from gateway.cli.ports import is_free, next_free, taken_message

PORT = 3003
DEV_TOKEN = "dev"
TOKEN_MIN = 16  # characters of a token that others could try to guess


@click.command(cls=GatewayCommand)
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="TCP port; 0 is any free one.  [default: 3003 or the next]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--token", help="Token of the example call; must be set when other machines can reach --host.")
@click.option("--redis", "with_redis", is_flag=True, help="Start Valkey too, and dispatch jobs by it.")
@click.option("--reset", is_flag=True, help="Start over: delete the data of earlier runs first.")
def dev(port: int | None, host: str, token: str | None, with_redis: bool, reset: bool) -> int:
    """Run everything on this machine; nothing leaves it.

    PostgreSQL is embedded (or DATABASE_URL), Redis is not needed (or --redis, or REDIS_URL), mails go to an inbox. The
    dashboard can release them one by one to SMTP_URL (smtp://user:password@host:587), if that is set.
    Agents answer with a demonstration; they ask a model, which costs money, where OPENAI_API_KEY or the like is set.
    """
    from gateway.cli.dev_data import DataDir

    refuse_open_host(host, token)
    data_dir = DataDir(invocation().data_dir)
    with data_dir.held() as mine:
        if not mine:
            return already_running(data_dir.path, reset)
        if reset:
            data_dir.reset()
        chosen = choose_port(host, port)
        signal.signal(signal.SIGTERM, _stop)
        try:
            from gateway.cli.dev_run import WhatToRun, run_dev
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("gateway"):
                raise
            message = f"gateway dev needs {error.name}, which is not installed here. Run: uv sync --group dev"
            raise CliError(message) from error
        return run_dev(data_dir, WhatToRun(host, chosen, token or DEV_TOKEN, with_redis, open_door=not token))


def _stop(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM before the server runs (it has handlers of its own): unwind, so that the servers end too."""
    raise KeyboardInterrupt


def refuse_open_host(host: str, token: str | None) -> None:
    """In development everybody on this machine is an admin; others need a token. Raises CliError."""
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if loopback:
        return
    if not token:
        message = f"--host {host} can be reached from other machines: set --token too, or leave --host out."
        raise CliError(message, Exit.USAGE, "token_required")
    if len(token) < TOKEN_MIN or not token.isascii() or not token.isprintable() or " " in token:
        message = f"--token needs {TOKEN_MIN} or more characters without spaces. Make one with: openssl rand -hex 16"
        raise CliError(message, Exit.USAGE, "weak_token")


def choose_port(host: str, wanted: int | None) -> int:
    """``wanted``, which must be free; without it 3003, or the next free one, said on stderr. 0 is any free one."""
    if wanted is not None:
        if wanted and not is_free(host, wanted):
            raise CliError(taken_message(wanted), code="port_taken")
        return wanted
    chosen = next_free(host, PORT)
    if chosen is None:
        raise CliError(f"No free port from {PORT} on. Use --port 0 for any free one.", code="port_taken")
    if chosen != PORT:
        say(f"port {PORT} is taken: using {chosen}")
    return chosen


def already_running(data_dir: Path, reset: bool) -> int:
    """Say where the running one is. Not a failure, unless its data was to be deleted: what was asked for is there."""
    from gateway.cli.instance import running_dev

    facts = running_dev(data_dir)
    if reset:
        who = f"pid {facts.pid}" if facts else "another process"
        raise CliError(f"{data_dir}/ is in use ({who}): stop it first, then --reset.", code="already_running")
    if facts is None:
        say(f"already starting on {data_dir}/")
    elif invocation().json:
        print_json({"alreadyRunning": True, "pid": facts.pid, "url": facts.url, "inboxUrl": facts.inbox_url})
    elif sys.stdout.isatty():
        print(f"already running (pid {facts.pid}), API at {facts.url}, inbox at {facts.inbox_url}")
    else:
        print_facts({"already running": f"pid {facts.pid}", "url": facts.url, "inbox": facts.inbox_url})
    return Exit.DONE
