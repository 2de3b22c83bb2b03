"""``gateway supervise monit``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
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
    from gateway.supervise.messages import Status

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
    return drawn(supervisor_status(eco.socket), _last(eco.out_file, eco.error_file))


def drawn(found: Status, last: Iterable[Text]) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    heading = _whole("  ".join(f"{name} {value}" for name, value in facts(found).items()), "bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column)
    for process, row in zip(found.processes, rows(found), strict=True):
        style = {"ready": "green", "given up": "red"}.get(process.state, "yellow")
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row), style=style)
    told = [_whole(reason, "yellow") for reason in reasons(found)]
    return Group(heading, _whole(""), table, *told, _whole(""), *last)


def _whole(text: str, style: str = "") -> Text:
    """On several lines where it is long: what to do mostly stands at the end."""
    from rich.text import Text

    return Text(text, style=style, no_wrap=False, overflow="fold")


def _last(*paths: Path | None) -> list[Text]:
    from rich.text import Text

    lines = last_lines({path for path in paths if path is not None}, _LINES)
    return [Text("".join(c if c.isprintable() else " " for c in line), style="dim", no_wrap=True) for line in lines]
