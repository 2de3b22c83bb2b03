"""``gateway triggers`` against a running instance."""

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


@pytest.fixture(scope="module")
def dev(server_directory: Path) -> Iterator[DevProcess]:
    """One ``gateway dev`` for all tests of this file."""
    home = server_directory / f"cli-triggers-{os.getpid()}"
    home.mkdir()
    process = DevProcess(home, "--port", "0")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(process.ready())
    yield process
    process.stop()


@pytest.fixture
def run(dev: DevProcess) -> Run:
    return lambda *arguments, **more: gateway("triggers", *arguments, cwd=dev.cwd, **more)


@pytest.fixture
def project(dev: DevProcess) -> str:
    made = gateway("projects", "create", "Shop", "--json", cwd=dev.cwd)
    return str(json.loads(made.stdout)["id"])


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)


def test_a_schedule_from_its_making_to_its_end(run: Run, project: str) -> None:
    nobody = run("list", "--project", project)
    assert (nobody.returncode, "no triggers" in nobody.stderr) == (5, True)
    made = facts(
        run(
            *("add", "--project", project, "--agent", "researcher", "--preset", "weekdays", "--hour", "7"),
            *("--tz", "Europe/Berlin", "--window", "06:00-20:00 mon,tue", "--max-per-day", "2"),
        )
    )
    assert (made["when"], made["cron"]) == ("weekdays Europe/Berlin", "0 7 * * 1-5")
    assert (made["window"], made["runs of a day"], made["state"]) == ("06:00-20:00 mon,tue", "2", "on")
    assert made["next runs"].count(",") == 4
    header, row = run("list", "--project", project).stdout.splitlines()
    assert header.split("\t") == ["id", "project", "agent", "starts", "next", "last", "state"]
    assert row.split("\t")[:4] == [made["id"], project, "researcher", "weekdays Europe/Berlin"]
    assert json.loads(run("fire", made["id"], "--json").stdout)["jobId"]
    shown = json.loads(run("show", made["id"], "--json").stdout)
    assert shown["data"]["cron"] == "0 7 * * 1-5" and isinstance(shown["ticks"], list)
    again = run("add", "--project", project, "--agent", "researcher", "--cron", "@daily")
    assert (again.returncode, "has a schedule" in again.stderr) == (1, True)
    assert run("remove", made["id"]).returncode == 0
    gone = run("show", made["id"])
    assert (gone.returncode, "no such trigger" in gone.stderr) == (5, True)


def test_a_webhook_tells_its_secret_once(run: Run, project: str) -> None:
    made = facts(
        run("add", "--project", project, "--webhook", "pushes", "--github", "--event", "push", "--branch", "release/*")
    )
    secret = made["secret, shown this once"]
    assert secret.startswith("whsec_") and (made["signed by"], made["branches"]) == ("github", "release/*")
    shown = run("show", made["id"])
    assert shown.returncode == 0 and secret not in shown.stdout
    rotated = json.loads(run("rotate", made["id"], "--json").stdout)
    assert rotated["secret"] not in (secret, None)
    listed = json.loads(run("list", "--project", project, "--json").stdout)
    assert (listed["schedules"], [hook["id"] for hook in listed["webhooks"]]) == ([], [made["id"]])
    assert run("remove", made["id"]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "or preset is needed"),
        (("--cron", "0 0 30 2 *"), "never comes"),
        (("--preset", "daily", "--tz", "Berlin"), 'did you mean "Europe/Berlin"'),
        (("--preset", "daily", "--agent", "nobody"), "known: "),
        (("--preset", "daily", "--window", "nine to five"), "--window"),
        (("--preset", "daily", "--event", "push"), "--webhook"),
        (("--webhook", "x", "--cron", "@daily"), "--webhook"),
    ],
)
def test_what_is_wrong_is_said(run: Run, project: str, arguments: tuple[str, ...], said: str) -> None:
    done = run("add", "--project", project, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
