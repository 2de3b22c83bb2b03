"""``gateway maintenance``: what is cleaned up when, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from gateway.cli.client import connected
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import ago, duration, print_json, print_table

PATH = "/api/v1/admin/maintenance"


@click.group(cls=GatewayGroup)
def maintenance() -> None:
    """Retention and other upkeep: duties, and their runs."""


@maintenance.command("ls")
def list_duties() -> None:
    """All duties, each with its last run. Exit code 1 when a last run failed."""
    with connected() as client:
        found = client.get(PATH)["data"]
    if invocation().json:
        print_json(found)
    else:
        print_table(["duty", "due", "last", "took", "rows", "result", "does"], [_duty_row(duty) for duty in found])
    failed = [duty["name"] for duty in found if (duty["lastRun"] or {}).get("error")]
    if failed:
        raise CliError(f"failed: {', '.join(failed)}. See: gateway maintenance runs")


@maintenance.command("runs")
@click.option("--duty", help="Only of this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Most runs to show.")
def list_runs(duty: str | None, limit: int) -> None:
    """Runs of all replicas, newest first. Exit code 5 when there is none."""
    with connected() as client:
        found = client.pages(f"{PATH}/runs", limit, duty=duty)
    if invocation().json:
        print_json(found)
    else:
        columns = ["duty", "due", "replica", "tries", "started", "took", "rows", "result"]
        print_table(columns, [_run_row(run) for run in found])
    if not found:
        raise CliError("no runs", Exit.NOTHING_MATCHED)


def _duty_row(duty: dict[str, Any]) -> list[Any]:
    run = duty["lastRun"]
    last = ["never", "-", "-", "-"] if run is None else [ago(run["startedAt"]), _took(run), run["rows"], _result(run)]
    return [duty["name"], due(duty["periodS"], duty["offsetS"]), *last, duty["does"]]


def _run_row(run: dict[str, Any]) -> list[Any]:
    return [
        *(run["duty"], run["tick"], run["replica"], run["tries"], ago(run["startedAt"])),
        *(_took(run), run["rows"], _result(run)),
    ]


def due(period_s: int, offset_s: int) -> str:
    """``hourly at :05``, ``daily at 01:00 UTC``, ``every 1m``."""
    if period_s == 86_400:
        return f"daily at {offset_s // 3600:02}:{offset_s % 3600 // 60:02} UTC"
    if period_s == 3600:
        return f"hourly at :{offset_s // 60:02}"
    return f"every {duration(period_s)}"


def _took(run: dict[str, Any]) -> str:
    ended = run["finishedAt"]
    until = datetime.now(UTC) if ended is None else datetime.fromisoformat(ended)
    return f"{(until - datetime.fromisoformat(run['startedAt'])).total_seconds():.1f}s"


def _result(run: dict[str, Any]) -> str:
    if run["error"] is not None:
        return f"failed: {run['error']}"
    return "running" if run["finishedAt"] is None else "ok"
