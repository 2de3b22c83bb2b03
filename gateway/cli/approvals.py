"""``gateway approvals``: what agents want to do, and people's decisions on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gateway.cli.client import connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.instance import read_json_file
from gateway.cli.output import ago, print_facts, print_json, print_table

PATH = "/api/v1/orchestration/approvals"
STATUSES = (
    *("pending", "approved", "rejected", "expired", "refused", "planned", "executing", "executed", "failed"),
    "all",
)
_CELL_MAX = 60


@click.group(cls=GatewayGroup)
def approvals() -> None:
    """What agents want to do: show it, approve it, reject it."""


@approvals.command("list")
@click.option("--status", type=click.Choice(STATUSES), default="pending", show_default=True, help="Only these.")
@click.option("--project", "project_id", metavar="ID", help="Only of this project.")
@click.option("--run", "run_id", metavar="ID", help="Only of this run.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
def list_approvals(status: str, project_id: str | None, run_id: str | None, limit: int) -> None:
    """Actions, newest first. Exit code 5 when there is none."""
    wanted = None if status == "all" else status
    with connected() as client:
        found = client.pages(PATH, limit, status=wanted, projectId=project_id, runId=run_id)
    if invocation().json:
        print_json(found)
    else:
        columns = ["id", "status", "agent", "action", "risk", "what", "asked", "expires"]
        print_table(columns, [row_of(action) for action in found])
    if not found:
        raise CliError("nothing to approve" if status == "pending" else "no actions", Exit.NOTHING_MATCHED)


@approvals.command("show")
@click.argument("action_id", metavar="ID")
def show_approval(action_id: str) -> None:
    """One action: what is wanted, why, and what became of it."""
    with connected() as client:
        _print(client.get(f"{PATH}/{segment(action_id)}")["data"])


@approvals.command("approve")
@click.argument("action_id", metavar="ID")
@click.option("--comment", help="Why; kept with the decision.")
@click.option("--arguments", "arguments_file", metavar="FILE", help="Do this instead: a JSON file with all arguments.")
def approve(action_id: str, comment: str | None, arguments_file: str | None) -> None:
    """Have a pending action done."""
    edited = read_json_file(arguments_file) if arguments_file else None
    _decide(action_id, "approve", {"comment": comment, "editedArguments": edited})


@approvals.command("reject")
@click.argument("action_id", metavar="ID")
@click.option("--comment", help="Why; kept with the decision.")
def reject(action_id: str, comment: str | None) -> None:
    """Have a pending action not done."""
    _decide(action_id, "reject", {"comment": comment})


def _decide(action_id: str, word: str, body: Mapping[str, Any]) -> None:
    given = {name: value for name, value in body.items() if value is not None}
    with connected() as client:
        _print(client.post(f"{PATH}/{segment(action_id)}/{word}", given)["data"])


def row_of(action: Mapping[str, Any]) -> list[Any]:
    what = summary_of(action["arguments"])
    cut = what if len(what) <= _CELL_MAX else what[: _CELL_MAX - 1] + "…"
    return [
        *(action["id"], action["status"], action["agentSlug"], action["action"], action["risk"], cut),
        *(ago(action["createdAt"]), ago(action["expiresAt"])),
    ]


def summary_of(arguments: Mapping[str, Any]) -> str:
    """Arguments in a line: whom or what first, then what is said."""
    to, number = arguments.get("to"), arguments.get("number")
    where = ", ".join(to) if isinstance(to, list) else f"#{number}" if number is not None else ""
    said = next((str(arguments[name]) for name in ("subject", "title", "body") if arguments.get(name)), "")
    return " ".join(f"{where}: {said}".removeprefix(": ").split())


def _print(action: dict[str, Any]) -> None:
    if invocation().json:
        return print_json(action)
    facts = {
        "id": action["id"],
        "status": action["status"],
        "reason": action["reason"],
        "action": action["action"],
        **{f"  {name}": value for name, value in action["arguments"].items()},
        "rationale": action["rationale"],
        "risk": action["risk"],
        "agent": action["agentSlug"],
        "run": action["runId"],
        "project": action["projectId"],
        "expires": action["expiresAt"],
        "decided by": action["decidedBy"],
        "comment": action["comment"],
        "not before": action["notBefore"],
        "job": action["jobId"],
        **{f"  {name}": value for name, value in (action["outcome"] or {}).items()},
    }
    print_facts({name: value for name, value in facts.items() if value not in (None, "")})
