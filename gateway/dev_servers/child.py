"""A server process that ends with ours."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.02
# A killed postmaster leaves children that hold its files for a moment; a port may be taken between choice and use.
_START_ATTEMPTS: Final = 10
_RETRY_S: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1
# Below those that systems give to whoever asks for any: one of them may be gone before it is used.
_PORTS: Final = range(20_000, 32_000)
_PORTS_TRIED: Final = 1000


class DevServerError(Exception):
    """A server cannot be started; the message says why and what to do."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at this moment. Raises DevServerError."""
    for _ in range(_PORTS_TRIED):
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise DevServerError(f"{_PORTS_TRIED} ports between {_PORTS[0]} and {_PORTS[-1]} were tried, and all are in use")


class ChildServer:
    """A server process with one data directory and one port, both kept over restarts.

    The kernel ends it when the thread that started it ends (Linux), so ``start`` must be called in the main thread.
    """

    password: str | None = None  # that clients must show; set by ``start`` where there is one

    def __init__(self, name: str, directory: Path, port: int) -> None:
        self.directory = directory.resolve()
        self.port = port or free_port()
        self.name = name
        self._may_move = port == 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log_path(self) -> Path:
        return self.directory / f"{self.name}.log"

    def stop(self) -> None:
        """End it cleanly and wait for that. Safe to call twice, and on one never started."""
        if self.pid is not None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGINT)
        self._wait_for_end()

    def kill(self) -> None:
        """End it with SIGKILL and wait for that: what a crash leaves behind is left behind."""
        if self.pid is not None:
            self._signal(signal.SIGKILL)
        self._wait_for_end()

    def erase(self) -> None:
        """Stop, and delete the directory with all data."""
        self.stop()
        for entry in self.directory.glob("*"):
            if entry.is_symlink() and entry.is_dir():
                shutil.rmtree(entry.resolve())
        shutil.rmtree(self.directory, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise DevServerError(f"{self.name} is not running")
        self._process.send_signal(number)

    def _wait_for_end(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_TIMEOUT_S)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def _password_path(self) -> Path:
        return self.directory / "password"

    def _known_password(self) -> str | None:
        try:
            return self._password_path.read_text("ascii") or None
        except FileNotFoundError:
            return None

    def _keep_password(self, password: str) -> None:
        """For its owner alone, beside the data: the next start needs it."""
        self._password_path.unlink(missing_ok=True)
        with os.fdopen(os.open(self._password_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Make the directory this process's own until the server ends, or give it back if it does not start."""
        if threading.current_thread() is not threading.main_thread():
            raise DevServerError(f"{self.name} must be started in the main thread: it ends with the one that starts it")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._wait_for_end()  # of one that ended by itself
        with ExitStack() as on_failure:
            lock = on_failure.enter_context((self.directory / f"{self.name}.lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"{self.directory} is used by another process. Stop it, or use another --data-dir."
                raise DevServerError(message) from None
            on_failure.callback(self.kill)
            yield
            self._lock = lock
            on_failure.pop_all()

    def _launch(self, command: Callable[[], Sequence[str]], ready: Callable[[], bool], user: str | None) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        for _ in range(_START_ATTEMPTS):
            self._process = self._spawn(command(), user)
            if self._became_ready(ready, deadline):
                self._may_move = False
                return
            if self._may_move:
                self.port = free_port()
            time.sleep(_RETRY_S)
        raise DevServerError(f"{self.name} did not start on port {self.port}. Its last words:\n{self._last_words()}")

    def _became_ready(self, ready: Callable[[], bool], deadline: float) -> bool:
        while self.pid is not None:
            if ready():
                return True
            if time.monotonic() > deadline:
                raise DevServerError(
                    f"{self.name} did not become ready within {START_TIMEOUT_S:.0f} s: {self.log_path}"
                )
            time.sleep(_POLL_S)
        return False

    def _spawn(self, command: Sequence[str], user: str | None) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=environment(),
                start_new_session=True,  # Ctrl+C in a terminal must reach the gateway only
                preexec_fn=_end_with_parent(),  # noqa: PLW1509 - one system call, prepared before the fork
                **as_user(user),
            )

    def _last_words(self) -> str:
        lines = self.log_path.read_text("utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-8:])


def environment() -> dict[str, str]:
    # Nothing of ours: PGDATA, PGOPTIONS or LD_PRELOAD would change what is started.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def as_user(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "umask": 0o077}


def _end_with_parent() -> Callable[[], None] | None:
    """A hook for the child: SIGINT (a clean stop) when the parent dies, even by SIGKILL. Linux only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def hook() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return hook
