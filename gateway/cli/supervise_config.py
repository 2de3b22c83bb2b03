"""Which ecosystem file a command of ``gateway supervise`` is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gateway.cli.errors import CliError, Exit

if TYPE_CHECKING:
    from gateway.supervise.config import Ecosystem

PLACES = (Path("ecosystem.toml"), Path("pm2-like") / "ecosystem.toml")
_KEY = "gateway.cli.supervise_config"


def _remember(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.meta[_KEY] = value


def config_option(command: Any) -> Any:
    """``--config`` may stand before or after the verb."""
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        expose_value=False,
        callback=_remember,
        help="The ecosystem file (else ecosystem.toml, else pm2-like/ecosystem.toml).",
    )(command)


def ecosystem_file() -> Path:
    """The file of the running command. Raises CliError."""
    given: Path | None = click.get_current_context().meta.get(_KEY)
    if given is not None:
        return given
    for place in PLACES:
        if place.exists():
            return place
    raise CliError(
        "No ecosystem.toml here. Name one with --config FILE, or copy pm2-like/ecosystem.toml and set its cwd.",
        Exit.USAGE,
    )


def read_config(path: Path, instances: str | None = None) -> Ecosystem:
    """``instances`` goes before the file's. Raises CliError."""
    from gateway.supervise.config import ConfigError, instances_of, read_ecosystem

    try:
        eco = read_ecosystem(path)
        if instances is None:
            return eco
        number = instances_of(int(instances) if instances.isdecimal() else instances)
        return msgspec.structs.replace(eco, instances=number)
    except (ConfigError, ValueError) as error:
        raise CliError(str(error), Exit.USAGE, "invalid_config") from error
