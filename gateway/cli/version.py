"""``gateway version``."""

from __future__ import annotations

import platform

import click

from gateway import __version__
from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.output import print_json


@click.command(cls=GatewayCommand)
def version() -> None:
    """Print the version."""
    if invocation().json:
        print_json({"gateway": __version__, "python": platform.python_version()})
    else:
        print(f"gateway {__version__}")
