"""``gateway triggers``: what starts runs by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

from gateway.cli.client import Client, connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import ago, print_facts, print_json, print_table, say

SCHEDULES_PATH = "/api/v1/orchestration/schedules"
WEBHOOKS_PATH = "/api/v1/orchestration/triggers"
_WINDOW = re.compile(r"(?P<opens>\d\d:\d\d)-(?P<closes>\d\d:\d\d)(?: (?P<days>[a-z]{3}(?:,[a-z]{3})*))?")


@click.group(cls=GatewayGroup)
def triggers() -> None:
    """What starts runs by itself: the clock and signed webhooks."""


@triggers.command("list")
@click.option("--project", metavar="ID", help="Of this project only.")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many of each at most.")
def list_triggers(project: str | None, limit: int) -> None:
    """Schedules of runs, then webhooks. Exit code 5 when there is none."""
    with connected() as client:
        clocks = client.pages(SCHEDULES_PATH, limit, projectId=project)
        hooks = client.pages(WEBHOOKS_PATH, limit, projectId=project)
    if invocation().json:
        print_json({"schedules": clocks, "webhooks": hooks})
    else:
        columns = ["id", "project", "agent", "starts", "next", "last", "state"]
        print_table(columns, [*map(_clock_row, clocks), *map(_hook_row, hooks)])
    if not clocks and not hooks:
        raise CliError("no triggers", Exit.NOTHING_MATCHED)


@triggers.command("show")
@click.argument("trigger_id", metavar="ID")
def show_trigger(trigger_id: str) -> None:
    """One schedule or webhook, and what it did last."""
    with connected() as client:
        path, found = _find(client, trigger_id)
    if invocation().json:
        return print_json({name: value for name, value in found.items() if name != "success"})
    _print(path, found["data"])
    print_table(
        ["when", "run", "why not"], [_past_row(each) for each in found.get("ticks") or found.get("deliveries") or []]
    )


@triggers.command("add")
@click.option("--project", metavar="ID", required=True, help="Whose runs.")
@click.option("--agent", metavar="SLUG", help="The agent that runs.  [all of the project, in a batch]")
@click.option("--cron", help='When, five fields: "30 7 * * 1-5".')
@click.option("--preset", help="Or: hourly, daily, weekdays, weekly, monthly.")
@click.option("--hour", type=click.IntRange(0, 23), metavar="0..23", help="Of --preset.  [9]")
@click.option("--tz", "time_zone", metavar="ZONE", help="IANA time zone.  [UTC]")
@click.option("--window", metavar="WINDOW", help='Only then: "09:00-17:00" or "09:00-17:00 mon,tue".')
@click.option("--min-interval", type=int, metavar="MINUTES", help="Between two runs, 60 or more.  [60]")
@click.option("--max-per-day", type=int, metavar="N", help="Runs of a day, at most 24.  [24]")
@click.option("--cooldown", type=int, metavar="MINUTES", help="After a run that failed.  [30]")
@click.option("--webhook", metavar="NAME", help="Instead of a time: signed deliveries start runs.")
@click.option("--github", is_flag=True, help="They come from GitHub, with its signature.")
@click.option("--event", "events", multiple=True, help="Only these events; may be repeated.")
@click.option("--action", "actions", multiple=True, help="Only these actions; may be repeated.")
@click.option("--branch", "branches", multiple=True, help='Only these branches, "release/*"; may be repeated.')
def add_trigger(**wanted: Any) -> None:
    """Let runs start by the clock, or by a webhook. A webhook's secret is shown this once."""
    path, body = body_of(wanted)
    with connected() as client:
        made = client.post(path, body)["data"]
    if invocation().json:
        return print_json(made)
    _print(path, made)


@triggers.command("remove")
@click.argument("trigger_id", metavar="ID")
def remove_trigger(trigger_id: str) -> None:
    """Delete a schedule or webhook; its runs stay."""
    with connected() as client:
        path, _ = _find(client, trigger_id)
        client.delete(f"{path}/{segment(trigger_id)}")
    if invocation().json:
        return print_json({"id": trigger_id, "removed": True})
    say(f"{trigger_id} is removed")


@triggers.command("fire")
@click.argument("trigger_id", metavar="ID")
def fire_trigger(trigger_id: str) -> None:
    """A tick of a schedule now, judged like any other; show tells what came of it."""
    with connected() as client:
        fired = client.post(f"{SCHEDULES_PATH}/{segment(trigger_id)}/fire")["data"]
    if invocation().json:
        return print_json(fired)
    print_facts({"job": fired["jobId"]})


@triggers.command("rotate")
@click.argument("trigger_id", metavar="ID")
def rotate_secret(trigger_id: str) -> None:
    """Another secret for a webhook; the old one is void at once."""
    with connected() as client:
        rotated = client.post(f"{WEBHOOKS_PATH}/{segment(trigger_id)}/rotate")["data"]
    if invocation().json:
        return print_json(rotated)
    print_facts({"id": rotated["id"], "secret": rotated["secret"]})


def body_of(wanted: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Where to, and the body, for the options of ``gateway triggers add``. Raises CliError and click.BadParameter."""
    clock = {
        "cron": wanted["cron"],
        "preset": wanted["preset"],
        "hour": wanted["hour"],
        "timeZone": wanted["time_zone"],
        "window": _window(wanted["window"]),
        "minIntervalMinutes": wanted["min_interval"],
        "maxRunsPerDay": wanted["max_per_day"],
        "cooldownMinutesAfterError": wanted["cooldown"],
    }
    lists = {name: list(wanted[name]) for name in ("events", "actions", "branches") if wanted[name]}
    hook = {"scheme": "github" if wanted["github"] else None, **lists}
    path, mine, others = SCHEDULES_PATH, clock, hook
    if wanted["webhook"] is not None:
        path, mine, others = WEBHOOKS_PATH, {"name": wanted["webhook"], **hook}, clock
    if any(value is not None for value in others.values()):
        raise CliError("a trigger has a time (--cron, --preset) or --webhook, with the options of one", Exit.USAGE)
    body = {"projectId": wanted["project"], "agentSlug": wanted["agent"], **mine}
    return path, {name: value for name, value in body.items() if value is not None}


def _window(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    found = _WINDOW.fullmatch(text.strip().lower())
    if found is None:
        raise click.BadParameter('--window is not of the form "09:00-17:00 mon,tue"')
    days = {"days": found["days"].split(",")} if found["days"] else {}
    return {"from": found["opens"], "to": found["closes"], **days}


def _find(client: Client, trigger_id: str) -> tuple[str, dict[str, Any]]:
    """Ids of both kinds are told apart by asking."""
    try:
        return SCHEDULES_PATH, client.get(f"{SCHEDULES_PATH}/{segment(trigger_id)}")
    except CliError as error:
        if error.exit_code is not Exit.NOTHING_MATCHED:
            raise
    return WEBHOOKS_PATH, client.get(f"{WEBHOOKS_PATH}/{segment(trigger_id)}")


def _when(clock: Mapping[str, Any]) -> str:
    return f"{clock['preset'] or clock['cron']} {clock['timeZone']}"


def _state(trigger: Mapping[str, Any]) -> str:
    return trigger["problem"] or ("on" if trigger["enabled"] else "off")


def _clock_row(clock: Mapping[str, Any]) -> list[str]:
    following = clock["nextRuns"][0] if clock["nextRuns"] else None
    return [
        clock["id"],
        clock["projectId"],
        clock["agentSlug"] or "all",
        _when(clock),
        ago(following),
        ago(clock["lastTickAt"]),
        _state(clock),
    ]


def _hook_row(hook: Mapping[str, Any]) -> list[str]:
    starts = f"webhook {hook['name']}"
    return [hook["id"], hook["projectId"], hook["agentSlug"] or "all", starts, "-", ago(hook["lastAt"]), _state(hook)]


def _past_row(past: Mapping[str, Any]) -> list[str]:
    return [ago(past["at"]), past["runId"] or "-", past.get("reason") or past["skipped"] or "-"]


def _print(path: str, trigger: Mapping[str, Any]) -> None:
    same = {
        "id": trigger["id"],
        "project": trigger["projectId"],
        "agent": trigger["agentSlug"] or "all",
        "state": _state(trigger),
    }
    print_facts(same | (_clock_facts(trigger) if path == SCHEDULES_PATH else _hook_facts(trigger)))


def _clock_facts(clock: Mapping[str, Any]) -> dict[str, Any]:
    window, skipped = clock["window"], clock["skipped"]
    return {
        "when": _when(clock),
        "cron": clock["cron"],
        "window": f"{window['from']}-{window['to']} {','.join(window['days'])}" if window else None,
        "minutes between runs": clock["minIntervalMinutes"],
        "runs of a day": clock["maxRunsPerDay"],
        "minutes after a failure": clock["cooldownMinutesAfterError"],
        "last run": clock["lastRunId"],
        "last skip": f"{ago(skipped['at'])}: {skipped['reason']}" if skipped else None,
        "next runs": ", ".join(clock["nextRuns"]) or None,
    }


def _hook_facts(hook: Mapping[str, Any]) -> dict[str, Any]:
    facts = {
        "name": hook["name"],
        "signed by": hook["scheme"],
        "path": hook["path"],
        "events": ", ".join(hook["events"]) or "any",
        "actions": ", ".join(hook["actions"]) or "any",
        "branches": ", ".join(hook["branches"]) or "any",
        "while one is open": hook["onConflict"],
        "deliveries a minute": hook["maxPerMinute"],
        "last skip": hook["skipReason"],
    }
    return facts | ({"secret, shown this once": hook["secret"]} if "secret" in hook else {})
