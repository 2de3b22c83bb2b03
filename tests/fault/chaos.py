"""Faults in random order under load, on real servers and processes: ``RUNS=5 SEED=7 python -m tests.fault.chaos``.

Each run starts its own PostgreSQL, Valkey and two gateways, lets mails come in, makes faults one after the other, and
demands that a minute after the last one every accepted mail has been sent: once, or more often only where the mail says
that an attempt's end is unknown (invariants A and C). One JSON line per run; exit code 1 if one run is not ok. A seed
makes the same faults in the same order; what they hit depends on the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis.asyncio as aioredis

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.migrate import migrate
from tests.support.eventually import eventually
from tests.support.gateway import LEASE_MS, Cluster, gateways, running
from tests.support.smtp_server import ScriptedSmtp

FAULTS_PER_RUN = 6
RECOVERY_S = 60.0  # invariant A
# Mails must outlive any number of faults here; that a second stall fails a job has a test of its own.
PATIENT = {"EMAIL_ATTEMPTS": "50", "MAX_STALLED_COUNT": "50"}


@dataclass
class World:
    """Everything that can break, and who decides what does."""

    cluster: Cluster
    smtp: ScriptedSmtp
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    random: random.Random
    made: list[str] = field(default_factory=list)

    async def kill(self) -> None:
        self._leave().kill()
        await self.cluster.start()

    async def terminate(self) -> None:
        process = self._leave()
        process.terminate()
        code = await process.exit_code()
        assert code == 0, f"exit code {code} after SIGTERM"
        await self.cluster.start()

    async def freeze(self) -> None:
        """Longer than a lease: its jobs are taken over, then it wakes."""
        process = self.random.choice(self.cluster.processes)
        process.freeze()
        await self._pass(LEASE_MS / 1000 + 2)
        process.thaw()

    async def flush(self) -> None:
        client = aioredis.Redis.from_url(self.valkey.url)
        await client.flushall()
        await client.aclose()

    async def redis_away(self) -> None:
        self.valkey.kill()
        await self._pass(self.random.choice([1, 5, 30]))
        self.valkey.start()

    async def redis_frozen(self) -> None:
        self.valkey.pause()
        await self._pass(5)
        self.valkey.resume()

    async def postgres_stopped(self) -> None:
        await asyncio.to_thread(self.postgres.stop)
        await self._pass(self.random.choice([0, 5]))
        self.postgres.start()

    async def postgres_killed(self) -> None:
        await asyncio.to_thread(self.postgres.kill)
        self.postgres.start()

    async def smtp_cut(self) -> None:
        await self.smtp.drop_connections()

    async def smtp_away(self) -> None:
        await self.smtp.stop()
        await self._pass(3)
        await self.smtp.start()

    def _leave(self) -> Any:
        """One process, which gets no further calls."""
        process = self.random.choice(self.cluster.processes)
        self.cluster.retire(process)
        return process

    async def _pass(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        await eventually(lambda: time.monotonic() >= end, seconds + 5)

    async def make(self, name: str) -> None:
        self.made.append(name)
        sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S.%f} {name}\n")
        await FAULTS[name](self)
        await self._pass(self.random.uniform(0, 2))


FAULTS: dict[str, Callable[[World], Awaitable[None]]] = {
    name: getattr(World, name)
    for name in (
        *("kill", "terminate", "freeze", "flush", "redis_away", "redis_frozen"),
        *("postgres_stopped", "postgres_killed", "smtp_cut", "smtp_away"),
    )
}


async def run(seed: int, directory: Path) -> dict[str, Any]:
    """One run's numbers; ``ok`` tells whether it kept the promises."""
    choice = random.Random(seed)
    postgres, valkey = EmbeddedPostgres(directory / "postgres", durable=True), EmbeddedValkey(directory / "valkey")
    postgres.start()
    valkey.start(appendonly=choice.random() < 0.5)
    try:
        await migrate(postgres.dsn)
        mode = choice.choice(["queue", "queue", "direct"])
        redis_url = valkey.url if mode == "queue" else None
        async with (
            running(ScriptedSmtp()) as smtp,
            gateways(directory, postgres.dsn, smtp, redis_url=redis_url, **PATIENT) as cluster,
        ):
            smtp.script.delay_s = 0.02
            world = World(cluster, smtp, postgres, valkey, choice)
            return {"seed": seed, "mode": mode, **await _under_load(world)}
    finally:
        valkey.stop()
        postgres.stop()


async def _under_load(world: World) -> dict[str, Any]:
    cluster = world.cluster
    await cluster.start()
    await cluster.start()
    stopped = asyncio.Event()

    async def load() -> None:
        while not stopped.is_set():
            await cluster.submit()
            await asyncio.sleep(0.03)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(load())
        for name in world.random.choices(list(FAULTS), k=FAULTS_PER_RUN):
            await world.make(name)
        stopped.set()
    ended = time.monotonic()
    try:
        await cluster.all_delivered(RECOVERY_S)
    except AssertionError as error:
        sys.stderr.write(f"{error}\n")
    recovery_s = round(time.monotonic() - ended, 1)
    lost, dishonest = [mail.id for mail in cluster.undelivered()], await _dishonest(cluster)
    return {
        "faults": world.made,
        "accepted": len(cluster.accepted),
        "refused": cluster.refused,
        "lost": lost,
        "duplicates": len(cluster.duplicates()),
        "dishonest": dishonest,
        "recovery_s": recovery_s,
        "ok": not lost and not dishonest and recovery_s < RECOVERY_S,
    }


async def _dishonest(cluster: Cluster) -> list[str]:
    """Mails sent twice that do not say so, or not with the same Message-ID."""
    found = []
    for mail in cluster.duplicates():
        shown = await cluster.show(mail)
        header = b"Message-ID: " + shown["messageId"].encode()
        if not shown["uncertain"] or not all(header in message.data for message in cluster.messages_to(mail)):
            found.append(mail.id)
    return found


def run_in_a_directory(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="gateway-chaos-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL does not run as root: its user must reach its data
        try:
            result = asyncio.run(run(seed, directory))
        except (AssertionError, RuntimeError, ExceptionGroup) as error:
            traceback.print_exception(error)
            result = {"seed": seed, "error": str(error), "ok": False}
        if not result["ok"]:
            for log in sorted(directory.glob("gateway-*.log")):
                sys.stderr.write(f"--- {log.name} ---\n{log.read_text()[-20_000:]}\n")
        return result


def main() -> int:
    runs, seed = int(os.environ.get("RUNS", "3")), int(os.environ.get("SEED", secrets.randbelow(1_000_000)))
    all_ok = True
    for number in range(runs):
        result = run_in_a_directory(seed + number)
        all_ok = all_ok and result["ok"]
        sys.stdout.write(f"{json.dumps(result)}\n")
        sys.stdout.flush()
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())
