"""``gateway login-link``: by the API of the instance that is named, else in the database itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from gateway.cli.client import connected
from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.direct import by_api, user_here, with_pool
from gateway.cli.errors import CliError, Exit
from gateway.cli.local import environment, load_settings
from gateway.cli.output import print_json, say
from gateway.cli.token import ttl_of

PATH = "/api/v1/admin/logins"
PAGE = "/admin/queues/login"
ROLES = ("viewer", "operator", "admin")


@click.command("login-link", cls=GatewayCommand)
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="What its bearer may do.")
@click.option("--sub", "--name", default=None, help="Whose it is; stands in the audit trail.  [who makes it]")
@click.option(
    "--ttl",
    callback=ttl_of,
    default="10m",
    show_default=True,
    metavar="TIME",
    help="How long the link is good: 2m, 1h at most.",
)
@click.option("--at", default=None, metavar="URL", help="Where browsers reach the gateway.  [the instance's address]")
def login_link(role: str, sub: str | None, ttl: timedelta, at: str | None) -> None:
    """Print a link that signs in to the dashboard, once. The session lasts 12 hours; signing out ends it."""
    from gateway.web.logins import VALID_MAX

    if ttl > VALID_MAX:
        raise CliError("--ttl is 1h at most: the link is for whoever opens it now", Exit.USAGE)
    if at is not None and not at.startswith(("http://", "https://")):
        raise CliError(f'--at "{at}" is no address of a page; write https://gateway.example', Exit.USAGE)
    made, address = _by_api(role, sub, ttl) if by_api() else _in_database(role, sub, ttl)
    link = f"{(at or address).rstrip('/')}{PAGE}#{made['code']}"
    if invocation().json:
        return print_json({**made, "url": link})
    say(f"Good once, until {made['expiresAt']}, as {made['subject']} ({role}). Its end is the code, to be typed too.")
    print(link)


def _by_api(role: str, sub: str | None, ttl: timedelta) -> tuple[dict[str, Any], str]:
    asked = {"role": role, "validS": int(ttl.total_seconds())} | ({"subject": sub} if sub is not None else {})
    with connected() as client:
        made: dict[str, Any] = client.post(PATH, asked)["data"]
        return made, client.target.url


def _in_database(role: str, sub: str | None, ttl: timedelta) -> tuple[dict[str, Any], str]:
    import msgspec

    from gateway.access import Role
    from gateway.web.logins import create_login

    who = f"cli:{user_here()}"
    settings = load_settings(environment(invocation()), serving=False).settings
    try:
        code, login = with_pool(lambda pool: create_login(pool, sub or who, Role(role), who, valid=ttl))
    except ValueError as error:
        raise CliError(str(error), Exit.USAGE) from error
    return {**msgspec.to_builtins(login), "code": code}, f"http://localhost:{settings.port}"
