"""``gateway migrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.database import explained
from gateway.cli.errors import CliError
from gateway.cli.local import environment, load_settings
from gateway.cli.loop import run_loop
from gateway.cli.output import print_json, say

if TYPE_CHECKING:
    from gateway.infra.migrate import MigrationStatus


@click.group(cls=GatewayGroup, invoke_without_command=True)
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Bring the database to this version (up, the default), or say where it is (status)."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(up)


@migrate.command("up")
def up() -> None:
    """Apply what is pending. Any number of processes may do this at once."""
    from gateway.infra.migrate import migrate as apply_pending

    url = load_settings(environment(invocation()), serving=False).settings.database_url
    with explained(url):
        applied = run_loop(apply_pending(url, on_progress=told, on_build=say))
    if invocation().json:
        print_json({"applied": applied})
    elif applied:
        print(f"{len(applied)} migration{'s' if len(applied) > 1 else ''} applied; the database is at {applied[-1]}")
    else:
        print("The database is up to date.")


@migrate.command("status")
def status() -> None:
    """Applied and pending migrations. Exit code 1 when this version cannot run on the database."""
    url = load_settings(environment(invocation()), serving=False).settings.database_url
    with explained(url):
        found = run_loop(_status(url))
    problem = found.problem()
    if invocation().json:
        print_json({"applied": found.applied, "pending": found.pending, "unknown": found.unknown, "problem": problem})
    else:
        for word, names in (("applied", found.applied), ("pending", found.pending), ("unknown", found.unknown)):
            for name in names:
                print(f"{word}\t{name}")
    if problem is not None:
        raise CliError(problem)


def told(name: str, position: int, total: int) -> None:
    say(f"migrating {position}/{total}  {name}")


async def _status(url: str) -> MigrationStatus:
    from gateway.infra.migrate import migration_status
    from gateway.infra.postgres import connect

    connection = await connect(url, application_name="gateway migrate status")
    try:
        return await migration_status(connection)
    finally:
        await connection.close()
