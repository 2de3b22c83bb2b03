"""``gateway supervise unit``."""

from __future__ import annotations

import getpass
import os
import pwd
import sys
from pathlib import Path

import click

from gateway.cli.command import GatewayCommand
from gateway.cli.errors import CliError, Exit
from gateway.cli.local import load_settings
from gateway.cli.output import say
from gateway.cli.supervise_config import config_option, ecosystem_file, read_config

DIRECTORY = Path("/etc/systemd/system")


@click.command(cls=GatewayCommand)
@click.option("--install", is_flag=True, help="Write it instead of printing it; needs root.")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=DIRECTORY, show_default=True)
@click.option("--user", help="Who runs it (else who calls this).")
@config_option
def unit(install: bool, directory: Path, user: str | None) -> None:
    """Print a systemd unit that starts the supervisor at boot, or install it."""
    from gateway.supervise.unit import Unit

    eco = read_config(ecosystem_file())
    os.chdir(eco.cwd)
    settings = load_settings({**os.environ, **eco.env}, serving=False, database=False).settings
    owner = user or getpass.getuser()
    try:
        pwd.getpwnam(owner)
    except KeyError:
        raise CliError(f'there is no user "{owner}"; name one with --user', Exit.USAGE) from None
    writable = {eco.socket.parent, *(path.parent for path in (eco.out_file, eco.error_file) if path is not None)}
    made = Unit(
        name=eco.name,
        instances=eco.instances,
        user=owner,
        cwd=eco.cwd,
        command=f"{sys.executable} -m gateway",
        config=eco.path,
        grace_s=settings.shutdown_grace_s,
        port=settings.port,
        writable=tuple(writable),
    )
    try:
        text = made.text()
    except ValueError as error:
        raise CliError(str(error)) from error
    if not install:
        print(text, end="")
        return
    _install(directory / f"{eco.name}.service", text, writable, owner)


def _install(path: Path, text: str, writable: set[Path], owner: str) -> None:
    try:
        for place in writable:  # systemd refuses to start a unit whose writable paths are missing
            if not place.exists():
                place.mkdir(parents=True)
                os.chown(place, pwd.getpwnam(owner).pw_uid, pwd.getpwnam(owner).pw_gid)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}. Run it as root, or print it without --install.") from error
    say(f"{path} is written. Now: systemctl daemon-reload && systemctl enable --now {path.stem}")
