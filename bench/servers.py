"""The stores of a run: PostgreSQL with fsync on, Valkey with its append-only file, both fresh and on this machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.migrate import migrate


@dataclass(frozen=True)
class Stores:
    postgres_url: str
    redis_url: str


@contextmanager
def stores() -> Iterator[Stores]:
    directory = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    directory.chmod(0o755)
    postgres, valkey = EmbeddedPostgres(directory / "postgres"), EmbeddedValkey(directory / "valkey")
    try:
        postgres.start()
        valkey.start(appendonly=True)
        yield Stores(postgres.dsn, valkey.url)
    finally:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def fresh_ledger(on: Stores) -> AsyncIterator[str]:
    """The URL of an empty, migrated database; Redis is flushed."""
    admin = await asyncpg.connect(on.postgres_url)
    await admin.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
    await admin.execute("CREATE DATABASE bench")
    url = urlunsplit(urlsplit(on.postgres_url)._replace(path="/bench"))
    await migrate(url)
    with redis.Redis.from_url(on.redis_url) as client:
        client.flushall()
    try:
        yield url
    finally:
        await admin.close()
