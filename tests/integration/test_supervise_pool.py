"""What is done to processes that begin, drain and end as each test tells them, behind one real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.supervise.config import read_ecosystem
from gateway.supervise.logs import Files, LogFiles
from gateway.supervise.operations import OperationFailed, Operations, Refused
from gateway.supervise.pool import Plan, Pool
from gateway.supervise.process import Process, Program
from tests.support.eventually import eventually

# Ready at once, unless there is a file "unready"; it drains until SIGTERM, as one with a long job.
PROGRAM = """
import http.server, json, os, signal, socket, sys, threading
given = json.loads(sys.argv[-1])
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists("unready") else 200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready, bind_and_activate=False)
server.socket = socket.socket(fileno=given["own"])
threading.Thread(target=server.serve_forever, daemon=True).start()
os.read(given["lifeline"], 1)
signal.pause()
"""


class Supervising:
    """A pool, its operations, and a configuration that a test may change."""

    def __init__(self, directory: Path, public: socket.socket, logs: LogFiles, client: httpx.AsyncClient) -> None:
        self.public = public
        self._file = directory / "ecosystem.toml"
        self._program = Program(
            command=[sys.executable, "-c", PROGRAM],
            environment=os.environ,
            cwd=directory,
            control=directory / "control",
            kill_after_s=5,
        )
        self.configure("")
        self.pool = Pool(self._plan(), public, logs, client)
        self.operations = Operations(self.pool, self._plan)

    def configure(self, text: str) -> None:
        self._file.write_text(text, "utf-8")

    def _plan(self) -> Plan:
        return Plan(read_ecosystem(self._file), self._program)

    async def ready(self) -> Process:
        """The one process of the first place."""

        def found() -> Process | None:
            process = self.pool.places[0].process
            return process if process in self.pool.ready else None

        process = await eventually(found)
        assert process is not None
        return process

    async def reap(self) -> None:
        while True:
            self.pool.reap()
            await asyncio.sleep(0.01)


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Supervising]:
    logs = LogFiles(Files(out=None, err=None, max_bytes=1, retain=1))
    with socket.create_server(("127.0.0.1", 0)) as public:
        async with httpx.AsyncClient(trust_env=False) as client:
            made = Supervising(tmp_path, public, logs, client)
            await made.pool.add()
            reaping = asyncio.create_task(made.reap())
            yield made
            for process in made.pool.processes:
                process.signal(signal.SIGKILL)
            await made.pool.stop()
            reaping.cancel()


def _unheard(_: str) -> None:
    pass


async def test_a_reload_forgets_crashes_and_judges_them_as_the_file_says_now(one: Supervising) -> None:
    one.configure("max_restarts = 1")
    (await one.ready()).signal(signal.SIGKILL)
    await eventually(lambda: one.pool.started == 2, message="ten crashes were allowed when it was started")
    await one.ready()
    assert await one.operations.reload(_unheard) == 1
    (await one.ready()).signal(signal.SIGKILL)
    await eventually(lambda: one.pool.places[0].given_up, message="one is allowed now")
    one.configure("max_restarts = 2")
    assert await one.operations.reload(_unheard) == 1
    (await one.ready()).signal(signal.SIGKILL)
    await eventually(lambda: one.pool.started == 5, message="it is given up for what the code before it did")


async def test_a_process_that_is_not_ready_in_time_replaces_none_and_the_limit_is_named(
    one: Supervising, tmp_path: Path
) -> None:
    before = await one.ready()
    (tmp_path / "unready").touch()
    one.configure('listen_timeout = "300ms"')
    with pytest.raises(OperationFailed, match=r"not ready within 0.3 s \(listen_timeout\)\. The old ones go on"):
        await one.operations.reload(_unheard)
    assert await one.ready() is before


async def test_a_process_is_not_replaced_for_its_memory_while_the_one_before_it_still_drains(one: Supervising) -> None:
    one.configure('max_memory_restart = "1K"\nmin_uptime = "0s"')
    first = await one.ready()
    assert await one.operations.reload(_unheard) == 1
    second = await one.ready()
    second.fresh_bytes = 0  # it grew above the mark since
    await one.operations.replace_too_big()
    assert await one.ready() is second, "three of them would be in memory"
    first.signal(signal.SIGTERM)
    await eventually(lambda: first not in one.pool.processes)
    await one.operations.replace_too_big()
    assert await one.ready() is not second


async def test_a_reload_that_meets_a_stop_ends_with_a_reason(one: Supervising) -> None:
    await one.pool.add()
    await one.ready()

    def stop(_: str) -> None:
        one.pool.stopping = True
        one.public.close()

    with pytest.raises(Refused, match="the supervisor stops"):
        await one.operations.reload(stop)
    assert one.operations.running is None
    assert one.pool.started == 3, "two, and the one that took the first one's place"
