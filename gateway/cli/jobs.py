"""``gateway jobs``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from gateway.cli.client import connected, segment
from gateway.cli.command import GatewayGroup, invocation
from gateway.cli.errors import CliError, Exit
from gateway.cli.jobs_change import cancel_jobs, promote_jobs, remove_jobs, replay_job, retry_jobs
from gateway.cli.output import ago, one_line, print_facts, print_json, print_table
from gateway.cli.times import since_of

PATH = "/api/v1/admin/jobs"


@click.group(cls=GatewayGroup)
def jobs() -> None:
    """Find jobs; retry, cancel, promote, delete and replay them, one or many."""


@jobs.command("ls")
@click.option("--queue", metavar="NAME", help="Only this queue's; short or in full.")
@click.option(
    "--state", "--status", metavar="STATE[,STATE]", help="waiting, delayed, active, completed, failed, cancelled."
)
@click.option("--q", metavar="TEXT", help="Id or its beginning, dedupe key, part of the error, or args.PATH:VALUE.")
@click.option("--group", metavar="NAME", help="Only this group's.")
@click.option("--tag", metavar="TAG", help="One of its tags, whole; a mail's are name:value.")
@click.option("--recipient", metavar="ADDRESS", help="Jobs of mails to this address.")
@click.option("--since", metavar="TIME", help="Accepted since then: 2h, 15:00, 2026-05-01T15:00+02:00.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
def list_jobs(since: str | None, limit: int, **wanted: str | None) -> None:
    """Jobs, newest first. Exit code 5 when there is none."""
    moment = since_of(since, datetime.now().astimezone())
    with connected() as client:
        found = client.pages(PATH, limit, **wanted, **{"from": moment})
    if invocation().json:
        print_json(found)
    else:
        columns = ["id", "queue", "task", "state", "priority", "attempts", "group", "created", "error"]
        print_table(columns, [_row(job) for job in found])
    if not found:
        said = {
            "queue": "in {}",
            "group": "of group {}",
            "tag": "with tag {}",
            "recipient": "to {}",
            "q": 'that match "{}"',
        }
        words = [
            "no",
            wanted["state"],
            "jobs",
            *(say.format(wanted[name]) for name, say in said.items() if wanted[name]),
        ]
        raise CliError(" ".join(word for word in words if word), Exit.NOTHING_MATCHED)


@jobs.command("show")
@click.argument("job_id", metavar="ID")
def show_job(job_id: str) -> None:
    """One job: argument, result, progress, errors of its attempts, its log."""
    with connected() as client:
        job = client.get(f"{PATH}/{segment(job_id)}")["data"]
    if invocation().json:
        return print_json(job)
    why = "; ".join(why["message"] for why in job.pop("whyWaiting")) or None
    told = {name: value for name, value in job.items() if name not in ("errors", "logs", "logsDropped", "progress")}
    print_facts(told | {"progress": _progress(job["progress"]), "waiting because": why})
    for line in job_lines(job):
        print(line)


def job_lines(job: Mapping[str, Any]) -> Iterator[str]:
    """The errors of its attempts, and its log. Servers wrote some of that: it must not move the terminal's cursor."""
    for error in job["errors"]:
        yield one_line(f"attempt {error['attempt']}  {error['at']}  {error['kind']}: {error['error']}")
    if job["logsDropped"]:
        yield f"log: {job['logsDropped']} lines before these are not kept"
    for line in job["logs"]:
        yield one_line(f"log {line['attempt']}  {line['at']}  {line['text']}")


for command in (retry_jobs, cancel_jobs, promote_jobs, remove_jobs, replay_job):
    jobs.add_command(command)


def _progress(progress: dict[str, Any] | None) -> str | None:
    if progress is None:
        return None
    percent = None if progress["percent"] is None else f"{progress['percent']} %"
    return " ".join(word for word in (percent, progress["stage"]) if word)


def _row(job: dict[str, Any]) -> list[Any]:
    attempts = f"{job['attempts']}/{job['maxAttempts']}"
    created = ago(job["createdAt"])
    said = [job[name] for name in ("id", "queue", "task", "state", "priority")]
    return [*said, attempts, job["group"], created, job["error"]]
