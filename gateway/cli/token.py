"""``gateway token``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.local import environment, load_settings
from gateway.cli.output import print_json

ROLES = ("user", "viewer", "operator", "admin")
TTL_MAX = timedelta(days=365)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def ttl_of(_ctx: click.Context, _param: click.Parameter, value: str) -> timedelta:
    """A positive time span such as 15m, 12h or 30d, up to a year. Raises click.BadParameter."""
    match = re.fullmatch(r"([1-9]\d{0,8})([smhd])", value)
    if match is None:
        raise click.BadParameter(f'"{value}" is not a time span; examples: 15m, 12h, 30d')
    span = timedelta(**{UNITS[match[2]]: int(match[1])})
    if span > TTL_MAX:
        raise click.BadParameter(f'"{value}" is more than a year; for machines use: gateway keys create')
    return span


@click.group(cls=GatewayGroup)
def token() -> None:
    """Mint tokens for people. Applications use API keys: gateway keys create."""


@token.command("create")
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True, help="What its bearer may do.")
@click.option(
    "--ttl",
    callback=ttl_of,
    default="12h",
    show_default=True,
    metavar="TIME",
    help="How long it is valid: 15m, 12h, 30d.",
)
@click.option("--sub", "--name", default="cli", show_default=True, help="Whose it is; stands in the audit trail.")
def create(role: str, ttl: timedelta, sub: str) -> None:
    """Print a token signed with JWT_SECRET. It cannot be revoked: keep --ttl short."""
    settings = load_settings(environment(invocation()), serving=False, database=False).settings
    if settings.jwt_secret is None:
        message = "JWT_SECRET is not set: tokens are minted by whoever holds it (or by your identity provider)."
        raise CliError(message, Exit.USAGE)
    from gateway.web.auth import mint_token

    expires = datetime.now(UTC) + ttl
    minted = mint_token(settings, sub, role, expires)
    if invocation().json:
        print_json({"token": minted, "sub": sub, "role": role, "expiresAt": expires.isoformat(timespec="seconds")})
    else:
        print(minted)
