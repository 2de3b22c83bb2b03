"""``gateway jobs``."""

from __future__ import annotations

import sys
from typing import Any

import click

from gateway.cli.client import Client, connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import ago, print_facts, print_json, print_table, say

PATH = "/api/v1/admin/jobs"
QUEUES = "/api/v1/admin/queues"
RETRY_FAILED = "/api/v1/admin/email/queue/retry-failed"


@click.group(cls=GatewayGroup)
def jobs() -> None:
    """Show, retry and cancel jobs."""


@jobs.command("ls")
@click.option("--queue", default="email", show_default=True, help="The queue's name, short or in full.")
@click.option(
    "--state", "--status", metavar="STATE[,STATE]", help="waiting, delayed, active, completed, failed, cancelled."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
def list_jobs(queue: str, state: str | None, limit: int) -> None:
    """Jobs of a queue, newest first. Exit code 5 when there is none."""
    with connected() as client:
        found = client.pages(f"{QUEUES}/{segment(queue)}/jobs", limit, state=state)
    if invocation().json:
        print_json(found)
    else:
        columns = ["id", "task", "state", "priority", "attempts", "created", "error"]
        print_table(columns, [_row(job) for job in found])
    if not found:
        raise CliError(f"no {state or ''} jobs in {queue}".replace("  ", " "), Exit.NOTHING_MATCHED)


@jobs.command("show")
@click.argument("job_id", metavar="ID")
def show_job(job_id: str) -> None:
    """One job: argument, result, errors of its attempts."""
    with connected() as client:
        job = client.get(f"{PATH}/{segment(job_id)}")["data"]
    if invocation().json:
        return print_json(job)
    why = "; ".join(why["message"] for why in job.pop("whyWaiting")) or None
    print_facts({name: value for name, value in job.items() if name != "errors"} | {"waiting because": why})
    for error in job["errors"]:
        print(f"attempt {error['attempt']}  {error['at']}  {error['kind']}: {error['error']}")


@jobs.command("retry")
@click.argument("job_ids", metavar="[ID...]", nargs=-1)
@click.option("--queue", type=click.Choice(["email", "email-queue"]), help="All failed jobs of this queue.")
@click.option("--state", "--status", type=click.Choice(["failed"]), help="Beside --queue: failed, which it is anyway.")
@click.option("--dry-run", is_flag=True, help="Beside --queue: only say how many there are.")
@click.option("--yes", is_flag=True, help="Beside --queue: do not ask.")
def retry_jobs(job_ids: tuple[str, ...], queue: str | None, state: str | None, dry_run: bool, yes: bool) -> None:
    """Run failed jobs again, their attempts counted from nought: those named, or all of --queue."""
    if bool(job_ids) == bool(queue):
        raise click.UsageError("name jobs by their ids, or all failed ones by --queue email")
    if job_ids and (state or dry_run or yes):
        raise click.UsageError("--state, --dry-run and --yes stand beside --queue only")
    with connected() as client:
        if job_ids:
            _each(client, job_ids, "retry", {})
        else:
            _retry_failed(client, dry_run, yes)


def _retry_failed(client: Client, dry_run: bool, yes: bool) -> None:
    answer = {"wouldRetry": client.post(RETRY_FAILED, dryRun="true")["data"]["wouldRetry"]}
    many = answer["wouldRetry"]
    if many and not dry_run:
        _confirm(f"{many} failed {'job' if many == 1 else 'jobs'} of email-queue will run again", yes)
        answer = {"retried": client.post(RETRY_FAILED)["data"]["retried"]}
    if invocation().json:
        print_json(answer)
    else:
        print_facts(answer)
    if not many:
        raise CliError("no failed jobs in email-queue", Exit.NOTHING_MATCHED)


def _confirm(what: str, yes: bool) -> None:
    """Say it, and ask on a terminal; elsewhere ``--yes`` is demanded."""
    if not yes and not sys.stdin.isatty():
        raise CliError(f"{what}: confirm with --yes", Exit.USAGE, "not_confirmed")
    say(what)
    if not yes:
        click.confirm("Go on?", abort=True, err=True)


@jobs.command("cancel")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", help="Kept on the job.")
def cancel_jobs(job_ids: tuple[str, ...], reason: str | None) -> None:
    """Cancel jobs that have not finished."""
    with connected() as client:
        _each(client, job_ids, "cancel", {"reason": reason} if reason else {})


def _each(client: Client, job_ids: tuple[str, ...], verb: str, body: dict[str, Any]) -> None:
    """Do ``verb`` to each job; a refusal does not keep the others back, but ends in its exit code."""
    done, refused = [], []
    for job_id in job_ids:
        try:
            done.append(client.post(f"{PATH}/{segment(job_id)}/{verb}", body)["data"])
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
        summary = f"{verb}: {len(done)} of {len(job_ids)} done" if len(job_ids) > 1 else refused[0].message
        raise CliError(summary, refused[0].exit_code, refused[0].code)


def _row(job: dict[str, Any]) -> list[Any]:
    attempts = f"{job['attempts']}/{job['maxAttempts']}"
    created = ago(job["createdAt"])
    return [job["id"], job["task"], job["state"], job["priority"], attempts, created, job["error"]]
