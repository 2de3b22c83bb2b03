"""``gateway jobs``."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.client import Client, connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.output import ago, print_facts, print_json, print_table, say

PATH = "/api/v1/admin/jobs"
QUEUES = "/api/v1/admin/queues"


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
    print_facts({name: value for name, value in job.items() if name != "errors"})
    for error in job["errors"]:
        print(f"attempt {error['attempt']}  {error['at']}  {error['kind']}: {error['error']}")


@jobs.command("retry")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
def retry_jobs(job_ids: tuple[str, ...]) -> None:
    """Run failed jobs again, their attempts counted from nought."""
    with connected() as client:
        _each(client, job_ids, "retry", {})


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
    else:
        print_table(["id", "state"], [[job["id"], job["state"]] for job in done])
    if refused:
        summary = f"{verb}: {len(done)} of {len(job_ids)} done" if len(job_ids) > 1 else refused[0].message
        raise CliError(summary, refused[0].exit_code, refused[0].code)


def _row(job: dict[str, Any]) -> list[Any]:
    attempts = f"{job['attempts']}/{job['maxAttempts']}"
    created = ago(job["createdAt"])
    return [job["id"], job["task"], job["state"], job["priority"], attempts, created, job["error"]]
