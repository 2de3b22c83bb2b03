"""``gateway queues clean``."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.client import connected, segment
from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.jobs_change import confirm
from gateway.cli.limits import milliseconds
from gateway.cli.output import print_facts, print_json

QUEUES = "/api/v1/admin/queues"


@click.command("clean", cls=GatewayCommand)
@click.argument("name")
@click.option("--older", metavar="TIME", required=True, help="Those that ended longer ago: 30m, 24h, 7d.")
@click.option("--state", "--status", type=click.Choice(["completed", "failed"]), help="Only these; without it both.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="How many at most.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean_queue(name: str, older: str, state: str | None, limit: int, yes: bool) -> None:
    """Delete jobs that ended some time ago, oldest first. Needs the role admin."""
    body: dict[str, Any] = {"olderThanMs": milliseconds("--older", older), "limit": limit}
    if state:
        body["state"] = state
    with connected() as client:
        what = f"up to {limit} {state or 'completed and failed'} jobs of {name}, older than {older}"
        confirm(f"{what}, will be deleted", yes)
        cleaned = client.post(f"{QUEUES}/{segment(name)}/clean", body)["data"]["cleaned"]
    if invocation().json:
        return print_json(cleaned)
    print_facts(cleaned)
