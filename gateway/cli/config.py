"""``gateway config``."""

from __future__ import annotations

import click

from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.local import environment, load_settings
from gateway.cli.output import print_json, print_table


@click.group(cls=GatewayGroup)
def config() -> None:
    """Show effective settings, or all there are. Secrets are masked."""


@config.command("show")
def show() -> None:
    """Effective values, and where each came from."""
    from gateway.settings import setting_rows

    loaded = load_settings(environment(invocation()), serving=False)
    rows = setting_rows(loaded.settings, loaded.sources)
    if invocation().json:
        return print_json({row.name: {"value": row.value, "source": row.source} for row in rows})
    print_table(["setting", "value", "source"], [[row.name, row.value, row.source] for row in rows])


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
