"""``gateway email``."""

from __future__ import annotations

import sys
from typing import Any
from uuid import uuid4

import click

from gateway.cli.client import Client, connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.instance import read_json_file
from gateway.cli.output import ago, one_line, print_facts, print_json, print_table

PATH = "/api/v1/emails"


@click.group(cls=GatewayGroup)
def email() -> None:
    """Send and show e-mails."""


@email.command("send")
@click.option("--to", multiple=True, metavar="ADDRESS", help="Recipient; may be repeated.")
@click.option("--cc", multiple=True, metavar="ADDRESS", help="Copy; may be repeated.")
@click.option("--bcc", multiple=True, metavar="ADDRESS", help="Blind copy; may be repeated.")
@click.option("--from", "sender", metavar="ADDRESS", help='Sender, as in "Shop <no-reply@shop.example>".')
@click.option("--subject", help="Subject.")
@click.option("--text", help="Text body; - reads it from stdin.")
@click.option("--html", help="HTML body; - reads it from stdin.")
@click.option("--at", "scheduled_at", metavar="TIME", help="Not before: ISO 8601 with a zone.")
@click.option("--data", metavar="@FILE", help="JSON body for the API; the options above override its fields.")
def send(data: str | None, **options: Any) -> None:
    """Send an e-mail. It is safe in the ledger when this returns."""
    body = read_json_file(data) if data else {}
    if not isinstance(body, dict):
        raise CliError(f"{data} is not a JSON object", Exit.USAGE)
    body |= fields_of(options, sys.stdin.read)
    with connected() as client:
        # One key per call: a client library below that repeats the request cannot send the mail twice.
        accepted = client.post(PATH, body, headers={"Idempotency-Key": f"cli-{uuid4()}"})["data"]
    if invocation().json:
        return print_json(accepted)
    print_facts({"id": accepted["id"], "status": accepted["status"], "mode": accepted["mode"]})


@email.command("ls")
@click.option("--status", help="sent, failed, pending, scheduled, ...")
@click.option("--to", help="Recipient's address.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
def list_mails(status: str | None, to: str | None, limit: int) -> None:
    """E-mails, newest first. Exit code 5 when there is none."""
    with connected() as client:
        found = client.pages(PATH, limit, status=status, to=to)
    if invocation().json:
        print_json(found)
    else:
        columns = ["id", "status", "to", "subject", "created", "error"]
        print_table(columns, [_row(mail) for mail in found])
    if not found:
        raise CliError("no e-mails", Exit.NOTHING_MATCHED)


@email.command("show")
@click.argument("email_id", metavar="ID")
@click.option("--html", "part", flag_value="html", default=None, help="Print the HTML body only.")
@click.option("--text", "part", flag_value="text", help="Print the text body only.")
def show(email_id: str, part: str | None) -> None:
    """One e-mail with its attempts and events."""
    with connected() as client:
        mail = _whole(client, f"{PATH}/{segment(email_id)}", bodies=part is not None)
    if part is not None:
        if mail.get(part) is None:
            raise CliError(f"this mail has no {part} body", Exit.NOTHING_MATCHED)
        print(mail[part])
        return None
    if invocation().json:
        return print_json(mail)
    shown_below = ("events", "attempts", "recipients")
    print_facts(
        {name: value for name, value in mail.items() if name not in shown_below and value not in (None, [], {})}
    )
    for recipient in mail.get("recipients", []):
        line = f"recipient  {recipient['address']}  {recipient['status']}  {recipient['reply'] or ''}"
        print(one_line(line).rstrip())
    for event in mail.get("events", []):
        print(f"{event['at']}  {event['type']}")


def _whole(client: Client, path: str, *, bodies: bool) -> dict[str, Any]:
    """With its bodies; for a role that may not read them without, unless they are what was asked for."""
    try:
        mail: dict[str, Any] = client.get(path, include="body,events,attempts")["data"]
    except CliError as error:
        if bodies or error.code != "insufficient_scope":
            raise
        mail = client.get(path, include="events,attempts")["data"]
    return mail


def fields_of(options: dict[str, Any], read_stdin: Any) -> dict[str, Any]:
    """The API's body fields for what was given on the command line. ``-`` reads a body, once."""
    names = {"sender": "from", "scheduled_at": "scheduledAt"}
    given = {names.get(k, k): list(v) if isinstance(v, tuple) else v for k, v in options.items() if v}
    from_stdin = [name for name in ("text", "html") if given.get(name) == "-"]
    if len(from_stdin) > 1:
        raise CliError("only one of --text and --html can be read from stdin", Exit.USAGE)
    for name in from_stdin:
        given[name] = read_stdin()
    return given


def _row(mail: dict[str, Any]) -> list[Any]:
    to = ", ".join(mail["to"])
    return [mail["id"], mail["status"], to, mail["subject"], ago(mail["createdAt"]), mail["error"]]
