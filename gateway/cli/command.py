"""The options that every command takes, and groups that load their commands when they are called."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

DATA_DIR = Path(".gateway")

C = TypeVar("C", bound=click.Command)


@dataclass
class Invocation:
    """The global options of one call; they may stand before or after the verb, the later one wins."""

    json: bool = False
    verbose: bool = False
    url: str | None = None
    token: str | None = None
    data_dir: Path = DATA_DIR


def _store(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and param.name is not None:
        setattr(ctx.ensure_object(Invocation), param.name, value)


def _stored(*names: str, **attributes: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=_store, default=None, **attributes)


def global_options() -> list[click.Option]:
    return [
        _stored("--json", is_flag=True, flag_value=True, type=bool, help="Print JSON."),
        _stored("--url", metavar="URL", help="The instance to talk to (GATEWAY_URL; else the running `gateway dev`)."),
        _stored(
            "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where `gateway dev` keeps its data."
        ),
        _stored("-v", "--verbose", is_flag=True, flag_value=True, type=bool, help="Show tracebacks."),
    ]


class GatewayCommand(click.Command):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())


class GatewayGroup(click.Group):
    """A group whose unknown commands are answered with the nearest known one."""

    command_class = GatewayCommand

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
            raise click.UsageError(f'unknown command "{name}"; {hint}', ctx)
        return super().resolve_command(ctx, args)


@dataclass(frozen=True)
class LazyCommand:
    """``module:attribute`` of a command, and the line that ``--help`` shows without importing it."""

    target: str
    help: str

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.target} is not a command")
        return command


class LazyGroup(GatewayGroup):
    """A group that imports a command's module when that command is called."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.lazy.get(cmd_name)
        return entry.load() if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.lazy.items()])


def invocation() -> Invocation:
    """The global options of the running command."""
    return click.get_current_context().ensure_object(Invocation)
