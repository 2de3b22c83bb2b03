"""Everything that can break in one run: servers, gateway processes, and a proxy on each link of each gateway."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.migrate import migrate
from tests.fault import chaos_record
from tests.fault.chaos_plan import Plan
from tests.fault.chaos_smtp import Sink
from tests.support.gateway import environment_of
from tests.support.gateway_process import GatewayProcess
from tests.support.proxy import Proxy

_BOOT_S = 40.0  # a process may have to wait for a store that is away
_EXIT_S = 40.0  # grace of 10 s, and what closing may take while a store says nothing


@dataclass
class Slot:
    """Where one gateway runs, one process after the other, with its own links to the stores and the SMTP server."""

    number: int
    links: dict[str, Proxy]
    process: GatewayProcess | None = None
    boot: asyncio.Task[None] | None = None

    @property
    def ready(self) -> GatewayProcess | None:
        """The process while it can be called."""
        process = self.process
        return process if process is not None and process.url and not process.told_to_end else None


@dataclass
class World:
    """``broken``: promises about processes that were not kept, in words. ``quiet_since``: when the last fault ended."""

    directory: Path
    plan: Plan
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    smtp: Sink
    slots: list[Slot] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    quiet_since: float = field(default_factory=time.monotonic)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _retired: list[GatewayProcess] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def lock(self, what: str) -> asyncio.Lock:
        """Faults of one thing come one after the other."""
        return self._locks.setdefault(what, asyncio.Lock())

    def say(self, words: str) -> None:
        sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S.%f} {words}\n")

    def spawn(self, slot: Slot) -> None:
        """Start the slot's next process. It is called once it listens; one that ends before that broke a promise."""
        if slot.process is not None:
            self._retired.append(slot.process)
        links = slot.links
        environment = environment_of(
            _through(self.postgres.dsn, links["postgres"]),
            smtp=("127.0.0.1", links["smtp"].port),
            redis_url=_through(self.valkey.url, links["valkey"]) if self.plan.mode == "queue" else None,
            **self.plan.settings,
        )
        process = GatewayProcess(self.directory, next(self._numbers), environment, 0)
        slot.process = process
        slot.boot = asyncio.create_task(self._boot(slot, process))

    async def _boot(self, slot: Slot, process: GatewayProcess) -> None:
        try:
            await process.wait_ready(_BOOT_S)
        except (AssertionError, RuntimeError) as error:
            if slot.process is process and not process.told_to_end:
                self.broken.append(f"gateway {slot.number} did not start: {str(error)[-2000:]}")

    async def ended(self, process: GatewayProcess) -> None:
        """Wait for the end of a process that got SIGTERM."""
        try:
            code = await process.exit_code(_EXIT_S)
        except AssertionError:
            self.broken.append(f"{process.log_path.name}: alive {_EXIT_S:g} s after SIGTERM")
            return
        if code == -signal.SIGTERM and not process.url:
            return  # it was still being loaded, and held nothing
        if code != 0:
            self.broken.append(f"{process.log_path.name}: exit code {code} after SIGTERM")

    async def booted(self) -> None:
        await asyncio.gather(*(slot.boot for slot in self.slots if slot.boot is not None))

    async def close(self) -> None:
        for process in [*self._retired, *(slot.process for slot in self.slots if slot.process is not None)]:
            await process.close()
        await self.booted()
        for slot in self.slots:
            for proxy in slot.links.values():
                await proxy.down()
        await self.smtp.stop()
        await asyncio.to_thread(self.valkey.stop)
        await asyncio.to_thread(self.postgres.stop)

    def logs(self) -> str:
        paths = sorted(self.directory.glob("gateway-*.log"))
        return "\n".join(
            f"--- {path.name} ---\n{path.read_text('utf-8', errors='replace')[-20_000:]}" for path in paths
        )


@contextlib.asynccontextmanager
async def world(plan: Plan, directory: Path) -> AsyncIterator[World]:
    """The plan's servers and gateways, ready to be called."""
    made = World(
        directory,
        plan,
        EmbeddedPostgres(directory / "postgres", durable=True),
        EmbeddedValkey(directory / "valkey"),
        Sink(plan.seed, plan.answer_s),
    )
    try:
        made.postgres.start()
        made.valkey.start(appendonly=plan.appendonly)
        await made.smtp.start()
        await migrate(made.postgres.dsn)
        connection = await asyncpg.connect(made.postgres.dsn)
        await chaos_record.install(connection)
        await connection.close()
        for number in range(plan.gateways):
            made.slots.append(await _slot(made, number))
            made.spawn(made.slots[-1])
        await made.booted()
        yield made
    finally:
        await made.close()


async def _slot(made: World, number: int) -> Slot:
    upstreams = {"postgres": made.postgres.port, "valkey": made.valkey.port, "smtp": made.smtp.port}
    links = {name: Proxy("127.0.0.1", port) for name, port in upstreams.items()}
    for proxy in links.values():
        await proxy.up()
    return Slot(number, links)


def _through(url: str, proxy: Proxy) -> str:
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{proxy.port}"))
