"""``gateway keys``: API keys of applications, by the API of the instance that is named, else in the database itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from gateway.cli.client import connected
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.direct import by_api, user_here, with_pool
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import ago, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from gateway.web.keys import KeyInfo

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
    made = _create_by_api(name, wanted) if by_api() else _create_in_database(name, wanted)
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
    info = _revoke_by_api(key_id) if by_api() else _revoke_in_database(key_id)
    if info is None:
        raise CliError(f"There is no API key {key_id}. See: gateway keys list", Exit.NOTHING_MATCHED)
    if invocation().json:
        return print_json(info)
    print_facts({"id": info["id"], "name": info["name"], "revoked": info["revokedAt"]})


def _all_keys() -> list[dict[str, Any]]:
    from gateway.web.keys import list_keys as all_keys

    if not by_api():
        return [_plain(info) for info in with_pool(all_keys)]
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
        key, info = with_pool(lambda pool: create_key(pool, name, map(Scope, scopes), f"cli:{user_here()}"))
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

    info = with_pool(lambda pool: revoke_key(pool, key_id))
    return _plain(info) if info is not None else None


def _plain(info: KeyInfo) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(info)
    return found


def _row(key: dict[str, Any]) -> list[Any]:
    times = [ago(key[name]) for name in ("createdAt", "lastUsedAt", "revokedAt")]
    return [key["id"], key["name"], f"{key['prefix']}…", ", ".join(key["scopes"]), *times]
