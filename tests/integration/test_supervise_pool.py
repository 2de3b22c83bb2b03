"""What is done to processes that begin, drain and end as each test tells them, behind one real socket."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from gateway.supervise.config import read_ecosystem
from gateway.supervise.logs import Files, LogFiles
from gateway.supervise.operations import OperationFailed, Operations, Refused
from gateway.supervise.pool import Plan, Pool
from gateway.supervise.process import Process, Program, State
from gateway.supervise.pulse import Watch, silence_of
from gateway.supervise.scrapes import Scrapes
from tests.support.eventually import eventually

# Ready at once, unless there is a file "unready"; it drains until SIGTERM, as one with a long job. It gives signs of
# life, unless there is a file "mute-<number>": then it makes a file "muted-<number>".
PROGRAM = """
import http.server, json, os, signal, socket, sys, threading, time
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
def beat():
    while True:
        if os.path.exists(f"mute-{given['number']}"):
            open(f"muted-{given['number']}", "w").close()
        else:
            os.write(given["heartbeat"], b".")
        time.sleep(0.02)
threading.Thread(target=beat, daemon=True).start()
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
        self.now = 1000.0
        self.watch = Watch(self.pool, lambda: self.now)

    def configure(self, text: str) -> None:
        self._file.write_text(text, "utf-8")

    def _plan(self) -> Plan:
        return Plan(read_ecosystem(self._file), self._program)

    async def ready(self) -> Process:
        """The one process of the first place."""

        def found() -> Process | None:
            process = self.pool.places[0].process
            return process if process in self.pool.ready else None

        process = await eventually(found, 30)
        assert process is not None
        return process

    def apply(self, text: str) -> None:
        """Without a reload."""
        self.configure(text)
        self.pool.plan = self._plan()

    async def heard(self, process: Process) -> None:
        """It gave a sign of life, and the watch saw it; no time has passed since."""

        def seen() -> bool:
            self.watch.look()
            return process.silent_s == 0.0

        await eventually(seen, message="no sign of life")

    def heard_last(self, process: Process) -> None:
        """It gives no more; what it gave before is heard."""
        process.gave_sign()
        process.silent_s = 0.0

    def pass_time(self, seconds: int) -> None:
        """With a look in each second, as the supervisor has them."""
        for _ in range(seconds):
            self.now += 1.0
            self.watch.look()

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


WATCHED = 'watchdog_timeout = "30s"\nwatchdog_grace = "100ms"'


async def test_a_stopped_process_is_ended_and_another_takes_its_place(one: Supervising) -> None:
    one.apply(WATCHED)
    stopped = await one.ready()
    await one.heard(stopped)
    stopped.signal(signal.SIGSTOP)
    await eventually(lambda: _state_of(stopped) == "T")
    one.heard_last(stopped)
    one.pass_time(29)
    assert await one.ready() is stopped, "it has a second left"
    said = "gave no sign of life for 29 s; it was stopped by a signal"
    assert (silence_of(stopped) or "").endswith(said)
    one.pass_time(1)
    assert (stopped.state, one.pool.frozen) == (State.DRAINING, 1)
    assert "it was stopped by a signal" in (one.pool.places[0].reason or "")
    await eventually(lambda: stopped not in one.pool.processes, message="it does not get SIGTERM; SIGKILL it does")
    assert stopped.exit_code.result() == -signal.SIGKILL
    assert (await one.ready()).pid != stopped.pid
    assert (one.pool.started, one.pool.killed) == (2, 0), "a supervisor that did its duty does not end with 1"


def _state_of(process: Process) -> str | None:
    process.look()
    return process.usage.state if process.usage is not None else None


async def test_a_draining_process_whose_loop_hangs_is_ended_and_not_replaced(one: Supervising, tmp_path: Path) -> None:
    one.apply(WATCHED)
    drains = await one.ready()
    await one.operations.reload(_unheard)
    await one.heard(drains)
    (tmp_path / f"mute-{drains.number}").touch()
    await eventually((tmp_path / f"muted-{drains.number}").exists)
    one.heard_last(drains)
    for _ in range(30):
        await one.heard(await one.ready())
        one.pass_time(1)
    await eventually(lambda: drains not in one.pool.processes)
    assert (one.pool.frozen, one.pool.started) == (1, 2)


async def test_who_drains_or_loads_its_code_for_long_is_not_frozen(one: Supervising, tmp_path: Path) -> None:
    one.apply(WATCHED)
    drains = await one.ready()
    (tmp_path / "mute-2").touch()  # no sign of life from its start
    await one.operations.reload(_unheard)
    for _ in range(40):
        await one.heard(drains)
        one.pass_time(1)
    assert (await one.ready()).silent_s is None
    assert (one.pool.frozen, len(one.pool.processes)) == (0, 2)


async def test_a_process_that_is_not_ready_yet_has_as_long_as_it_may_take_to_be(
    one: Supervising, tmp_path: Path
) -> None:
    one.apply(f'{WATCHED}\nlisten_timeout = "60s"')
    await one.ready()
    (tmp_path / "unready").touch()
    await one.pool.add()
    begins = one.pool.processes[1]
    await one.heard(begins)
    begins.signal(signal.SIGSTOP)
    await eventually(lambda: _state_of(begins) == "T")
    one.heard_last(begins)
    for _ in range(59):
        await one.heard(await one.ready())
        one.pass_time(1)
    assert begins.abandoned is False
    one.pass_time(1)
    assert begins.abandoned is True


async def test_while_the_machine_slept_nobody_was_silent(one: Supervising) -> None:
    one.apply(WATCHED)
    process = await one.ready()
    await one.heard(process)
    process.signal(signal.SIGSTOP)
    await eventually(lambda: _state_of(process) == "T")
    one.heard_last(process)
    one.now += 8 * 3600.0
    one.watch.look()
    assert (process.silent_s, process.abandoned) == (2.0, False)
    process.signal(signal.SIGCONT)
    await one.heard(process)
    one.apply('watchdog_timeout = "0s"')
    process.signal(signal.SIGSTOP)
    one.pass_time(1000)
    assert process.abandoned is False, "it is turned off"
    process.signal(signal.SIGCONT)


SIZE = 'max_memory_restart = "100M"\nmin_uptime = "30s"'
_MIB = 1024**2


class Grown:
    """Processes that are as old and as big as a test says."""

    def __init__(self, one: Supervising) -> None:
        self.one = one

    async def is_replaced(self, uptime_s: float, size_mib: int) -> bool:
        """At this age and size."""
        process = await self.one.ready()
        assert process.usage is not None
        process.started_at = time.monotonic() - uptime_s
        process.fresh_bytes = 50 * _MIB
        process.usage = msgspec.structs.replace(process.usage, rss_bytes=size_mib * _MIB)
        await self.one.operations.replace_too_big()
        after = await self.one.ready()
        if after is process:
            return False
        process.signal(signal.SIGTERM)
        await eventually(lambda: process not in self.one.pool.processes)
        return True

    async def said(self) -> str:
        """What `status` says of it."""
        ((shown,), _) = await Scrapes(self.one.pool).processes()
        return shown.reason or ""


async def test_a_size_that_is_soon_there_again_is_replaced_ever_less_often_and_said(
    one: Supervising, capsys: pytest.CaptureFixture[str]
) -> None:
    one.apply(SIZE)
    grown = Grown(one)
    assert await grown.is_replaced(31, 120)
    assert not await grown.is_replaced(31, 120), "as big as the one before: 60 s"
    said = re.sub(r"in 2\d s", "in 29 s", await grown.said())  # or less, when the answer was late
    assert said == (
        "process 2 has 120M, max_memory_restart is 100M, as 1 before it had: replaced in 29 s, at 180M at once. "
        "Raise the mark"
    )
    assert await grown.is_replaced(61, 121)
    assert not await grown.is_replaced(100, 120)
    assert await grown.is_replaced(121, 120)
    logged = capsys.readouterr().out
    assert logged.count("memory_mark_too_low") == 1
    assert "raise max_memory_restart above 122M" in logged
    drains = await one.ready()
    assert await one.operations.reload(_unheard) == 1
    drains.signal(signal.SIGTERM)
    await eventually(lambda: drains not in one.pool.processes)
    assert await grown.said() == ""
    assert await grown.is_replaced(31, 120), "a reload begins anew"


async def test_a_leak_is_replaced_each_time_it_reaches_the_mark(one: Supervising) -> None:
    one.apply(SIZE)
    grown = Grown(one)
    for _ in range(3):
        assert not await grown.is_replaced(3_000, 99)
        assert await grown.is_replaced(3_001, 101)
    assert await grown.is_replaced(40, 101), "the first that is there soon"
    assert not await grown.is_replaced(20, 152), "min_uptime holds always"
    assert await grown.is_replaced(31, 152), "it goes on growing, so no pause holds"
    assert not await grown.is_replaced(31, 160), "which a size far above the mark does not"
    assert await grown.is_replaced(121, 290)
    assert await grown.is_replaced(31, 301), "three times the mark are the most"
    assert one.pool.places[0].growth.again == 4
