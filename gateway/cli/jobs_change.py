"""``gateway jobs retry``, ``cancel``, ``promote``, ``rm`` and ``replay``: jobs by their ids, or many by what they have
in common."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.cli.client import Client, connected, segment
from gateway.cli.command import GatewayCommand, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.operations import follow, raise_if_unfinished
from gateway.cli.output import print_facts, print_json, print_table, say
from gateway.cli.times import since_of

PATH = "/api/v1/admin/jobs"
QUEUES = "/api/v1/admin/queues"
NONE_NAMED = "name jobs by their ids, or many by --queue email with --status, --q or --since"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Verb:
    """A change: the API's word, what it leaves jobs, and what to say before it is done to many. ``state``: which ones
    are meant when nobody says."""

    action: str
    done: str
    warning: str
    state: str | None = None


RETRY = Verb("retry", "retried", "will run again", "failed")
CANCEL = Verb("cancel", "cancelled", "will be cancelled")
PROMOTE = Verb("promote", "promoted", "will start now", "delayed")
DELETE = Verb("delete", "deleted", "will be deleted")


@dataclass(frozen=True)
class Many:
    """The options of ``many``."""

    queue: str | None
    state: str | None
    q: str | None
    group: str | None
    tag: str | None
    recipient: str | None
    since: str | None
    dry_run: bool
    yes: bool
    detach: bool

    @property
    def given(self) -> bool:
        chosen = (self.state, self.q, self.group, self.tag, self.recipient, self.since)
        return any((*chosen, self.dry_run, self.yes, self.detach))


def many(command: F) -> F:
    """The options that choose many jobs, for a command that takes ids too."""
    for option in reversed(
        (
            click.option("--queue", metavar="NAME", help="Many jobs of this queue, by the options below."),
            click.option("--state", "--status", metavar="STATE[,STATE]", help="Jobs that stand so."),
            click.option("--q", metavar="TEXT", help="Id, dedupe key, part of the error, or args.PATH:VALUE."),
            click.option("--group", metavar="NAME", help="Jobs of this group."),
            click.option("--tag", metavar="TAG", help="Jobs with this tag, whole; a mail's are name:value."),
            click.option("--recipient", metavar="ADDRESS", help="Jobs of mails to this address."),
            click.option("--since", metavar="TIME", help="Accepted since then: 2h, 2026-05-01T15:00+02:00."),
            click.option("--dry-run", is_flag=True, help="Only say how many there are."),
            click.option("--yes", is_flag=True, help="Do not ask."),
            click.option("--detach", is_flag=True, help="Do not wait; the server goes on."),
        )
    ):
        command = option(command)
    return command


@click.command(cls=GatewayCommand, name="retry")
@click.argument("job_ids", metavar="[ID...]", nargs=-1)
@many
def retry_jobs(job_ids: tuple[str, ...], **options: Any) -> None:
    """Run failed jobs again, their attempts counted from nought."""
    change(RETRY, job_ids, Many(**options))


@click.command(cls=GatewayCommand, name="cancel")
@click.argument("job_ids", metavar="[ID...]", nargs=-1)
@click.option("--reason", help="Kept on the jobs.")
@many
def cancel_jobs(job_ids: tuple[str, ...], reason: str | None, **options: Any) -> None:
    """Cancel jobs that have not finished; running ones are told to end."""
    change(CANCEL, job_ids, Many(**options), {"reason": reason} if reason else None)


@click.command(cls=GatewayCommand, name="promote")
@click.argument("job_ids", metavar="[ID...]", nargs=-1)
@many
def promote_jobs(job_ids: tuple[str, ...], **options: Any) -> None:
    """Let delayed jobs start now."""
    change(PROMOTE, job_ids, Many(**options))


@click.command(cls=GatewayCommand, name="rm")
@click.argument("job_ids", metavar="[ID...]", nargs=-1)
@many
def remove_jobs(job_ids: tuple[str, ...], **options: Any) -> None:
    """Delete jobs that do not run. Needs the role admin."""
    change(DELETE, job_ids, Many(**options))


@click.command(cls=GatewayCommand, name="replay")
@click.argument("job_id", metavar="ID")
@click.option("--args", "args_text", metavar="JSON|@FILE", help="The new job's argument; without it the old one's.")
def replay_job(job_id: str, args_text: str | None) -> None:
    """Run a failed job's work again, as a new job with another argument. The old job stays as it is."""
    edited = None if args_text is None else _json_argument(args_text)
    with connected() as client:
        if edited is None:
            edited = client.get(f"{PATH}/{segment(job_id)}")["data"]["data"]
        job = client.post(f"{PATH}/{segment(job_id)}/replay", {"args": edited})["data"]
    if invocation().json:
        return print_json(job)
    print_facts({"id": job["id"], "state": job["state"], "replay of": job_id})


def change(verb: Verb, job_ids: tuple[str, ...], options: Many, body: dict[str, Any] | None = None) -> None:
    """Do it to the jobs named, or to those that the options choose. Raises click.UsageError for both or neither."""
    if bool(job_ids) == bool(options.queue):
        raise click.UsageError(NONE_NAMED)
    if job_ids and options.given:
        raise click.UsageError("these options stand beside --queue only, not beside ids")
    with connected() as client:
        if job_ids:
            _each(client, verb, job_ids, body or {})
        else:
            _many(client, verb, options, body or {})


def _many(client: Client, verb: Verb, options: Many, body: dict[str, Any]) -> None:
    chosen = {
        "state": options.state or verb.state,
        "q": options.q,
        "group": options.group,
        "tag": options.tag,
        "recipient": options.recipient,
        "from": since_of(options.since, datetime.now().astimezone()),
    }
    path = f"{QUEUES}/{segment(options.queue or '')}/bulk"
    asked = {"action": verb.action, "filter": {k: v for k, v in chosen.items() if v is not None}, **body}
    count = client.post(path, asked | {"dryRun": True})["data"]["count"]
    what = f"{chosen['state'] or ''} {'job' if count == 1 else 'jobs'} of {options.queue}".strip()
    if options.dry_run or not count:
        _say({f"would{verb.action.capitalize()}": count})
        if not count:
            raise CliError(f"no {what}".replace("no job ", "no jobs "), Exit.NOTHING_MATCHED)
        return
    confirm(f"{count} {what} {verb.warning}", options.yes)
    started = client.post(path, asked)["data"]
    if options.detach:
        _say(started)
        say(f"To look on: gateway operations follow {started['operationId']}")
        return
    ended = follow(client, started["operationId"])
    _say({verb.done: ended["done"]} | ({"failed": ended["failed"]} if ended["failed"] else {}))
    raise_if_unfinished(ended)


def confirm(what: str, yes: bool) -> None:
    """Say it, and ask on a terminal; elsewhere ``--yes`` is demanded."""
    if not yes and not sys.stdin.isatty():
        raise CliError(f"{what}: confirm with --yes", Exit.USAGE, "not_confirmed")
    say(what)
    if not yes:
        click.confirm("Go on?", abort=True, err=True)


def _each(client: Client, verb: Verb, job_ids: tuple[str, ...], body: dict[str, Any]) -> None:
    """Change each job; a refusal does not keep the others back, but ends in its exit code."""
    done, refused = [], []
    for job_id in job_ids:
        try:
            done.append(_one(client, verb, job_id, body))
        except CliError as error:
            if error.exit_code is Exit.UNREACHABLE:
                raise
            refused.append(error)
            if len(job_ids) > 1:
                say(error.message)
    if invocation().json:
        print_json(done)
    elif done:
        print_table(["id", "state"], [[job["id"], job["state"]] for job in done])
    if refused:
        summary = f"{verb.action}: {len(done)} of {len(job_ids)} done" if len(job_ids) > 1 else refused[0].message
        raise CliError(summary, refused[0].exit_code, refused[0].code)


def _one(client: Client, verb: Verb, job_id: str, body: dict[str, Any]) -> dict[str, Any]:
    path = f"{PATH}/{segment(job_id)}"
    if verb is DELETE:
        client.delete(path)
        return {"id": job_id, "state": "deleted"}
    job: dict[str, Any] = client.post(f"{path}/{verb.action}", body)["data"]
    return job


def _json_argument(text: str) -> dict[str, Any]:
    try:
        value = json.loads(Path(text[1:]).read_text("utf-8") if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{text[:60]} is not JSON: {error}", param_hint="--args") from None
    if not isinstance(value, dict):
        raise click.BadParameter("must be a JSON object", param_hint="--args")
    return value


def _say(answer: dict[str, Any]) -> None:
    if invocation().json:
        print_json(answer)
    else:
        print_facts(answer)
