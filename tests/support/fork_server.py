"""Commands of the gateway as processes of their own that do not import it anew.

One process has imported the program; each command is a fork of it, with its own environment, directory and files. So a
gateway is there in a fifth of the time. What importing does, and in which order, other tests show: those of
``gateway dev``, of ``gateway autoscale`` and of the verbs that serve start ``python -m gateway``.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import gateway.cli

ROOT = Path(__file__).parents[2]
# What a gateway has imported when it is ready.
PROGRAM = ("gateway.server", *(f"gateway.cli.{module.name}" for module in iter_modules(gateway.cli.__path__)))
LIBRARIES = (
    "anyio._backends._asyncio",
    "jsonschema_rs",
    "litestar.middleware._internal.exceptions",
    "litestar.middleware.response_cache",
    "litestar.plugins.attrs",
    "litestar.plugins.pydantic",
    "pydantic.v1",
    "uvicorn.lifespan.on",
    "uvloop",
)
_PACKET = 1 << 18  # bytes; a request holds a whole environment
_TURN_S = 0.05  # until it is seen that another thread took what one waits for


class ForkedProcess:
    """As ``subprocess.Popen``, of a child of the fork server."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        self._server.listen(0)
        return self._server.ended.get(self.pid)

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (code := self._server.ended.get(self.pid)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("gateway", timeout)
            self._server.listen(min(left, _TURN_S))
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and the server has not told it yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """``ended``: exit codes by process id, as ``subprocess`` gives them."""

    def __init__(self) -> None:
        self.ended: dict[int, int] = {}
        self._started: list[int] = []
        self._starting = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], files: Sequence[Path]
    ) -> ForkedProcess:
        """``files``: standard input, output and error; the same one twice gets both."""
        request = {
            "arguments": arguments,
            "cwd": str(cwd),
            "environment": dict(environment),
            "files": [str(file) for file in files],
        }
        with self._starting:
            self._control.sendall(json.dumps(request).encode())
            while not self._started:
                self.listen(_TURN_S)
            pid = self._started.pop()
        return ForkedProcess(self, pid)

    def listen(self, timeout: float) -> None:
        """Take in what the server tells, if it says anything within so many seconds. Threads may do it at once."""
        while select.select([self._control], [], [], timeout)[0]:
            try:
                packet = self._control.recv(_PACKET, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return  # another thread has it
            if not packet:
                raise RuntimeError(f"the fork server ended with {self._server.wait()}")
            told: dict[str, int] = json.loads(packet)
            if "code" in told:
                self.ended[told["pid"]] = told["code"]
            else:
                self.ended.pop(told["pid"], None)  # of one that had the same number long ago
                self._started.append(told["pid"])
            timeout = 0

    def close(self) -> None:
        self._control.close()
        self._server.wait(10)


@cache
def fork_server() -> ForkServer:
    """That of this run; started when it is first needed, closed by ``tests/conftest.py``."""
    return ForkServer()


def close_fork_server() -> None:
    if fork_server.cache_info().currsize:
        fork_server().close()
        fork_server.cache_clear()


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Returns the request in each child, and None in the server at the end."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        for readable in select.select([control, woken], [], [])[0]:
            if readable == woken:
                os.read(woken, 1024)
                _tell_ends(control)
            elif not (packet := control.recv(_PACKET)):
                return None
            elif pid := os.fork():
                control.sendall(json.dumps({"pid": pid}).encode())
            else:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number in (woken, wake, control.detach()):
                    os.close(number)
                request: dict[str, Any] = json.loads(packet)
                return request


def _tell_ends(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        control.sendall(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _become(request: dict[str, Any]) -> None:
    """What ``exec`` and the interpreter's start would have done."""
    for number, file in enumerate(request["files"]):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = ["gateway", *request["arguments"]]


def main() -> int:
    for name in (*PROGRAM, *LIBRARIES):
        import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C ends the tests, and they end this process
    gc.collect()
    gc.freeze()  # a child that looks through all objects would copy their memory
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _become(request)
    try:
        code = gateway.cli.main()
    except SystemExit as end:  # of argparse
        code = end.code if isinstance(end.code, int) else 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking all modules apart, each in memory that was shared until then, costs more than most commands.
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
