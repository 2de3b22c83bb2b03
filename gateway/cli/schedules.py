"""``gateway schedules``: repeatable jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gateway.cli.client import connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.limits import seconds
from gateway.cli.output import ago, print_facts, print_json, print_table, say
from gateway.cli.times import moment_of

PATH = "/api/v1/admin/schedules"
UNITS_S = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


@click.group(cls=GatewayGroup)
def schedules() -> None:
    """Repeatable jobs: when they are due, what they do, and whether they are paused."""


@schedules.command("list")
@click.option("--prefix", metavar="TEXT", help="Those whose names begin so.")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many at most.")
def list_schedules(prefix: str | None, limit: int) -> None:
    """All schedules, by name. Exit code 5 when there is none."""
    with connected() as client:
        found = client.pages(PATH, limit, prefix=prefix)
    if invocation().json:
        print_json(found)
    else:
        columns = ["name", "task", "when", "next", "last", "state"]
        print_table(columns, [row_of(schedule) for schedule in found])
    if not found:
        raise CliError("no schedules", Exit.NOTHING_MATCHED)


@schedules.command("show")
@click.argument("name")
def show_schedule(name: str) -> None:
    """One schedule, and its next ticks."""
    with connected() as client:
        _print(client.get(f"{PATH}/{segment(name)}")["data"])


@schedules.command("add")
@click.argument("name")
@click.option("--task", required=True, help="What its jobs do: the name of a task.")
@click.option("--queue", help="Where its jobs go.  [the task's queue]")
@click.option("--args", "args_json", metavar="JSON", default="{}", help="The task's argument; @FILE and @- read it.")
@click.option("--cron", help='Five fields, "30 2 * * 1-5", or @hourly, @daily, @weekly, @monthly, @yearly.')
@click.option("--tz", "time_zone", metavar="ZONE", help="IANA time zone of --cron.  [UTC]")
@click.option("--every", metavar="TIME", help="An interval instead: 30s, 15m, 6h.")
@click.option("--priority", type=click.IntRange(0, 10), metavar="N", help="0 to 10, higher first.  [0]")
@click.option("--missed", type=click.Choice(["skip", "once", "all"]), help="What becomes of missed ticks.  [once]")
@click.option("--missed-max", type=click.IntRange(1), metavar="N", help="Jobs at once with --missed all.  [100]")
@click.option("--overlap", type=click.Choice(["enqueue", "skip"]), help="While the job before is open.  [enqueue]")
@click.option("--start", "start_at", metavar="TIME", help="No tick before: 15:00, 2h, 2026-05-01T15:00+02:00.")
@click.option("--end", "end_at", metavar="TIME", help="No tick after.")
@click.option("--tick-arg", metavar="FIELD", help="The argument's field that gets the tick's time.")
@click.option("--replace", is_flag=True, help="Replace the one that has this name.")
def add_schedule(name: str, replace: bool, **wanted: Any) -> None:
    """Make a schedule."""
    body = body_of(wanted, datetime.now().astimezone())
    with connected() as client:
        made = client.put(f"{PATH}/{segment(name)}", body) if replace else client.post(PATH, {"name": name, **body})
    _print(made["data"])


@schedules.command("remove")
@click.argument("name")
def remove_schedule(name: str) -> None:
    """Delete a schedule; its jobs stay."""
    with connected() as client:
        client.delete(f"{PATH}/{segment(name)}")
    if invocation().json:
        return print_json({"name": name, "removed": True})
    say(f"{name} is removed")


@schedules.command("pause")
@click.argument("name")
@click.option("--reason", help="Shown to everybody who looks at it.")
def pause_schedule(name: str, reason: str | None) -> None:
    """No ticks until it is resumed."""
    with connected() as client:
        _print(client.post(f"{PATH}/{segment(name)}/pause", {"reason": reason} if reason else {})["data"])


@schedules.command("resume")
@click.argument("name")
def resume_schedule(name: str) -> None:
    """Go on with the next tick from now; ticks of the pause are gone."""
    with connected() as client:
        _print(client.post(f"{PATH}/{segment(name)}/resume")["data"])


@schedules.command("run")
@click.argument("name")
def run_schedule(name: str) -> None:
    """A job now, beside its ticks, also while it is paused."""
    with connected() as client:
        job = client.post(f"{PATH}/{segment(name)}/run")["data"]
    if invocation().json:
        return print_json(job)
    print_facts({"job": job["jobId"], "queue": job["queue"]})


def body_of(wanted: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The body of the request for the options of ``gateway schedules add``. Raises click.BadParameter."""
    body = {
        "task": wanted["task"],
        "queue": wanted["queue"],
        "args": _args(wanted["args_json"]),
        "cron": wanted["cron"],
        "timeZone": wanted["time_zone"],
        "everyS": seconds("--every", wanted["every"]),
        "priority": wanted["priority"],
        "missed": wanted["missed"],
        "missedMax": wanted["missed_max"],
        "overlap": wanted["overlap"],
        "tickArg": wanted["tick_arg"],
    }
    for field, text in (("startAt", wanted["start_at"]), ("endAt", wanted["end_at"])):
        body[field] = moment_of(text, now).isoformat() if text else None
    return {field: value for field, value in body.items() if value is not None}


def _args(text: str) -> Any:
    try:
        if text.startswith("@"):
            text = sys.stdin.read() if text == "@-" else Path(text[1:]).read_text("utf-8")
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"--args: {error}") from error


def row_of(schedule: Mapping[str, Any]) -> list[str]:
    times = [ago(schedule["nextAt"]), ago(schedule["lastTickAt"])]
    return [schedule["name"], schedule["task"], when_of(schedule), *times, _state(schedule)]


def when_of(schedule: Mapping[str, Any]) -> str:
    if schedule["cron"] is not None:
        return f"{schedule['cron']} {schedule['timeZone']}"
    every_s = schedule["everyS"]
    unit, size = next((unit, size) for unit, size in UNITS_S.items() if every_s % size == 0)
    return f"every {every_s // size}{unit}"


def _state(schedule: Mapping[str, Any]) -> str:
    if not schedule["enabled"]:
        return f"paused: {schedule['disabledReason']}"
    return schedule["problem"] or "on"


def _print(schedule: dict[str, Any]) -> None:
    if invocation().json:
        return print_json(schedule)
    skipped = f"{ago(schedule['skippedAt'])}: {schedule['skipReason']}" if schedule["skippedAt"] else None
    print_facts(
        {
            "name": schedule["name"],
            "state": _state(schedule),
            "declared in code": schedule["declared"],
            "task": schedule["task"],
            "queue": schedule["queue"],
            "args": schedule["args"],
            "tick's field": schedule["tickArg"],
            "priority": schedule["priority"],
            "when": when_of(schedule),
            "from": schedule["startAt"],
            "until": schedule["endAt"],
            "missed ticks": schedule["missed"] + (f", {schedule['missedMax']} at once" * (schedule["missed"] == "all")),
            "overlap": schedule["overlap"],
            "last tick": schedule["lastTickAt"],
            "last job": schedule["lastJobId"],
            "last skip": skipped,
            "next ticks": ", ".join(schedule["nextTicks"]) or None,
        }
    )
