"""``gateway runs`` against a running instance, whose agents are the labelled demonstration."""

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
    """One ``gateway dev`` without a model provider's key for all tests of this file."""
    home = server_directory / f"cli-runs-{os.getpid()}"
    home.mkdir()
    process = DevProcess(home, "--port", "0", ORCHESTRATION_RATE_MAX="1000")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(process.ready())
    yield process
    process.stop()


@pytest.fixture
def cli(dev: DevProcess) -> Run:
    return lambda *arguments, **more: gateway(*arguments, cwd=dev.cwd, **more)


@pytest.fixture
def run(cli: Run) -> Run:
    return lambda *arguments, **more: cli("runs", *arguments, **more)


@pytest.fixture(scope="module")
def shop(dev: DevProcess) -> str:
    """A project's id."""
    made = gateway("projects", "create", "Shop", "--json", cwd=dev.cwd)
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["id"])


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)


def test_a_run_is_started_watched_and_shown(run: Run, shop: str) -> None:
    watched = run("start", shop, "--agent", "general", "--context", '{"request": "Say hello"}', "--watch")
    assert watched.returncode == 0, watched.stderr
    assert watched.stdout.startswith("general        done")
    assert "Demonstration, no model was asked" in watched.stdout
    assert "$0.00" in watched.stderr
    header, row = run("list", "--project", "Shop").stdout.splitlines()
    assert header.split("\t")[:5] == ["id", "status", "type", "agent", "by"]
    listed = row.split("\t")
    assert listed[1:5] in (
        ["completed", "single_agent", "general", "manual"],
        ["awaiting_approval", "single_agent", "general", "manual"],
    )
    shown = facts(run("show", listed[0]))
    assert (shown["agent"], shown["note"]) == ("general", "a demonstration answered, no model was asked")
    assert json.loads(run("show", listed[0], "--output").stdout)["general"]["summary"]
    found = json.loads(run("show", listed[0], "--json").stdout)
    assert (found["context"], found["priority"], found["demo"]) == ({"request": "Say hello"}, 10, True)
    again = run("watch", listed[0])
    assert (again.returncode, again.stdout) == (0, watched.stdout), "who comes late is told the same"
    messages = [json.loads(line) for line in run("watch", listed[0], "--json").stdout.splitlines()]
    assert (messages[0]["type"], messages[-1]["progress"]["percent"]) == ("job:started", 100)


def test_what_a_run_waits_for_is_decided(run: Run, shop: str) -> None:
    watched = run("start", shop, "--agent", "code-review", "--watch")
    assert watched.returncode == 0, watched.stderr
    assert "1 action waits for you: gateway runs approve" in watched.stderr, "the demonstration asks for one"
    run_id = watched.stderr.split("gateway runs approve ")[1].split(",")[0]
    decided = run("reject", run_id, "--comment", "not now")
    assert decided.returncode == 0, decided.stderr
    assert {line.split("\t")[1] for line in decided.stdout.splitlines()[1:]} == {"rejected"}
    assert facts(run("show", run_id))["status"] == "completed"
    nothing = run("approve", run_id)
    assert nothing.returncode == 5


def test_a_run_is_cancelled_and_tried_again(run: Run, cli: Run, shop: str) -> None:
    assert cli("queues", "pause", "orchestration").returncode == 0
    started = facts(run("start", "Shop"))
    assert started["status"] == "queued"
    taken = run("start", "Shop")
    assert (taken.returncode, "already_running" in run("start", "Shop", "--json").stderr) == (1, True)
    cancelled = run("cancel", started["run"], "--reason", "changed my mind")
    assert (cancelled.returncode, cancelled.stderr.strip()) == (0, "it is cancelled")
    assert facts(run("show", started["run"]))["error"] == "changed my mind"
    watched = run("watch", started["run"])
    assert (watched.returncode, "changed my mind" in watched.stderr) == (1, True)
    again = json.loads(run("retry", started["run"], "--json").stdout)
    assert cli("queues", "resume", "orchestration").returncode == 0
    assert run("watch", again["jobId"], "--words").returncode == 0
    found = json.loads(run("show", again["jobId"], "--json").stdout)
    assert (found["jobType"], found["retryOf"], len(found["steps"])) == ("retry", started["run"], 7)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("start", "Nowhere"), 5, "no project is named 'Nowhere'"),
        (("start", "00000000-0000-7000-8000-000000000000"), 5, "no such project"),
        (("start", "Shop", "--agent", "nobody"), 2, "agentSlug"),
        (("start", "Shop", "--context", "[1]"), 2, "must be a JSON object"),
        (("start", "Shop", "--timeout", "soon"), 2, "--timeout"),
        (("start", "Shop", "--type", "everything"), 2, "is not one of"),
        (("show", "nonsense"), 5, "no such run"),
        (("watch", "nonsense"), 5, "no such run"),
        (("cancel", "00000000-0000-7000-8000-000000000000"), 5, "no such run"),
        (("list", "--status", "failed"), 5, "no runs"),
    ],
)
def test_what_is_wrong_is_said(run: Run, shop: str, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run(*arguments)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
