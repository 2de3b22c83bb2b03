"""The stores of a run: PostgreSQL with fsync on, Valkey with its append-only file, both fresh and on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.migrate import migrate

_TICKS_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stores:
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    @property
    def postgres_url(self) -> str:
        return self.postgres.dsn

    @property
    def redis_url(self) -> str:
        return self.valkey.url

    @property
    def cpu_s(self) -> tuple[float, float]:
        """CPU time that PostgreSQL and Valkey used so far, in seconds, user and system."""
        return cpu_s(self.postgres.pid), cpu_s(self.valkey.pid)


@contextmanager
def stores(*, durable: bool = True) -> Iterator[Stores]:
    """``durable=False`` is fast and measures nothing: PostgreSQL without fsync."""
    directory = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    directory.chmod(0o755)
    postgres, valkey = EmbeddedPostgres(directory / "postgres", durable=durable), EmbeddedValkey(directory / "valkey")
    try:
        postgres.start()
        valkey.start(appendonly=True)
        yield Stores(postgres, valkey)
    finally:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def fresh_database(on: Stores) -> AsyncIterator[str]:
    """The URL of an empty database. Valkey is empty too, and what either had to write of the past is written."""
    admin = await asyncpg.connect(on.postgres_url)
    try:
        await admin.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
        await admin.execute("CREATE DATABASE bench")
        await admin.execute("CHECKPOINT", timeout=60)
        with redis.Redis.from_url(on.redis_url) as client:
            client.flushall()
            client.bgrewriteaof()
            while client.info("persistence")["aof_rewrite_in_progress"]:
                await asyncio.sleep(0.01)
        yield urlunsplit(urlsplit(on.postgres_url)._replace(path="/bench"))
    finally:
        await admin.close()


@asynccontextmanager
async def fresh_ledger(on: Stores) -> AsyncIterator[str]:
    """The URL of an empty, migrated database; Valkey is empty."""
    async with fresh_database(on) as url:
        await migrate(url)
        yield url


def cpu_s(pid: int | None) -> float:
    """Of a server and its children, ended ones included. Linux only: elsewhere 0."""
    if pid is None or not Path("/proc/self/stat").exists():
        return 0.0
    ticks = sum(_stat(pid)[:4])
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended since
            ticks += sum(_stat(int(child))[:2])
    return ticks / _TICKS_S


def _stat(pid: int) -> list[int]:
    """utime, stime, cutime, cstime (proc(5), fields 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]
