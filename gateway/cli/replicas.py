"""``gateway replicas``."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.client import connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.output import ago, print_json, print_table

PATH = "/api/v1/admin/workers"
COLUMNS = ["id", "role", "version", "mode", "busy", "started", "seen", "draining"]


@click.group(cls=GatewayGroup)
def replicas() -> None:
    """Show the live replicas, and let one take no further job."""


@replicas.command("ls")
def list_replicas() -> None:
    """All live replicas and their slots."""
    with connected() as client:
        found = client.get(PATH)["data"]
    if invocation().json:
        return print_json(found)
    print_table(COLUMNS, [_row(replica) for replica in found])


@replicas.command("drain")
@click.argument("replica_id", metavar="ID")
def drain_replica(replica_id: str) -> None:
    """Let a replica take no further job. It finishes what it runs, serves HTTP as before, and takes jobs again when it
    is restarted. Exit code 5 when no live replica has this id."""
    with connected() as client:
        answer = client.post(f"{PATH}/{segment(replica_id)}/drain")["data"]
    if invocation().json:
        return print_json(answer)
    print_table(["id", "draining"], [[answer["id"], _yes(answer["draining"])]])


def _row(replica: dict[str, Any]) -> list[Any]:
    slots = replica["slots"].values()
    busy = f"{sum(s['busy'] for s in slots)} of {sum(s['slots'] for s in slots)}"
    started, seen = ago(replica["startedAt"]), ago(replica["seenAt"])
    draining = _yes(replica["draining"])
    return [replica["id"], replica["role"], replica["version"], replica["mode"], busy, started, seen, draining]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
