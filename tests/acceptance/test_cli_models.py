"""``gateway models`` against a running instance."""

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
    home = server_directory / f"cli-models-{os.getpid()}"
    home.mkdir()
    process = DevProcess(home, "--port", "0")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(process.ready())
    yield process
    process.stop()


@pytest.fixture
def run(dev: DevProcess) -> Run:
    return lambda *arguments, **more: gateway("models", *arguments, cwd=dev.cwd, **more)


def test_models_are_listed_priced_and_limited(run: Run) -> None:
    listed = run("list")
    assert listed.returncode == 0, listed.stderr
    rows = {row.split("\t")[0]: row.split("\t") for row in listed.stdout.splitlines()}
    assert rows["gpt-5-mini"] == [
        *("gpt-5-mini", "openai", "not set", "$0.25", "$2.00", "2026-11-22", "unlimited", "unlimited")
    ]
    limited = run("limit", "gpt-5-mini", "--requests", "500")
    assert limited.stdout.splitlines() == ["model\tgpt-5-mini", "requests/min\t500", "tokens/min\tunlimited"]
    assert run("price", "gpt-9", "--provider", "openai", "--input", "0.3", "--output", "12").returncode == 0
    found = {model["model"]: model for model in json.loads(run("list", "--json").stdout)["models"]}
    assert (found["gpt-9"]["inputMicros"], found["gpt-5-mini"]["requestsPerMinute"]) == (300_000, 500)
    wrong = run("price", "gpt-9", "--provider", "openai", "--input", "free", "--output", "12")
    assert (wrong.returncode, "is not a price" in wrong.stderr) == (2, True)


def test_a_provider_rests_and_goes_on(run: Run) -> None:
    paused = run("pause", "anthropic", "--until", "10m", "--reason", "their maintenance")
    assert "their maintenance" in paused.stdout, paused.stderr
    assert "rests, on again in 9m" in run("providers").stdout
    assert "open" in run("resume", "anthropic").stdout
    assert run("pause", "acme").returncode == 2
