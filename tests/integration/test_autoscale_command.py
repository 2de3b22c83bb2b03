"""``gateway autoscale`` with a command of one's own, over a replica's metrics as they may be."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.autoscale.fleet import ProcessFleet
from gateway.infra.metrics import Metrics, QueueReading, Readings, Slots
from tests.support.eventually import eventually
from tests.support.web import SECRET


class Replica:
    """Answers /metrics with what ``demand`` and ``slots`` say, in the gateway's own words; ``away``: with 503;
    ``workers``: has it any?"""

    def __init__(self) -> None:
        self.demand = 0.0
        self.away = False
        self.workers = True
        replica = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = replica.text()  # before ``away`` is asked: what is written while it is away is not answered
                self.send_response(503 if replica.away else 200)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def text(self) -> bytes:
        metrics = Metrics()
        if self.workers:
            metrics.watch_slots(lambda: {"email-queue": Slots(busy=1, free=4)})
        queue = QueueReading(states={"waiting": 9}, oldest_waiting_s=1, rate_per_s=None, demand_slots=self.demand)
        metrics.read(Readings(queues={"email-queue": queue}, replicas={"all": 2}))
        return metrics.text()


@pytest.fixture
def replica() -> Iterator[Replica]:
    made = Replica()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


@contextmanager
def autoscale(replica: Replica, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "gateway", "autoscale", "--json", "--interval", "0.1", "--scrape", replica.url]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout is not None
        process.stdout.close()


async def test_a_command_gets_the_number_and_no_answer_changes_nothing(replica: Replica, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    script = f"sh -c {shlex.quote(f'echo {{replicas}} >> {asked}')}"
    replica.demand = 16.0
    with autoscale(replica, "--command", script, "--down-after", "0") as process:
        assert process.stdout is not None
        await eventually(lambda: asked.exists() and asked.read_text().split() == ["4"], 30, "16 slots, 4 for each")
        replica.away, replica.demand = True, 0.0
        blind = 0
        while blind < 3:
            seen = json.loads(_object(process.stdout))
            blind += seen["answered"] == 0
            assert seen["after"] == 4 or seen["before"] == 2
        replica.away = False
        await eventually(lambda: asked.read_text().split() == ["4", "2"], message="it shrinks again")


async def test_a_command_that_fails_is_tried_again(replica: Replica, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"sh -c {shlex.quote(f'test -e {mark} && echo {{replicas}} > {mark}')}"
    replica.demand = 16.0
    with autoscale(replica, "--command", script) as process:
        assert process.stdout is not None
        first = json.loads(_object(process.stdout))
        assert (first["before"], first["after"]) == (2, 2)
        assert "ended with 1" in first["failed"]
        mark.touch()
        await eventually(lambda: mark.read_text().strip() == "4")


def test_a_replica_without_workers_is_no_silent_nothing(replica: Replica) -> None:
    replica.workers, replica.demand = False, 16.0
    command = [sys.executable, "-m", "gateway", "autoscale", "--scrape", replica.url, "--command", "false {replicas}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert told.startswith("2 -> 2 replicas (the answers show no worker slots")


def _object(lines: Iterator[str]) -> str:
    text = ""
    for line in lines:
        text += line
        if line.rstrip() == "}" or (line.startswith("{") and line.rstrip().endswith("}")):
            break
    return text


@pytest.mark.parametrize(("options", "said"), [
    (["--min", "5", "--max", "4"], "--min 5 is more than --max 4"),
    (["--command", "scale {replicas}"], "need --scrape URL"),
    (["--command", "scale", "--scrape", "http://localhost:1"], "must hold {replicas}"),
    (["--command", "sh 'a {replicas}", "--scrape", "http://localhost:1"], "No closing quotation"),
    (["--command", "a {replicas}", "--scrape", "localhost:3003"], "localhost:3003 is no address of a replica; write http://"),
    (["--command", "a {replicas}", "--scrape", "http://[bad"], "is no address of a replica"),
    (["--command", "a", "--compose", "worker"], "exclude each other"),
    (["--supervised", "e.toml", "--compose", "worker"], "excludes --compose and --command"),
    (["--supervised", "no-such.toml"], "no-such.toml: No such file"),
    (["--min", "1"], "DATABASE_URL is not set"),
])  # fmt: skip
def test_wrong_usage_is_explained(options: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "autoscale", *options],
        cwd=tmp_path,
        env={"PATH": os.defpath, "JWT_SECRET": SECRET, "GATEWAY_ROLE": "api"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert said in done.stderr


async def test_one_that_is_being_started_again_ends_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.autoscale.fleet._RESTART_AFTER_S", 0.0)
    again = asyncio.Event()
    given = iter((1, 2))

    def ports() -> int:
        port = next(given)
        if port == 2:
            again.set()
        return port

    fleet = ProcessFleet(["sh", "-c", "test {port} = 1 || exec sleep 60"], ports, dict(os.environ))
    await fleet.scale(1, {})
    await again.wait()
    await fleet.close()
    left = [instance.process for instance in fleet.running]
    for process in left:
        process.kill()
        await process.wait()
    assert not left
    assert fleet.exits == [0, -signal.SIGTERM]


async def test_one_that_cannot_be_started_again_is_told_and_is_up_to_the_next_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.autoscale.fleet._RESTART_AFTER_S", 0.0)
    command = tmp_path / "replica"
    command.write_text("#!/bin/sh\nrm $0\n")  # as an upgrade takes it away
    command.chmod(0o700)
    fleet = ProcessFleet([str(command)], lambda: 1, dict(os.environ))
    with capture_logs() as lines:
        await fleet.scale(1, {})
        await eventually(lambda: not fleet._tasks)
    assert [line["reason"] for line in lines if line["event"] == "replica_not_started"]
    assert fleet.size == 0
