"""One process: started on the shared socket, asked whether it is ready, told to go."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec

from gateway.supervise.child import Inheritance
from gateway.supervise.logs import LineTaker, LogFiles
from gateway.supervise.usage import Usage, usage_of

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_ASK_TIMEOUT_S = 5.0
_BACKLOG = 128
_BEATS_MAX = 65_536  # as many as a pipe holds


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Ended(Exception):
    """The process ended before it was ready."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What is run, and where. ``--inherited`` is appended to ``command``; ``kill_after_s``: its own limit for a drain,
    and a margin: one that still runs then obeys no signal."""

    command: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path
    control: Path
    kill_after_s: float


class Pipes(NamedTuple):
    """Descriptors of both ends; see ``gateway.supervise.child``."""

    lifeline: int
    their_lifeline: int
    heartbeat: int
    their_heartbeat: int

    @classmethod
    def made(cls) -> Pipes:
        """Raises OSError when this process may open nothing more."""
        their_lifeline, lifeline = os.pipe()
        try:
            heartbeat, their_heartbeat = os.pipe()
        except OSError:
            os.close(their_lifeline)
            os.close(lifeline)
            raise
        os.set_blocking(heartbeat, False)
        return cls(lifeline, their_lifeline, heartbeat, their_heartbeat)


class Process:
    """Use ``start``. ``usage`` is what was seen last, ``cpu_percent`` since the look before."""

    def __init__(self, number: int, popen: subprocess.Popen[bytes], port: int, pipes: Pipes) -> None:
        self.number = number
        self.popen = popen
        self.url = f"http://127.0.0.1:{port}"
        self.state = State.STARTING
        self.started_at = time.monotonic()
        self.exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.usage: Usage | None = None
        self.cpu_percent: float | None = None
        self.fresh_bytes: int | None = None  # resident when it became ready
        self.grown_after_s: float | None = None  # uptime when it was above the mark; written by growth.Growth
        self.busy: int | None = None
        self.slots: int | None = None
        self.takers: list[LineTaker] = []
        self.silent_s: float | None = None  # None: it has given no sign of life yet; written by pulse.Watch
        self.abandoned = False  # it is ended for its silence
        self._lifeline: int | None = pipes.lifeline
        self._heartbeat: int | None = pipes.heartbeat
        self._looked_at = self.started_at

    @classmethod
    def start(cls, number: int, program: Program, public: socket.socket, *, at_once: bool) -> Process:
        """Raises OSError when it cannot be started."""
        pipes = Pipes.made()
        try:
            with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as own:
                given = Inheritance(
                    number=number,
                    public=public.fileno(),
                    own=own.fileno(),
                    lifeline=pipes.their_lifeline,
                    heartbeat=pipes.their_heartbeat,
                    control=str(program.control),
                    at_once=at_once,
                )
                popen = subprocess.Popen(
                    [*program.command, "--inherited", msgspec.json.encode(given).decode()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=program.cwd,
                    env=program.environment,
                    pass_fds=(public.fileno(), own.fileno(), pipes.their_lifeline, pipes.their_heartbeat),
                    start_new_session=True,  # Ctrl+C is for the supervisor, which drains
                )
                return cls(number, popen, own.getsockname()[1], pipes)
        except OSError:
            os.close(pipes.lifeline)
            os.close(pipes.heartbeat)
            raise
        finally:
            os.close(pipes.their_lifeline)
            os.close(pipes.their_heartbeat)

    async def take_output(self, files: LogFiles) -> None:
        loop = asyncio.get_running_loop()
        source = str(self.number)
        for pipe, stream in ((self.popen.stdout, "out"), (self.popen.stderr, "err")):
            taker = LineTaker(files, source, "out" if stream == "out" else "err")
            self.takers.append(taker)
            await loop.connect_read_pipe(lambda taker=taker: _Pipe(taker), pipe)  # type: ignore[misc]

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return not self.exit_code.done()

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.started_at

    @property
    def rss_bytes(self) -> int:
        """0: not known."""
        return self.usage.rss_bytes if self.usage is not None else 0

    @property
    def last_words(self) -> str:
        return " / ".join(line for taker in self.takers for line in taker.last)[-500:]

    def look(self) -> None:
        """Read memory and processor time."""
        now, seen = time.monotonic(), usage_of(self.pid)
        if seen is not None and self.usage is not None and now > self._looked_at:
            self.cpu_percent = 100.0 * (seen.cpu_s - self.usage.cpu_s) / (now - self._looked_at)
        self.usage, self._looked_at = seen, now

    def gave_sign(self) -> bool:
        """Since it was asked last: did its event loop turn?"""
        if self._heartbeat is None:
            return False
        try:
            return bool(os.read(self._heartbeat, _BEATS_MAX))
        except BlockingIOError:
            return False

    async def until_ready(self, client: httpx.AsyncClient) -> None:
        """Raises ``Ended``."""
        pause_s = _FIRST_PAUSE_S
        while True:
            if not self.alive:
                raise Ended(f"it ended with {self.exit_code.result()}: {self.last_words}")
            with suppress(httpx.TransportError):
                answer = await client.get(f"{self.url}/health/ready", timeout=_ASK_TIMEOUT_S)
                if answer.is_success:
                    break
            await asyncio.wait([self.exit_code], timeout=pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.25)
        if self.state is State.STARTING:
            self.state = State.READY
            self.look()
            self.fresh_bytes = self.usage.rss_bytes if self.usage is not None else None

    def retire(self) -> None:
        """It leaves the socket to the others, finishes its jobs and ends. SIGTERM as well would be a second word, which
        cuts the drain short."""
        self.state = State.DRAINING
        self.cut_lifeline()

    def cut_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            self.popen.send_signal(number)

    def reaped(self) -> None:
        """It ended, and ``popen`` knows with what."""
        if self.alive and self.popen.returncode is not None:
            self.cut_lifeline()
            if self._heartbeat is not None:
                os.close(self._heartbeat)
                self._heartbeat = None
            self.exit_code.set_result(self.popen.returncode)


class _Pipe(asyncio.Protocol):
    def __init__(self, taker: LineTaker) -> None:
        self._taker = taker

    def data_received(self, data: bytes) -> None:
        self._taker.take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._taker.end()
