"""``gateway config``."""

from __future__ import annotations

import click

from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError
from gateway.cli.local import ENV_FILE, environment
from gateway.cli.output import print_json, print_table, say


@click.group(cls=GatewayGroup)
def config() -> None:
    """Show effective settings, or all there are. Secrets are masked."""


@config.command("show")
def show() -> None:
    """Effective values, where each came from, and what is wrong with it. Exit code 1 when something is wrong."""
    from gateway.settings import SettingsError, load, setting_rows

    problem: SettingsError | None = None
    try:
        loaded = load(environment(invocation()), env_file=ENV_FILE, serving=False)
        rows, warnings = setting_rows(loaded.settings, loaded.sources), loaded.warnings
    except SettingsError as error:
        rows, warnings, problem = list(error.rows), (), error
    for warning in warnings:
        say(f"warning: {warning}")
    if invocation().json:
        print_json({row.name: {"value": row.value, "source": row.source, "problem": row.problem} for row in rows})
    else:
        columns = ["setting", "value", "source", "problem"]
        print_table(columns, [[row.name, row.value, row.source, row.problem] for row in rows])
    if problem is not None:
        raise CliError(problem.told("These settings are not valid"), code="invalid_settings") from problem


@config.command("docs")
@click.option("--markdown", is_flag=True, help="A Markdown table, as in docs/settings.md.")
def docs(markdown: bool) -> None:
    """All settings: default and meaning."""
    from gateway.settings import setting_rows

    rows = setting_rows()
    if invocation().json:
        return print_json([{"name": r.name, "default": r.default, "description": r.description} for r in rows])
    if markdown:
        print("| Variable | Default | Meaning |\n|---|---|---|")
        for row in rows:
            default = "-" if row.default is None else f"`{row.default}`"
            print(f"| `{row.name}` | {default} | {row.description.replace('|', chr(92) + '|')} |")
        return None
    print_table(["setting", "default", "meaning"], [[row.name, row.default, row.description] for row in rows])
