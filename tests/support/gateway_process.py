"""One real gateway process: started, called, killed, frozen and stopped by a test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from gateway.settings import Settings
from gateway.web.tokens import mint_token
from tests.support.eventually import eventually
from tests.support.fork_server import ROOT, ForkedProcess, fork_server

SECRET = "mX2vQ9sLw4Rk7TzB1nYc6HdJ0pGfE8ua"
_LISTENING = re.compile(r"^listening on http://[^ ]+:(\d+)$", re.MULTILINE)


class GatewayProcess:
    """One ``gateway serve``. ``admin`` and ``user`` are clients with a token; they reach this process alone.

    ``url`` is empty until it listens; ``told_to_end``: a test killed it or sent SIGTERM.
    """

    def __init__(self, directory: Path, number: int, environment: Mapping[str, str], port: int) -> None:
        self.log_path = directory / f"gateway-{number}.log"
        self.log_path.write_bytes(b"")
        self._process = _started(["serve", "--host", "127.0.0.1", "--port", str(port)], self.log_path, environment)
        self.admin = _client("admin")
        self.user = _client("user")
        self.url = ""
        self.told_to_end = False
        if port:
            self._listens_on(port)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", errors="replace")

    def _listens_on(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.admin.base_url = self.user.base_url = httpx.URL(self.url)

    async def wait_ready(self, timeout: float = 40.0) -> None:
        def listening() -> re.Match[str] | None:
            if self._process.poll() is not None:  # no AssertionError, which would mean "not yet"
                raise RuntimeError(f"the gateway ended with {self._process.returncode}:\n{self.log}")
            return _LISTENING.search(self.log)

        found = await eventually(listening, timeout, "the gateway is not ready")
        assert found is not None
        self._listens_on(int(found[1]))

    async def status(self, path: str) -> int | None:
        """The status of a public route; None: nobody answers."""
        try:
            return (await self.admin.get(path, timeout=3)).status_code
        except httpx.TransportError:
            return None

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is handed back."""
        self.told_to_end = True
        self._process.kill()
        self._process.wait(10)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.told_to_end = True
        self._process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def exit_code(self, timeout: float = 20.0) -> int:
        await eventually(lambda: self._process.poll() is not None, timeout, "the gateway does not end")
        code = self._process.returncode
        assert code is not None
        return code

    async def close(self) -> None:
        """Kill it if it still runs, and close what is open. Safe to call twice."""
        if self._process.poll() is None:
            self.kill()
        await self.admin.aclose()
        await self.user.aclose()

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Values by name and labels; see ``metric``."""
        text = (await self.admin.get("/metrics")).text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def metric(self, name: str, **labels: str) -> float | None:
        return (await self.metrics()).get((name, frozenset(labels.items())))


def _started(
    arguments: list[str], log: Path, environment: Mapping[str, str]
) -> ForkedProcess | subprocess.Popen[bytes]:
    if "LD_PRELOAD" not in environment and environment.get("PYTHONPATH", str(ROOT)) == str(ROOT):
        return fork_server().start(arguments, log.parent, environment, [Path(os.devnull), log, log])
    # A library is loaded before all others, and another version's code is read, only by a new program.
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=environment,
        )


def token(role: str) -> str:
    settings = Settings.model_validate({"database_url": "postgresql://unused/unused", "jwt_secret": SECRET})
    return mint_token(settings, f"{role}-of-the-tests", role, datetime.now(UTC) + timedelta(hours=1))


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def _client(role: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(headers=bearer(token(role)), timeout=15, trust_env=False)
