"""``gateway supervise monit``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.command import GatewayCommand
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import console, for_people
from gateway.cli.supervise_config import config_option, ecosystem_file, read_config
from gateway.cli.supervise_control import COLUMNS, facts, reasons, rows, supervisor_status
from gateway.supervise.tail import last_lines

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from gateway.supervise.config import Ecosystem

_REFRESH_S = 1.0
_LINES = 8


@click.command(cls=GatewayCommand)
@config_option
def monit() -> None:
    """Watch the processes in the terminal; Ctrl+C ends the watching."""
    from rich.live import Live

    if not for_people(sys.stdout):
        raise CliError("monit needs a terminal; elsewhere use: gateway supervise status --json", Exit.USAGE)
    eco = read_config(ecosystem_file())
    try:
        with Live(_screen(eco), console=console(), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(_REFRESH_S)
                live.update(_screen(eco), refresh=True)
    except KeyboardInterrupt:
        return


def _screen(eco: Ecosystem) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = supervisor_status(eco.socket)
    heading = Text("  ".join(f"{name} {value}" for name, value in facts(found).items()), style="bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column)
    for process, row in zip(found.processes, rows(found), strict=True):
        style = {"ready": "green", "given up": "red"}.get(process.state, "yellow")
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row), style=style)
    told = [Text(reason, style="yellow") for reason in reasons(found)]
    return Group(heading, Text(), table, *told, Text(), *_last(eco.out_file, eco.error_file))


def _last(*paths: Path | None) -> list[Text]:
    from rich.text import Text

    lines = last_lines({path for path in paths if path is not None}, _LINES)
    return [Text("".join(c if c.isprintable() else " " for c in line), style="dim", no_wrap=True) for line in lines]
