"""``gateway replicas``."""

from __future__ import annotations

import socket
from typing import Any

import click

from gateway.cli.client import Client, connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import ago, print_json, print_table, say

PATH = "/api/v1/admin/workers"
COLUMNS = ["id", "role", "version", "settings", "mode", "queues", "busy", "started", "seen", "draining"]


@click.group(cls=GatewayGroup)
def replicas() -> None:
    """Show the live replicas, and let one take no further job."""


@replicas.command("ls")
def list_replicas() -> None:
    """All live replicas and their slots; what is odd about them together is said on stderr."""
    with connected() as client:
        found, odd = client.get(PATH)["data"], client.get(f"{PATH}/oddities")["data"]
    for oddity in odd:
        say(f"warning: {oddity['message']}")
    if invocation().json:
        return print_json(found)
    print_table(COLUMNS, [_row(replica) for replica in found])


@replicas.command("drain")
@click.argument("replica_id", metavar="[ID]", required=False)
@click.option("--here", is_flag=True, help="All replicas of this machine, by its host name.")
@click.option(
    "--within",
    type=click.IntRange(1, 86_400),
    metavar="SECONDS",
    help="The machine goes then: what has not ended 15 s before is handed back; also no HTTP traffic is wanted.",
)
def drain_replica(replica_id: str | None, here: bool, within: int | None) -> None:
    """Let a replica take no further job. It finishes what it runs, serves HTTP as before, and takes jobs again when it
    is restarted. Exit code 5 when no live replica has this id.

    On a spot machine that has been told to go: gateway replicas drain --here --within 120
    """
    if here == (replica_id is not None):
        raise CliError("Name a replica's ID (gateway replicas ls), or --here for those of this machine.", Exit.USAGE)
    with connected() as client:
        answers = _drain_here(client, within) if replica_id is None else [_drain(client, replica_id, within)]
    if invocation().json:
        return print_json(answers if here else answers[0])
    print_table(["id", "draining"], [[answer["id"], _yes(answer["draining"])] for answer in answers])


def _drain(client: Client, replica_id: str, within_s: int | None) -> dict[str, Any]:
    path = f"{PATH}/{segment(replica_id)}/drain"
    answer = client.post(path) if within_s is None else client.post(path, withinS=str(within_s))
    data: dict[str, Any] = answer["data"]
    return data


def _drain_here(client: Client, within_s: int | None) -> list[dict[str, Any]]:
    answers = []
    for one in _of_this_machine(client):
        try:
            answers.append(_drain(client, one, within_s))
        except CliError as error:  # one that ended meanwhile must not keep the others from it
            if error.exit_code is not Exit.NOTHING_MATCHED:
                raise
    return answers


def _of_this_machine(client: Client) -> list[str]:
    host = socket.gethostname()
    ids = [replica["id"] for replica in client.get(PATH)["data"] if replica["host"] == host]
    if not ids:
        raise CliError(f"no live replica on {host}", Exit.NOTHING_MATCHED)
    return ids


def _row(replica: dict[str, Any]) -> list[Any]:
    slots = replica["slots"].values()
    busy = f"{sum(s['busy'] for s in slots)} of {sum(s['slots'] for s in slots)}"
    return [
        *(replica["id"], replica["role"], replica["version"], replica["configurationHash"], replica["mode"]),
        *(",".join(sorted(replica["slots"])) or "-", busy, ago(replica["startedAt"]), ago(replica["seenAt"])),
        _yes(replica["draining"]),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
