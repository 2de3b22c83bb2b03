"""Finding and changing many jobs from the command line, against a running instance."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from tests.support.dev_process import DevProcess, clean_environment, gateway
from tests.support.eventually import eventually

Run = Callable[..., subprocess.CompletedProcess[str]]
OUTSIDE = "orchestration-queue"  # its jobs of an unknown task stay where they are put


@pytest.fixture(scope="module")
def dev(server_directory: Path) -> Iterator[DevProcess]:
    """One ``gateway dev`` for all tests of this file, whose queue of agent jobs rests."""
    home = server_directory / f"cli-jobs-{os.getpid()}"
    home.mkdir()
    process = DevProcess(home, "--port", "0")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(process.ready())
    assert gateway("queues", "pause", "orchestration", cwd=home).returncode == 0
    yield process
    process.stop()


@pytest.fixture
def run(dev: DevProcess) -> Run:
    return lambda *arguments, **more: gateway(*arguments, cwd=dev.cwd, **more)


@pytest.fixture
async def ledger(dev: DevProcess) -> AsyncIterator[asyncpg.Connection[Any]]:
    known = dev.facts()
    assert known is not None
    connection = await asyncpg.connect(known["databaseUrl"])
    await connection.execute("DELETE FROM jobs")
    yield connection
    await connection.close()


async def insert(
    ledger: asyncpg.Connection[Any], count: int, state: str = "failed", error: str = "no luck"
) -> list[str]:
    ids = [uuid7() for _ in range(count)]
    await ledger.execute(
        """INSERT INTO jobs (id, queue, task, state, args, max_attempts, error, run_at, finished_at)
        SELECT x, $2, 'test.task', $3, '{"n": 1}', 3, $4, now() + interval '1 h', now() FROM unnest($1::uuid[]) x""",
        ids,
        OUTSIDE,
        state,
        error,
    )
    return [str(job_id) for job_id in ids]


async def states(ledger: asyncpg.Connection[Any]) -> list[str]:
    return [row["state"] for row in await ledger.fetch("SELECT state FROM jobs ORDER BY id")]


def started(dev: DevProcess, *arguments: str) -> subprocess.Popen[str]:
    """A command that is not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=dev.cwd,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def facts(output: str) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in output.splitlines() if "\t" in line)


def listed(run: Run, *options: str) -> list[str]:
    done = run("jobs", "ls", *options, "--json")
    return [job["id"] for job in json.loads(done.stdout)]


async def test_jobs_are_found_by_what_people_know(run: Run, ledger: asyncpg.Connection[Any]) -> None:
    [one, two] = await insert(ledger, 2)
    await ledger.execute("UPDATE jobs SET error = '550 no such user' WHERE id::text = $1", two)
    assert listed(run) == [two, one]
    assert listed(run, "--q", "such") == [two]
    assert listed(run, "--q", "args.n:1", "--queue", "orchestration", "--status", "failed") == [two, one]
    assert listed(run, "--since", "2h") == [two, one]
    await ledger.execute("UPDATE jobs SET tags = '{plan:pro}' WHERE id::text = $1", one)
    assert listed(run, "--tag", "plan:pro") == [one]
    nobody = run("jobs", "ls", "--recipient", "nobody@example.com")
    assert (nobody.returncode, "no jobs to nobody@example.com" in nobody.stderr) == (5, True)
    dry = run("jobs", "retry", "--queue", "orchestration", "--tag", "plan:pro", "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"wouldRetry": 1}
    missing = run("jobs", "ls", "--q", "nothing like it")
    assert (missing.returncode, 'no jobs that match "nothing like it"' in missing.stderr) == (5, True)
    assert run("jobs", "ls", "--q", "args.n").returncode == 2
    assert run("jobs", "ls", "--since", "soon").returncode == 2


async def test_many_are_counted_asked_for_and_followed(run: Run, ledger: asyncpg.Connection[Any]) -> None:
    await insert(ledger, 3)
    await insert(ledger, 1, error="550 no such user")
    chosen = ("--queue", "orchestration", "--q", "luck")
    assert facts(run("jobs", "retry", *chosen, "--dry-run").stdout) == {"wouldRetry": "3"}
    refused = run("jobs", "retry", *chosen)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "3 failed jobs of orchestration will run again: confirm with --yes" in refused.stderr
    done = run("jobs", "retry", *chosen, "--yes")
    assert (done.returncode, facts(done.stdout)) == (0, {"retried": "3"})
    assert await states(ledger) == ["waiting", "waiting", "waiting", "failed"]
    cancelled = run("jobs", "cancel", "--queue", "orchestration", "--status", "waiting", "--reason", "wrong", "--yes")
    assert facts(cancelled.stdout) == {"cancelled": "3"}
    assert {row["error"] for row in await ledger.fetch("SELECT error FROM jobs WHERE state = 'cancelled'")} == {"wrong"}
    removed = run("jobs", "rm", "--queue", "orchestration", "--status", "failed,cancelled", "--yes", "--json")
    assert json.loads(removed.stdout) == {"deleted": 4}
    assert await states(ledger) == []
    assert run("jobs", "promote", "--queue", "orchestration", "--yes").returncode == 5


async def test_all_jobs_are_never_meant_by_saying_nothing(run: Run, ledger: asyncpg.Connection[Any]) -> None:
    await insert(ledger, 2, state="delayed")
    for verb in ("cancel", "rm"):
        refused = run("jobs", verb, "--queue", "orchestration", "--yes")
        assert (refused.returncode, "at least one field" in refused.stderr) == (2, True)
    assert await states(ledger) == ["delayed", "delayed"]


async def test_one_by_one(run: Run, ledger: asyncpg.Connection[Any]) -> None:
    [delayed] = await insert(ledger, 1, state="delayed")
    [failed] = await insert(ledger, 1)
    assert run("jobs", "promote", delayed).returncode == 0
    assert await states(ledger) == ["waiting", "failed"]
    unknown = run("jobs", "replay", failed, "--args", '{"n": 2}')
    assert (unknown.returncode, "no task test.task" in unknown.stderr) == (1, True)
    assert run("jobs", "replay", failed, "--args", "{").returncode == 2
    assert run("jobs", "rm", delayed, failed).returncode == 0
    assert await states(ledger) == []


async def test_work_that_one_need_not_wait_for(run: Run, ledger: asyncpg.Connection[Any]) -> None:
    await insert(ledger, 2)
    started = run("jobs", "rm", "--queue", "orchestration", "--status", "failed", "--yes", "--detach", "--json")
    operation_id = json.loads(started.stdout)["operationId"]
    assert f"gateway operations follow {operation_id}" in started.stderr
    followed = run("operations", "follow", operation_id)
    assert (followed.returncode, facts(followed.stdout)["done"]) == (0, "2")
    assert operation_id in run("operations", "ls").stdout
    assert run("operations", "cancel", operation_id).returncode == 1
    assert run("operations", "show", str(uuid7())).returncode == 5


async def test_cleaning_asks_first(run: Run, ledger: asyncpg.Connection[Any]) -> None:
    await insert(ledger, 2)
    await ledger.execute("UPDATE jobs SET finished_at = now() - interval '8 days'")
    refused = run("queues", "clean", "orchestration", "--older", "7d")
    assert (refused.returncode, "confirm with --yes" in refused.stderr) == (2, True)
    cleaned = run("queues", "clean", "orchestration", "--older", "7d", "--state", "failed", "--yes")
    assert facts(cleaned.stdout) == {"completed": "0", "failed": "2"}
    assert await states(ledger) == []


async def test_ctrl_c_leaves_the_operation_running_and_says_how_to_go_on(
    run: Run, dev: DevProcess, ledger: asyncpg.Connection[Any]
) -> None:
    await insert(ledger, 1)
    command = ("jobs", "rm", "--queue", "orchestration", "--status", "failed", "--yes")
    async with ledger.transaction():
        await ledger.execute("SELECT FROM jobs FOR UPDATE")  # the leader waits for this
        looking_on = started(dev, *command)
        operation_id = await eventually(
            lambda: ledger.fetchval("SELECT id FROM operations WHERE state = 'running'"), timeout=40
        )
        shown = json.loads(run("operations", "show", str(operation_id), "--json").stdout)
        assert (shown["state"], shown["done"]) == ("running", 0)
        address = f"/operations/{operation_id}"
        await eventually(lambda: dev.log.count(address) > 1, 20, "the command does not look on")  # one is ours
        looking_on.send_signal(signal.SIGINT)
        _, said = looking_on.communicate(timeout=30)
    assert looking_on.returncode == 130
    assert f"gateway operations follow {operation_id}" in said
    assert f"gateway operations cancel {operation_id}" in said
    assert run("operations", "follow", str(operation_id)).returncode == 0
    assert await states(ledger) == []
