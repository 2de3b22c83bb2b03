"""``gateway keys``: API keys of applications, made in the database itself."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.database import explained
from gateway.cli.errors import CliError, Exit
from gateway.cli.local import environment, load_settings
from gateway.cli.loop import run_loop
from gateway.cli.output import ago, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")
DEFAULT_SCOPES = ("emails:send", "emails:read")


@click.group(cls=GatewayGroup)
def keys() -> None:
    """Create, list and revoke API keys of applications."""


@keys.command("create")
@click.option("--name", required=True, help="Which application it is for.")
@click.option(
    "--scope", "scopes", multiple=True, help=f"What it may do; may be repeated.  [{', '.join(DEFAULT_SCOPES)}]"
)
def create(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key. It is shown once: only its hash is kept."""
    from gateway.access import Scope
    from gateway.web.keys import create_key

    wanted = scopes or DEFAULT_SCOPES
    unknown = [scope for scope in wanted if scope not in set(Scope)]
    if unknown:
        raise CliError(f'"{unknown[0]}" is not a scope. Known: {", ".join(Scope)}', Exit.USAGE)
    try:
        key, info = _with_pool(lambda pool: create_key(pool, name, map(Scope, wanted), f"cli:{_user()}"))
    except ValueError as error:
        raise CliError(str(error), Exit.USAGE) from error
    if invocation().json:
        return print_json({**_plain(info), "key": key})
    say("This key is shown once; keep it where the application reads its secrets.")
    print_facts({"id": info.id, "name": info.name, "scopes": ", ".join(info.scopes), "key": key})


@keys.command("list")
def list_keys() -> None:
    """All keys, revoked ones too."""
    from gateway.web.keys import list_keys as all_keys

    found = [_plain(info) for info in _with_pool(all_keys)]
    if invocation().json:
        return print_json(found)
    columns = ["id", "name", "key", "scopes", "created", "last used", "revoked"]
    print_table(columns, [_row(key) for key in found])


@keys.command("revoke")
@click.argument("key_id", metavar="ID", type=click.UUID)
def revoke(key_id: UUID) -> None:
    """Refuse a key from now on. Revoking it again changes nothing."""
    from gateway.web.keys import revoke_key

    info = _with_pool(lambda pool: revoke_key(pool, key_id))
    if info is None:
        raise CliError(f"There is no API key {key_id}. See: gateway keys list", Exit.NOTHING_MATCHED)
    if invocation().json:
        return print_json(_plain(info))
    print_facts({"id": info.id, "name": info.name, "revoked": info.revoked_at})


def _with_pool(work: Callable[[asyncpg.Pool[asyncpg.Record]], Awaitable[T]]) -> T:
    from gateway.infra.postgres import open_pool

    url = load_settings(environment(invocation()), serving=False).settings.database_url

    async def run() -> T:
        pool = await open_pool(url, max_size=1, application_name="gateway keys")
        try:
            return await work(pool)
        finally:
            await pool.close()

    with explained(url):
        return run_loop(run())


def _user() -> str:
    """Who is at this terminal, for ``created_by``; containers may have a uid without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _plain(info: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(info)


def _row(key: dict[str, Any]) -> list[Any]:
    times = [ago(key[name]) for name in ("createdAt", "lastUsedAt", "revokedAt")]
    return [key["id"], key["name"], f"{key['prefix']}…", ", ".join(key["scopes"]), *times]
