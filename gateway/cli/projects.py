"""``gateway projects``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from gateway.cli.client import Client, connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import ago, print_facts, print_json, print_table

PATH = "/api/v1/projects"
USAGE_PATH = "/api/v1/orchestration/usage"
NONE = "none"
_FIGURES = {"runs": "runs", "calls": "calls", "inputTokens": "tokens in", "outputTokens": "tokens out"}


@click.group(cls=GatewayGroup)
def projects() -> None:
    """Projects: what agents work on, who belongs to them, and what they may spend."""


@projects.command("list")
@click.option("--archived", is_flag=True, help="Archived ones too.")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many at most.")
def list_projects(archived: bool, limit: int) -> None:
    """Your projects, newest first; viewers see all. Exit code 5 when there is none."""
    with connected() as client:
        found = client.pages(PATH, limit, archived="true" if archived else None)
    if invocation().json:
        print_json(found)
    else:
        columns = ["id", "name", "repository", "role", "budget", "created"]
        print_table(columns, [_row(project) for project in found])
    if not found:
        raise CliError("no projects", Exit.NOTHING_MATCHED)


@projects.command("show")
@click.argument("project_id", metavar="ID")
def show_project(project_id: str) -> None:
    """One project, its agents, and what it spent this month."""
    with connected() as client:
        _print(client, client.get(f"{PATH}/{segment(project_id)}")["data"])


@projects.command("create")
@click.argument("name")
@click.option("--repository", metavar="OWNER/NAME", help="On GitHub.")
@click.option("--facts", metavar="JSON", help="What every agent is told: an object; @FILE and @- read it.")
@click.option("--budget", metavar="USD", help="US dollars that it may spend in a month, 12.50.  [no bound]")
def create_project(name: str, **wanted: Any) -> None:
    """Make a project; you are its owner."""
    with connected() as client:
        _print(client, client.post(PATH, {"name": name, **body_of(wanted)})["data"])


@projects.command("set")
@click.argument("project_id", metavar="ID")
@click.option("--name", help="Its name.")
@click.option("--repository", metavar="OWNER/NAME", help="On GitHub; none takes it away.")
@click.option("--facts", metavar="JSON", help="What every agent is told, as a whole; @FILE and @- read it.")
@click.option("--budget", metavar="USD", help="US dollars that it may spend in a month; none is no bound.")
@click.option("--agents", metavar="SLUG[,SLUG]", help="The agents of its batches; all takes the choice back.")
@click.option("--archive/--open", "archived", default=None, help="No new runs; or let it have some again.")
def set_project(project_id: str, agents: str | None, **wanted: Any) -> None:
    """Change what is named, and nothing else."""
    path = f"{PATH}/{segment(project_id)}"
    body = body_of(wanted)
    if not body and agents is None:
        raise CliError("nothing to change is named; see gateway projects set --help", Exit.USAGE)
    with connected() as client:
        if body:
            client.patch(path, body)
        if agents is not None:
            slugs = [slug.strip() for slug in agents.split(",") if slug.strip()]
            client.put(f"{path}/agents", {"enabled": None if slugs == ["all"] else slugs})
        _print(client, client.get(path)["data"])


@projects.command("members")
@click.argument("project_id", metavar="ID")
@click.option("--add", multiple=True, metavar="PRINCIPAL", help="Make somebody a member; may be repeated.")
@click.option("--owner", multiple=True, metavar="PRINCIPAL", help="Make somebody an owner; may be repeated.")
@click.option("--remove", multiple=True, metavar="PRINCIPAL", help="Take somebody out; may be repeated.")
def project_members(project_id: str, add: tuple[str, ...], owner: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Who belongs to a project. A principal is a token's subject, or the id of an API key."""
    path = f"{PATH}/{segment(project_id)}/members"
    with connected() as client:
        for principal, role in (*((one, "owner") for one in owner), *((one, "member") for one in add)):
            client.put(f"{path}/{segment(principal)}", {"role": role})
        for principal in remove:
            client.delete(f"{path}/{segment(principal)}")
        found = client.get(path)["data"]
    if invocation().json:
        return print_json(found)
    rows = [[member["principal"], member["role"], ago(member["addedAt"])] for member in found]
    print_table(["principal", "role", "added"], rows)


@projects.command("usage")
@click.argument("project_id", metavar="[ID]", required=False)
@click.option("--by", default="agent", show_default=True, help="Any of agent, model, day, project, run; with commas.")
@click.option("--from", "since", metavar="DAY", help="2026-12-01, or a time with a zone.  [30 days before]")
@click.option("--until", metavar="DAY", help="Up to its beginning.  [now]")
def project_usage(project_id: str | None, by: str, since: str | None, until: str | None) -> None:
    """Tokens and cost of a project, or of all that you see."""
    query = {"projectId": project_id, "groupBy": by, "from": since, "until": until}
    with connected() as client:
        found = client.get(USAGE_PATH, **query)["data"]
    if invocation().json:
        return print_json(found)
    names = [name for name in (found["rows"] or [{}])[0] if name not in found["total"]]
    columns = [*names, *_FIGURES.values(), "USD"]
    total = ["total"] * bool(names) + [""] * (len(names) - 1) + _figures(found["total"])
    print_table(columns, [*([*(row[name] for name in names), *_figures(row)] for row in found["rows"]), total])


def body_of(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the request for the options that were given. Raises click.BadParameter."""
    body: dict[str, Any] = {}
    for name in ("name", "archived"):
        if wanted.get(name) is not None:
            body[name] = wanted[name]
    if (repository := wanted.get("repository")) is not None:
        body["repository"] = None if repository == NONE else repository
    if (facts := wanted.get("facts")) is not None:
        body["facts"] = _json(facts)
    if (budget := wanted.get("budget")) is not None:
        body["monthlyBudgetCents"] = None if budget == NONE else cents_of(budget)
    return body


def cents_of(text: str) -> int:
    """Raises click.BadParameter for what is no amount in dollars and cents."""
    try:
        cents = Decimal(text) * 100
    except InvalidOperation:
        cents = Decimal("NaN")
    if not cents.is_finite() or cents < 0 or cents > 10**9 or cents != int(cents):
        raise click.BadParameter(f'--budget: "{text}" is no amount of US dollars such as 12 or 12.50, and not {NONE}')
    return int(cents)


def _json(text: str) -> Any:
    try:
        if text.startswith("@"):
            text = sys.stdin.read() if text == "@-" else Path(text[1:]).read_text("utf-8")
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"--facts: {error}") from error


def _row(project: Mapping[str, Any]) -> list[Any]:
    state = " (archived)" if project["archivedAt"] else ""
    budget = _budget(project["budget"])
    return [
        project["id"],
        project["name"] + state,
        project["repository"],
        project["role"],
        budget,
        ago(project["createdAt"]),
    ]


def _budget(budget: Mapping[str, Any]) -> str:
    spent = f"${budget['spentCents'] / 100:,.2f}"
    if budget["monthlyCents"] is None:
        return spent
    state = "exhausted" if budget["exhausted"] else "80 % are spent" if budget["warning"] else ""
    return f"{spent} of ${budget['monthlyCents'] / 100:,.2f}" + (f", {state}" if state else "")


def _figures(row: Mapping[str, Any]) -> list[Any]:
    return [*(row[name] for name in _FIGURES), f"{row['costCents'] / 100:,.4f}"]


def _print(client: Client, project: dict[str, Any]) -> None:
    if invocation().json:
        return print_json(project)
    choice = client.get(f"{PATH}/{project['id']}/agents")["data"]
    print_facts(
        {
            "id": project["id"],
            "name": project["name"],
            "repository": project["repository"],
            "facts": project["facts"],
            "spent this month": _budget(project["budget"]),
            "resets at": project["budget"]["resetsAt"],
            "agents": ", ".join(choice["running"]) or "none",
            "chosen": choice["enabled"] is not None,
            "your role": project["role"],
            "created": f"{ago(project['createdAt'])} by {project['createdBy']}",
            "archived": ago(project["archivedAt"]),
        }
    )
