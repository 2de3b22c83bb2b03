"""The root command: which verbs there are, and how every one of them ends."""

from __future__ import annotations

import json
import os
import sys
import traceback

import click

from gateway import __version__
from gateway.cli.command import Invocation, LazyCommand, LazyGroup, global_options
from gateway.cli.errors import CliError, Exit

COMMANDS = {
    "dev": LazyCommand("gateway.cli.dev:dev", "Run everything on this machine; nothing leaves it."),
    "serve": LazyCommand("gateway.cli.serve:serve", "Run the gateway with your PostgreSQL (and Redis)."),
    "worker": LazyCommand("gateway.cli.serve:worker", "Run workers only, without the API."),
    "migrate": LazyCommand("gateway.cli.migrate:migrate", "Bring the database to this version."),
    "check": LazyCommand("gateway.cli.check:check", "Check settings and connections; exit 0 or 1."),
    "doctor": LazyCommand("gateway.cli.doctor:doctor", "Examine a running installation; exit 0, 1 or 2."),
    "health": LazyCommand("gateway.cli.health:health", "Ask the process on this host whether it lives."),
    "status": LazyCommand("gateway.cli.status:status", "Show the running instance."),
    "token": LazyCommand("gateway.cli.token:token", "Mint tokens for people."),
    "login-link": LazyCommand("gateway.cli.login_link:login_link", "Print a link that signs in to the dashboard once."),
    "keys": LazyCommand("gateway.cli.keys:keys", "Create, list and revoke API keys of applications."),
    "queues": LazyCommand("gateway.cli.queues:queues", "Show, pause, resume and limit queues."),
    "jobs": LazyCommand("gateway.cli.jobs:jobs", "Find and change jobs, one or many."),
    "operations": LazyCommand("gateway.cli.operations:operations", "Work on many jobs at once: look on, stop."),
    "schedules": LazyCommand("gateway.cli.schedules:schedules", "Repeatable jobs: show, add, pause, run."),
    "runs": LazyCommand("gateway.cli.runs:runs", "Agents at work: start, watch, cancel, retry, approve."),
    "triggers": LazyCommand("gateway.cli.triggers:triggers", "What starts runs by itself: the clock, webhooks."),
    "projects": LazyCommand("gateway.cli.projects:projects", "What agents work on: members, budgets, usage."),
    "agents": LazyCommand("gateway.cli.agents:agents", "Show and change agents."),
    "approvals": LazyCommand("gateway.cli.approvals:approvals", "What agents want to do: show, approve, reject."),
    "models": LazyCommand("gateway.cli.models:models", "Language models: prices, limits, providers at rest."),
    "replicas": LazyCommand("gateway.cli.replicas:replicas", "Show and drain replicas."),
    "maintenance": LazyCommand("gateway.cli.maintenance:maintenance", "Retention and upkeep: duties and their runs."),
    "supervise": LazyCommand("gateway.cli.supervise:supervise", "Run several processes on one port of this server."),
    "autoscale": LazyCommand("gateway.cli.autoscale:autoscale", "Keep as many replicas as the queues can use."),
    "email": LazyCommand("gateway.cli.email:email", "Send and show e-mails."),
    "config": LazyCommand("gateway.cli.config:config", "Show effective settings, or all there are."),
    "version": LazyCommand("gateway.cli.version:version", "Print the version."),
}

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not reachable, 4 refused, 5 nothing matched."


class Root(LazyGroup):
    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader went away (`| head`): not our failure, and nothing more may be written to stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.DONE
        return result


@click.group(cls=Root, lazy=COMMANDS, params=[*global_options()], epilog=EPILOG)
@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
def root() -> None:
    """Durable e-mail and agent jobs in one process. Start with: gateway dev"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line. Returns the exit code; never raises for what a user can get wrong."""
    call = Invocation(verbose=False)
    try:
        result = root.main(args=arguments, prog_name="gateway", standalone_mode=False, obj=call)
    except CliError as error:
        return _failed(call, error)
    except click.UsageError as error:
        if call.json:
            return _failed(call, CliError(error.format_message(), Exit.USAGE))
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        return _failed(call, CliError(error.format_message(), Exit.FAILED))
    except (click.Abort, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells count
    return result if isinstance(result, int) else Exit.DONE


def _failed(call: Invocation, error: CliError) -> int:
    if call.verbose and error.__cause__ is not None:
        traceback.print_exception(error.__cause__)
    if call.json:
        print(json.dumps({"error": {"code": error.code, "message": error.message}}), file=sys.stderr)
    else:
        print(error.message, file=sys.stderr)
    return error.exit_code
