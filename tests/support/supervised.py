"""A real ``gateway supervise``: started, asked over its control socket, loaded, killed and stopped by a test."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from gateway.dev_servers import free_port
from gateway.supervise import client
from gateway.supervise.messages import Process, Request, Status
from tests.support.eventually import eventually
from tests.support.gateway_process import bearer, token

_numbers = count(1)
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Supervised:
    """``config``: lines of its ecosystem file. Call ``close``."""

    def __init__(self, directory: Path, environment: Mapping[str, str], config: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.directory = directory
        self.file = directory / "ecosystem.toml"
        self.file.write_text(config, "utf-8")
        self.socket = directory / "run" / "supervise.sock"
        self.environment = {**environment, "HOST": "127.0.0.1", "PORT": str(self.port)}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.directory / "supervise.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "supervise", "--config", str(self.file), "--no-echo"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        files = [self.directory / name for name in ("supervise.log", "logs/out.log", "logs/err.log")]
        return "\n".join(file.read_text("utf-8", errors="replace") for file in files if file.exists())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``gateway supervise ...`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", "supervise", *arguments, "--config", str(self.file)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def ask(self, request: Request) -> Any:
        return await client.ask(self.socket, request)

    async def status(self) -> Status:
        return await client.status(self.socket)

    async def ready(self, number: int) -> list[Process]:
        """So many processes are ready, and there are no others."""

        async def all_ready() -> list[Process] | None:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"the supervisor ended with {self.process.returncode}:\n{self.log}")
            try:
                found = (await self.status()).processes
            except client.NotRunning:
                return None
            return found if [one.state for one in found] == ["ready"] * number else None

        found = await eventually(all_ready, 40, f"{number} ready processes")
        assert found is not None
        return found

    def kill(self) -> None:
        """SIGKILL: its processes are told nothing."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def exit_code(self, timeout: float = 30.0) -> int:
        process = self.process
        assert process is not None
        await eventually(lambda: process.poll() is not None, timeout, "the supervisor does not end")
        assert process.returncode is not None
        return process.returncode

    async def port_is_free(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # at this moment
            return False
        writer.close()
        return False

    def close(self) -> None:
        """Drain all; kill what does not end. Safe to call twice."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Load:
    """Mails submitted by several clients over connections that are kept, and balancers that ask over one each, by GET
    and by HEAD, whether the port is ready. ``refused``: whatever was no 202, or not ready; ``asked``: their probes."""

    def __init__(self) -> None:
        self.recipients: list[str] = []
        self.refused: Counter[str] = Counter()
        self.longest_s = 0.0
        self.asked = 0


@asynccontextmanager
async def load(url: str, clients: int = 4, **fields: Any) -> AsyncIterator[Load]:
    """Until the block ends, and each client has its last answer."""
    made, over = Load(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def submit(http: httpx.AsyncClient) -> None:
        while not over.is_set():
            recipient = f"customer-{next(_numbers)}@example.com"
            body = {"from": "shop@shop.example", "to": recipient, "subject": "Load", "text": "Hello", **fields}
            began = loop.time()
            try:
                answer = await http.post(f"{url}/api/v1/emails", json=body)
            except httpx.TransportError as error:
                made.refused[repr(error)] += 1
                continue
            made.longest_s = max(made.longest_s, loop.time() - began)
            if answer.status_code == 202:
                made.recipients.append(recipient)
            else:
                made.refused[f"{answer.status_code} {answer.text[:200]}"] += 1
            await asyncio.sleep(0.02)

    async def one_client() -> None:
        async with httpx.AsyncClient(headers=bearer(token("user")), timeout=30, trust_env=False) as http:
            await submit(http)

    tasks = [
        *(asyncio.create_task(_balance(method, url, made, over)) for method in ("GET", "HEAD")),
        *(asyncio.create_task(one_client()) for _ in range(clients)),
    ]
    try:
        yield made
    finally:
        over.set()
        await asyncio.gather(*tasks)


async def _balance(method: str, url: str, made: Load, over: asyncio.Event) -> None:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        while not over.is_set():
            try:
                answer = await http.request(method, f"{url}/health/ready")
                if answer.status_code == 503 and method == "HEAD" and answer.headers.get("connection") != "close":
                    answer = await http.get(f"{url}/health/ready")  # the same process says why
            except httpx.TransportError as error:
                made.refused[f"readiness by {method}: {error!r}"] += 1
                continue
            made.asked += 1
            # Of a ledger that a busy machine keeps silent for a second nobody can be ready.
            if answer.status_code != 200 and "PostgreSQL did not answer" not in answer.text:
                made.refused[f"readiness by {method}: {answer.status_code} {answer.text[:200]}"] += 1
            await asyncio.sleep(0.05)


def values(text: str) -> Values:
    """Values by name and labels. Fails for a series that is there twice."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def total(found: Values, name: str, **labels: str) -> float:
    """The sum of a name's series that have these labels."""
    return sum(value for (one, its), value in found.items() if one == name and labels.items() <= dict(its).items())
