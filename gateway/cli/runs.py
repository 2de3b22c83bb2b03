"""``gateway runs``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click

from gateway.cli.approvals import PATH as APPROVALS_PATH
from gateway.cli.client import Client, connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.limits import milliseconds
from gateway.cli.output import ago, duration, print_facts, print_json, print_table, say
from gateway.cli.projects import PATH as PROJECTS_PATH
from gateway.cli.runs_watch import money, step_line, watch_run
from gateway.cli.times import moment_of

PATH = "/api/v1/orchestration/jobs"
STATUSES = ("queued", "running", "awaiting_approval", "completed", "failed", "cancelled")
TYPES = ("batch", "single_agent", "github_analysis", "retry")
CONFLICTS = ("reject", "enqueue", "replace")
INTERACTIVE = 10


@click.group(cls=GatewayGroup)
def runs() -> None:
    """Agents at work: start them, watch them, stop them, decide what they may do."""


@runs.command("start")
@click.argument("project")
@click.option("--agent", metavar="SLUG", help="This agent alone.  [all that are enabled in the project]")
@click.option("--type", "job_type", type=click.Choice(TYPES), help="What to do.  [batch; single_agent with --agent]")
@click.option("--context", metavar="JSON", help="What the agents are told: an object; @FILE and @- read it.")
@click.option("--dry-run", is_flag=True, help="Decide and show; change nothing.")
@click.option("--budget", "budget_cents", type=click.FloatRange(0, min_open=True), metavar="CENTS", help="US cents.")
@click.option("--timeout", metavar="TIME", help="For the whole run: 90s, 30m.")
@click.option("--at", "scheduled_at", metavar="TIME", help="Not before: 15:00, 2h, 2026-05-01T15:00+02:00.")
@click.option("--priority", type=click.IntRange(0, 10), metavar="N", help="0 to 10, higher first.  [10 with --watch]")
@click.option("--on-conflict", type=click.Choice(CONFLICTS), help="While one of the kind is open.  [reject]")
@click.option("--watch", is_flag=True, help="Follow it until it has ended.")
def start_run(project: str, watch: bool, **wanted: Any) -> None:
    """Start a run in a project, which is named by its id or its name."""
    with connected() as client:
        body = {"projectId": project_id_of(client, project), **body_of(wanted, watch, datetime.now().astimezone())}
        # One key per call: a client library below that repeats the request cannot start two.
        started = client.post(PATH, body, headers={"Idempotency-Key": f"cli-{uuid4()}"})["data"]
        if watch:
            sys.exit(watch_run(client, PATH, started["jobId"]))
    _print_started(started)


@runs.command("list")
@click.option("--project", help="Only of this one: its id or its name.")
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
def list_runs(project: str | None, status: str | None, limit: int) -> None:
    """Runs, newest first. Exit code 5 when there is none."""
    with connected() as client:
        project_id = project_id_of(client, project) if project else None
        found = client.pages(PATH, limit, projectId=project_id, status=status)
    if invocation().json:
        print_json(found)
    else:
        columns = ["id", "status", "type", "agent", "by", "started", "took", "agents", "cost", "error"]
        print_table(columns, [row_of(run) for run in found])
    if not found:
        raise CliError("no runs", Exit.NOTHING_MATCHED)


@runs.command("show")
@click.argument("run_id", metavar="ID")
@click.option("--output", is_flag=True, help="Print what the agents answered, as JSON.")
def show_run(run_id: str, output: bool) -> None:
    """One run: its steps, its result, and what it cost."""
    with connected() as client:
        run = client.get(f"{PATH}/{segment(run_id)}")["data"]
    if output:
        return print_json({step["agentSlug"] or step["kind"]: step["output"] for step in run["steps"]})
    _print(run)


@runs.command("watch")
@click.argument("run_id", metavar="ID")
@click.option("--words", is_flag=True, help="Print the models' words as they come.")
def watch(run_id: str, words: bool) -> None:
    """Follow a run until it has ended. Exit code 1 if it failed or was cancelled."""
    with connected() as client:
        sys.exit(watch_run(client, PATH, run_id, words=words))


@runs.command("cancel")
@click.argument("run_id", metavar="ID")
@click.option("--reason", help="Why; kept with the run.")
def cancel_run(run_id: str, reason: str | None) -> None:
    """End a run; what it has done stays."""
    with connected() as client:
        run = client.post(f"{PATH}/{segment(run_id)}/cancel", {"reason": reason} if reason else {})["data"]
    if invocation().json:
        return print_json(run)
    say("it is told to end" if run["status"] == "running" else f"it is {run['status']}")


@runs.command("retry")
@click.argument("run_id", metavar="ID")
@click.option("--watch", is_flag=True, help="Follow it until it has ended.")
def retry_run(run_id: str, watch: bool) -> None:
    """Do what a run left undone, as a new run; what was completed is not paid again."""
    with connected() as client:
        key = {"Idempotency-Key": f"cli-{uuid4()}"}
        started = client.post(f"{PATH}/{segment(run_id)}/retry", headers=key)["data"]
        if watch:
            sys.exit(watch_run(client, PATH, started["jobId"]))
    _print_started(started)


@runs.command("approve")
@click.argument("run_id", metavar="ID")
@click.option("--comment", help="Why; kept with the decision.")
def approve(run_id: str, comment: str | None) -> None:
    """Have everything done that a run waits for (or the one action with this id)."""
    _decide(run_id, "approve", comment)


@runs.command("reject")
@click.argument("run_id", metavar="ID")
@click.option("--comment", help="Why; kept with the decision.")
def reject(run_id: str, comment: str | None) -> None:
    """Have nothing done that a run waits for (or not the one action with this id)."""
    _decide(run_id, "reject", comment)


def _decide(run_id: str, word: str, comment: str | None) -> None:
    body = {"comment": comment} if comment else {}
    with connected() as client:
        pending = client.pages(APPROVALS_PATH, 500, status="pending", runId=run_id)
        ids = [action["id"] for action in pending] or [run_id]
        decided = [client.post(f"{APPROVALS_PATH}/{segment(each)}/{word}", body)["data"] for each in ids]
    if invocation().json:
        return print_json(decided)
    rows = [[action["id"], action["status"], action["agentSlug"], action["action"]] for action in decided]
    print_table(["action", "status", "agent", "what"], rows)


def project_id_of(client: Client, project: str) -> str:
    """The id of a project that is named by its id or its name. Raises CliError."""
    try:
        return str(UUID(project))
    except ValueError:
        found = [one for one in client.pages(PROJECTS_PATH, 1000) if one["name"] == project]
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        raise CliError(f"no project is named {project!r}; gateway projects list shows them", Exit.NOTHING_MATCHED)
    ids = ", ".join(one["id"] for one in found)
    raise CliError(f"{len(found)} projects are named {project!r}; take one's id: {ids}", Exit.USAGE)


def body_of(wanted: Mapping[str, Any], watch: bool, now: datetime) -> dict[str, Any]:
    """The body of the request for the options of ``gateway runs start``. Raises click.BadParameter."""
    agent = wanted["agent"]
    body = {
        "jobType": wanted["job_type"] or ("single_agent" if agent else "batch"),
        "agentSlug": agent,
        "triggeredBy": "manual",
        "context": _context(wanted["context"]),
        "dryRun": wanted["dry_run"] or None,
        "budgetCents": wanted["budget_cents"],
        "timeoutMs": milliseconds("--timeout", wanted["timeout"]) if wanted["timeout"] else None,
        "scheduledAt": moment_of(wanted["scheduled_at"], now).isoformat() if wanted["scheduled_at"] else None,
        "priority": INTERACTIVE if watch and wanted["priority"] is None else wanted["priority"],
        "onConflict": wanted["on_conflict"],
    }
    return {field: value for field, value in body.items() if value is not None}


def _context(text: str | None) -> Any:
    if text is None:
        return None
    try:
        if text.startswith("@"):
            text = sys.stdin.read() if text == "@-" else Path(text[1:]).read_text("utf-8")
        context = json.loads(text)
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"--context: {error}") from error
    if not isinstance(context, dict):
        raise click.BadParameter("--context: must be a JSON object")
    return context


def row_of(run: Mapping[str, Any]) -> list[Any]:
    result = run["result"] or {}
    agents = f"{result['agentsSucceeded']} of {result['agentsExecuted']}" if result.get("agentsExecuted") else "-"
    return [
        *(run["id"], run["status"], run["jobType"], run["agentSlug"], run["triggeredBy"]),
        *(ago(run["startedAt"]), took(run), agents, money(run["usage"]["costCents"]), run["error"]),
    ]


def took(run: Mapping[str, Any]) -> str:
    if run["startedAt"] is None or run["finishedAt"] is None:
        return "-"
    span = datetime.fromisoformat(run["finishedAt"]) - datetime.fromisoformat(run["startedAt"])
    return duration(span.total_seconds())


def _print_started(started: dict[str, Any]) -> None:
    if invocation().json:
        return print_json(started)
    print_facts({"run": started["jobId"], "status": started["status"], "mode": started["mode"]})
    if started["duplicate"]:
        say(started["message"])


def _print(run: dict[str, Any]) -> None:
    if invocation().json:
        return print_json(run)
    usage, result = run["usage"], run["result"] or {}
    facts = {
        "id": run["id"],
        "status": run["status"],
        "type": run["jobType"],
        "agent": run["agentSlug"],
        "project": run["projectId"],
        "started by": " ".join(str(one) for one in (run["triggeredBy"], run["userId"]) if one),
        "repeats": run["retryOf"],
        "progress": f"{run['progress']['percent']} % ({run['progress']['stage']})",
        "attempts": run["attempts"],
        "started": ago(run["startedAt"]),
        "took": took(run),
        "suggestions": run["suggestionsCreated"],
        "tasks": run["tasksCreated"],
        "to approve": run["pendingApprovals"] or None,
        "tokens": f"{usage['inputTokens']} in, {usage['outputTokens']} out",
        "cost": money(usage["costCents"]),
        "note": "a demonstration answered, no model was asked" if run["demo"] else None,
        "error": run["error"] or result.get("error"),
    }
    print_facts({name: value for name, value in facts.items() if value is not None})
    for step in run["steps"]:
        print(step_line(step))
