"""``gateway dev`` and other commands as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.eventually import eventually
from tests.support.fork_server import ForkedProcess, fork_server

START_S = 60.0  # initdb and migrations on a busy machine
STOP_S = 30.0


def clean_environment(**extra: str) -> dict[str, str]:
    """What a program needs to start, and nothing of the developer's shell."""
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONUNBUFFERED": "1", "TERM": "xterm", **extra}


def gateway(*arguments: str, cwd: Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, in ``cwd``."""
    with TemporaryDirectory() as directory:
        files = [Path(directory) / name for name in ("stdin", "stdout", "stderr")]
        files[0].write_text(stdin)
        process = fork_server().start(arguments, cwd, clean_environment(**environment), files)
        try:
            code = process.wait(STOP_S)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, code, files[1].read_text(), files[2].read_text())


class DevProcess:
    """A running ``gateway dev`` on ``cwd/.gateway``; its words are in ``output`` and ``log``. ``program``: one that the
    interpreter starts and that imports everything itself."""

    def __init__(self, cwd: Path, *arguments: str, program: bool = False, **environment: str) -> None:
        self.cwd = cwd
        self.data_dir = cwd / ".gateway"
        self._output = cwd / "stdout.txt"
        self._log = cwd / "stderr.txt"
        self._output.write_text("")
        self._log.write_text("")
        self.process = self._started(["dev", *arguments], clean_environment(**environment), program=program)

    def _started(
        self, arguments: list[str], environment: dict[str, str], *, program: bool
    ) -> ForkedProcess | subprocess.Popen[bytes]:
        if not program:
            return fork_server().start(arguments, self.cwd, environment, [Path(os.devnull), self._output, self._log])
        with self._output.open("wb") as output, self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "gateway", *arguments],
                cwd=self.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def facts(self) -> dict[str, Any] | None:
        """``dev.json``; None while it is not there. Fails when the process has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"gateway dev ended with {self.process.returncode}:\n{self.output}\n{self.log}")
        try:
            found: dict[str, Any] = json.loads((self.data_dir / "dev.json").read_text())
        except FileNotFoundError:
            return None
        return found

    async def ready(self) -> dict[str, Any]:
        facts = await eventually(self.facts, START_S, "dev.json")
        assert facts is not None
        return facts

    def children(self) -> list[int]:
        """Process ids of its servers."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end. Answers the exit code; safe to call again."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_S)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
