"""``gateway keys``: API keys of applications, by the API of the instance that is named, else in the database itself."""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from gateway.cli.client import connected
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.database import explained
from gateway.cli.errors import CliError, Exit
from gateway.cli.instance import running_dev
from gateway.cli.local import environment, load_settings
from gateway.cli.loop import run_loop
from gateway.cli.output import ago, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    import asyncpg

    from gateway.web.keys import KeyInfo

T = TypeVar("T")
PATH = "/api/v1/admin/keys"
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

    wanted = scopes or DEFAULT_SCOPES
    unknown = [scope for scope in wanted if scope not in set(Scope)]
    if unknown:
        raise CliError(f'"{unknown[0]}" is not a scope. Known: {", ".join(Scope)}', Exit.USAGE)
    made = _create_by_api(name, wanted) if _by_api() else _create_in_database(name, wanted)
    if invocation().json:
        return print_json(made)
    say("This key is shown once; keep it where the application reads its secrets.")
    print_facts({"id": made["id"], "name": made["name"], "scopes": ", ".join(made["scopes"]), "key": made["key"]})


@keys.command("list")
def list_keys() -> None:
    """All keys, revoked ones too."""
    found = _all_keys()
    if invocation().json:
        return print_json(found)
    columns = ["id", "name", "key", "scopes", "created", "last used", "revoked"]
    print_table(columns, [_row(key) for key in found])


@keys.command("revoke")
@click.argument("key_id", metavar="ID", type=click.UUID)
def revoke(key_id: UUID) -> None:
    """Refuse a key from now on. Revoking it again changes nothing."""
    info = _revoke_by_api(key_id) if _by_api() else _revoke_in_database(key_id)
    if info is None:
        raise CliError(f"There is no API key {key_id}. See: gateway keys list", Exit.NOTHING_MATCHED)
    if invocation().json:
        return print_json(info)
    print_facts({"id": info["id"], "name": info["name"], "revoked": info["revokedAt"]})


def _by_api() -> bool:
    """An instance is named, or ``gateway dev`` runs here and the environment names no database of its own."""
    call = invocation()
    if call.url or os.environ.get("GATEWAY_URL"):
        return True
    own = any(os.environ.get(name) for name in ("DATABASE_URL", "DATABASE_URL_FILE"))
    return not own and running_dev(call.data_dir) is not None


def _all_keys() -> list[dict[str, Any]]:
    from gateway.web.keys import list_keys as all_keys

    if not _by_api():
        return [_plain(info) for info in _with_pool(all_keys)]
    with connected() as client:
        found: list[dict[str, Any]] = client.get(PATH)["data"]
    return found


def _create_by_api(name: str, scopes: Sequence[str]) -> dict[str, Any]:
    with connected() as client:
        made: dict[str, Any] = client.post(PATH, {"name": name, "scopes": list(scopes)})["data"]
    return made


def _create_in_database(name: str, scopes: Sequence[str]) -> dict[str, Any]:
    from gateway.access import Scope
    from gateway.web.keys import create_key

    try:
        key, info = _with_pool(lambda pool: create_key(pool, name, map(Scope, scopes), f"cli:{_user()}"))
    except ValueError as error:
        raise CliError(str(error), Exit.USAGE) from error
    return {**_plain(info), "key": key}


def _revoke_by_api(key_id: UUID) -> dict[str, Any] | None:
    with connected() as client:
        try:
            client.delete(f"{PATH}/{key_id}")
        except CliError as error:
            if error.code == "key_not_found":
                return None
            raise
    return next((key for key in _all_keys() if key["id"] == str(key_id)), None)


def _revoke_in_database(key_id: UUID) -> dict[str, Any] | None:
    from gateway.web.keys import revoke_key

    info = _with_pool(lambda pool: revoke_key(pool, key_id))
    return _plain(info) if info is not None else None


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


def _plain(info: KeyInfo) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(info)
    return found


def _row(key: dict[str, Any]) -> list[Any]:
    times = [ago(key[name]) for name in ("createdAt", "lastUsedAt", "revokedAt")]
    return [key["id"], key["name"], f"{key['prefix']}…", ", ".join(key["scopes"]), *times]
