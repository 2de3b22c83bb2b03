"""``gateway supervise logs``."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

import click

from gateway.cli.command import GatewayCommand
from gateway.cli.errors import CliError, Exit
from gateway.cli.supervise_config import config_option, ecosystem_file, read_config

_FOLLOW_S = 0.2
_SEARCHED_LINES = 100_000  # of one process among many: so far back
_SOURCE = re.compile(r"^\S+ \S+ \S+ (\S+) \| ")


@click.command(cls=GatewayCommand)
@click.option("-n", "--lines", type=click.IntRange(0, 100_000), default=15, show_default=True, help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written.")
@click.option("--err", "only_errors", is_flag=True, help="Warnings and errors only (the error_file).")
@click.option("--process", metavar="N", help="Of one process, or of the supervisor.")
@config_option
def logs(lines: int, follow: bool, only_errors: bool, process: str | None) -> None:
    """Show the logs of all processes together; each line has its date and its process. Works without a supervisor."""
    from gateway.supervise.tail import Follower, last_lines

    eco = read_config(ecosystem_file())
    named = (eco.error_file,) if only_errors else (eco.out_file, eco.error_file)
    paths = list(dict.fromkeys(path for path in named if path is not None))  # both may be one file
    followers = [Follower(path) for path in paths] if follow else []
    if not follow and not any(path.exists() for path in paths):
        raise CliError(f"There are no logs yet: {_names(paths)}", Exit.NOTHING_MATCHED)
    found = last_lines(paths, lines if process is None else _SEARCHED_LINES)
    for line in [line for line in found if _is_of(line, process)][-lines or len(found) :]:
        _show(line)
    try:
        while follow:
            for follower in followers:
                for line in follower.new_lines():
                    if _is_of(line, process):
                        _show(line)
            time.sleep(_FOLLOW_S)
    except KeyboardInterrupt:
        return
    finally:
        for follower in followers:
            follower.close()


def _is_of(line: str, process: str | None) -> bool:
    source = _SOURCE.match(line)
    return process is None or (source is not None and source[1] == process)


def _show(line: str) -> None:
    # What applications log may hold control characters: they must not reach the terminal.
    print("".join(one if one.isprintable() or one == "\t" else " " for one in line), flush=True)


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths)) or "the configuration names no files"
