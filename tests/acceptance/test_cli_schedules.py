"""``gateway schedules`` against a running instance."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.dev_process import DevProcess, gateway

Run = Callable[..., subprocess.CompletedProcess[str]]
TASK = ("--task", "email.send", "--args", '{"queueId": "018f2f6e-7c1c-7000-8000-000000000000"}')


@pytest.fixture(scope="module")
def dev(server_directory: Path) -> Iterator[DevProcess]:
    """One ``gateway dev`` for all tests of this file."""
    home = server_directory / f"cli-schedules-{os.getpid()}"
    home.mkdir()
    process = DevProcess(home, "--port", "0")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(process.ready())
    yield process
    process.stop()


@pytest.fixture
def run(dev: DevProcess) -> Run:
    return lambda *arguments, **more: gateway("schedules", *arguments, cwd=dev.cwd, **more)


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


def test_a_schedule_from_its_making_to_its_end(run: Run) -> None:
    nobody = run("list")
    assert (nobody.returncode, "no schedules" in nobody.stderr) == (5, True)
    made = facts(
        run(
            *("add", "nightly", *TASK, "--cron", "30 2 * * *", "--tz", "Europe/Berlin"),
            *("--missed", "all", "--missed-max", "9", "--overlap", "skip", "--priority", "3"),
        )
    )
    assert (made["when"], made["missed ticks"], made["state"]) == ("30 2 * * * Europe/Berlin", "all, 9 at once", "on")
    assert made["next ticks"].count(",") == 4
    assert facts(run("show", "nightly")) == made
    paused = facts(run("pause", "nightly", "--reason", "holidays"))
    assert (paused["state"], paused["next ticks"]) == ("paused: holidays", "-")
    assert facts(run("resume", "nightly"))["state"] == "on"
    job = json.loads(run("run", "nightly", "--json").stdout)
    assert job["queue"] == "email-queue" and job["jobId"]
    header, row = run("list").stdout.splitlines()
    assert header.split("\t") == ["name", "task", "when", "next", "last", "state"]
    assert row.split("\t")[:3] == ["nightly", "email.send", "30 2 * * * Europe/Berlin"]
    assert json.loads(run("list", "--json", "--prefix", "night").stdout)[0]["lastJobId"] == job["jobId"]
    again = run("add", "nightly", *TASK, "--every", "90s")
    assert (again.returncode, "there is a schedule 'nightly' already" in again.stderr) == (1, True)
    assert facts(run("add", "nightly", *TASK, "--every", "90s", "--replace"))["when"] == "every 90s"
    assert run("remove", "nightly").returncode == 0
    gone = run("show", "nightly")
    assert (gone.returncode, "no schedule 'nightly'" in gone.stderr) == (5, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cron", "0 0 30 2 *"), "never comes"),
        (("--cron", "* * * * * *"), "seconds are not taken"),
        (("--every", "500ms"), "not a number of whole seconds"),
        (("--every", "soon"), "is not a time"),
        (("--cron", "@daily", "--tz", "Berlin"), 'did you mean "Europe/Berlin"'),
        (("--cron", "@daily", "--args", "{"), "--args"),
        (("--cron", "@daily", "--args", "{}"), "args.queueId"),
        (("--cron", "@daily", "--task", "email.sned"), "email.send"),
        (("--cron", "@daily", "--missed", "never"), "--missed"),
        ((), "or an interval is needed"),
    ],
)
def test_what_is_wrong_is_said(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run("add", "wrong", *TASK, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
