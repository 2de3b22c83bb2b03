"""``gateway operations``, and following work on many jobs: the server does it, the bar only looks on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from gateway.cli.client import Client, connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import ago, duration, for_people, print_facts, print_json, print_table, say

PATH = "/api/v1/admin/operations"
POLL_S = 0.25
LINE_EVERY_S = 10.0  # where nobody sees a bar


@click.group(cls=GatewayGroup)
def operations() -> None:
    """Work on many jobs at once: how far it is, and how to stop it."""


@operations.command("ls")
def list_operations() -> None:
    """The newest operations. Exit code 5 when there is none."""
    with connected() as client:
        found = client.get(PATH)["data"]
    if invocation().json:
        print_json(found)
    else:
        columns = ["id", "action", "queue", "state", "done", "failed", "total", "by", "started"]
        rows = [
            [*(one[name] for name in (*columns[:-2], "actor")), ago(one["createdAt"])]  # as the columns stand
            for one in found
        ]
        print_table(columns, rows)
    if not found:
        raise CliError("no operations", Exit.NOTHING_MATCHED)


@operations.command("show")
@click.argument("operation_id", metavar="ID")
def show_operation(operation_id: str) -> None:
    """One operation: what was asked, and how far it is."""
    with connected() as client:
        _print(client.get(f"{PATH}/{segment(operation_id)}")["data"])


@operations.command("follow")
@click.argument("operation_id", metavar="ID")
def follow_operation(operation_id: str) -> None:
    """Look on until it has ended. Ctrl+C leaves it running."""
    with connected() as client:
        ended = follow(client, operation_id)
    _print(ended)
    raise_if_unfinished(ended)


@operations.command("cancel")
@click.argument("operation_id", metavar="ID")
def cancel_operation(operation_id: str) -> None:
    """Stop it; what is done stays done."""
    with connected() as client:
        _print(client.post(f"{PATH}/{segment(operation_id)}/cancel")["data"])


def follow(client: Client, operation_id: str) -> dict[str, Any]:
    """Draw its progress on stderr until it has ended; answers the operation. Ctrl+C says how to go on."""
    began, said = time.monotonic(), 0.0
    bar = for_people(sys.stderr)
    operation: dict[str, Any] = {}
    try:
        for operation in _states(client, operation_id):
            now = time.monotonic()
            line = progress(operation, now - began)
            if bar:
                sys.stderr.write(f"\r\x1b[K{line}")
                sys.stderr.flush()
            elif now - max(began, said) >= LINE_EVERY_S:
                said = now
                say(line)
    except KeyboardInterrupt:
        say("")
        done = operation.get("done", 0)
        say(f"{done:,} done. It goes on without you: gateway operations follow {operation_id}")
        say(f"To stop it: gateway operations cancel {operation_id}")
        raise
    if bar:
        say("")
    return operation


def _states(client: Client, operation_id: str) -> Iterator[dict[str, Any]]:
    while True:
        operation: dict[str, Any] = client.get(f"{PATH}/{segment(operation_id)}")["data"]
        yield operation
        if operation["state"] != "running":
            return
        time.sleep(POLL_S)


def progress(operation: dict[str, Any], seconds: float) -> str:
    """``retry 4,120/12,000  34 %  612/s  12 s left``; ``seconds`` is how long one has looked on."""
    seen, total = operation["done"] + operation["failed"], operation["total"]
    line = f"{operation['action']} {seen:,}/{total:,}  {min(100, 100 * seen // max(total, 1))} %"
    rate = seen / seconds if seconds > 0 else 0
    if rate >= 1:
        line += f"  {rate:,.0f}/s"
        if operation["state"] == "running":
            line += f"  {duration(max(0, total - seen) / rate)} left"
    return line


def raise_if_unfinished(operation: dict[str, Any]) -> None:
    """Raises CliError unless every job was done."""
    if operation["state"] != "completed":
        raise CliError(f"{operation['action']}: {operation['state']}: {operation['error'] or 'stopped by somebody'}")
    if operation["failed"]:
        many = operation["failed"]
        raise CliError(f"{operation['action']}: {many} of {operation['total']} could not be: their state forbids it")


def _print(operation: dict[str, Any]) -> None:
    if invocation().json:
        return print_json(operation)
    print_facts(operation)
