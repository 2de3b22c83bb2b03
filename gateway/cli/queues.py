"""``gateway queues``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from gateway.cli import limits
from gateway.cli.client import connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.output import duration, print_facts, print_json, print_table
from gateway.cli.queues_clean import clean_queue
from gateway.cli.times import moment_of

PATH = "/api/v1/admin/queues"
STATES = ("waiting", "delayed", "active", "completed", "failed", "cancelled")


@click.group(cls=GatewayGroup)
def queues() -> None:
    """Show, pause, resume and limit queues. A queue's name may be short: email for email-queue."""


queues.add_command(clean_queue)


@queues.command("ls")
def list_queues() -> None:
    """All queues with their numbers."""
    with connected() as client:
        found = client.get(PATH)["data"]
    if invocation().json:
        return print_json(found)
    rows = [[q["name"], *(q["counts"][s] for s in STATES), _oldest(q), _pause(q)] for q in found]
    print_table(["queue", *STATES, "oldest", "paused"], rows)


@queues.command("show")
@click.argument("name")
def show_queue(name: str) -> None:
    """One queue: numbers, limits, workers."""
    with connected() as client:
        _print_queue(client.get(f"{PATH}/{segment(name)}")["data"])


@queues.command("pause")
@click.argument("name")
@click.option("--until", metavar="TIME", help="Resume by itself: 15:00, 2026-05-01T15:00+02:00, or 30m.")
@click.option("--reason", help="Shown to everybody who looks at the queue.")
def pause_queue(name: str, until: str | None, reason: str | None) -> None:
    """Start no more jobs of a queue; running ones finish, new ones are accepted."""
    moment = moment_of(until, datetime.now().astimezone()) if until else None
    body = {"until": moment.isoformat() if moment else None, "reason": reason}
    with connected() as client:
        _print_queue(client.post(f"{PATH}/{segment(name)}/pause", {k: v for k, v in body.items() if v})["data"])


@queues.command("resume")
@click.argument("name")
def resume_queue(name: str) -> None:
    """Start jobs of a queue again."""
    with connected() as client:
        _print_queue(client.post(f"{PATH}/{segment(name)}/resume")["data"])


@queues.command("rebuild")
@click.argument("names", metavar="[NAME...]", nargs=-1)
def rebuild_queues(names: tuple[str, ...]) -> None:
    """Tell Redis all waiting jobs again, of the queues named or of all. Nothing runs twice for it."""
    with connected() as client:
        chosen = names or tuple(queue["name"] for queue in client.get(PATH)["data"])
        told = [client.post(f"{PATH}/{segment(name)}/rebuild")["data"] for name in chosen]
    if invocation().json:
        return print_json(told)
    print_table(["queue", "jobs"], [[one["queue"], one["jobs"]] for one in told])


@queues.command("limits")
@click.argument("name")
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="Jobs at once in each replica.")
@click.option("--rate", metavar="MAX/TIME", help="Starts in a time, over all replicas: 10/1s, 5/m, 100/500ms.")
@click.option("--attempts", type=click.IntRange(1), metavar="N", help="Attempts of jobs accepted from now on.")
@click.option("--backoff", metavar="TIME", help="Delay after the first failure, doubled each time: 60s.")
@click.option("--keep-completed", metavar="TIME", help="How long completed jobs are kept: 24h.")
@click.option("--keep-count", type=click.IntRange(1), metavar="N", help="Completed jobs kept at most.")
@click.option("--keep-failed", metavar="TIME", help="How long failed jobs are kept: 7d.")
@click.option("--group-concurrency", type=click.IntRange(0), metavar="N", help="Jobs of one group at once; 0 is any.")
@click.option("--group-rate", metavar="MAX/TIME", help="Starts of one group in a time: 10/1m; 0/1m is any.")
@click.option("--reset", is_flag=True, help="Take back what was changed; with other options, all but those.")
def limit_queue(name: str, reset: bool, **wanted: Any) -> None:
    """Show a queue's limits, or change them on all replicas while they run. A change is kept over restarts, and needs
    the role admin."""
    changes = limits.changes_of(wanted, reset=reset)
    with connected() as client:
        path = f"{PATH}/{segment(name)}"
        answer = client.patch(path, changes) if changes else client.get(path)
    if invocation().json:
        return print_json(answer["data"])
    print_table(["limit", "now", "settings"], limits.rows_of(answer["data"]))


def _print_queue(queue: dict[str, Any]) -> None:
    if invocation().json:
        return print_json(queue)
    shown, workers = queue["limits"], queue["workers"]
    print_facts(
        {
            "queue": queue["name"],
            "paused": _pause(queue),
            **{state: queue["counts"][state] for state in STATES},
            "oldest waiting": _oldest(queue),
            "concurrency": f"{shown['concurrency']} per replica",
            "rate": limits.rate_of(shown["rateLimit"]),
            "attempts": f"{shown['attempts']}, back-off from {shown['backoffMs'] / 1000:g} s",
            "timeout": f"{shown['timeoutMs'] / 1000:g} s",
            "workers": f"{workers['replicas']} replicas, {workers['busy']} of {workers['slots']} slots busy",
            "waiting because": "; ".join(why["message"] for why in queue["whyWaiting"]),
        }
    )


def _oldest(queue: dict[str, Any]) -> str:
    seconds = queue["oldestWaitingS"]
    return "-" if seconds is None else duration(seconds)


def _pause(queue: dict[str, Any]) -> str:
    if not queue["paused"]:
        return "no"
    until = f"until {both_clocks(queue['pausedUntil'])}" if queue["pausedUntil"] else "until resumed"
    return f"{until} ({queue['pauseReason']})" if queue["pauseReason"] else until


def both_clocks(moment: str) -> str:
    """The API's UTC time, and what the clock of this machine shows then: people write ``--until`` by the latter."""
    here = datetime.fromisoformat(moment).astimezone()
    return f"{moment} ({here:%Y-%m-%d %H:%M} {here:%Z} here)" if here.utcoffset() else moment
