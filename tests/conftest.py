"""Real servers for every test: PostgreSQL and Valkey started once, an own database for each test.

``TEST_DATABASE_URL`` and ``TEST_REDIS_URL`` name servers to use instead; all of that Redis is flushed. The
``DATABASE_URL`` and ``REDIS_URL`` of the environment are never used: they may be somebody's data.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import redis
from hypothesis import settings

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.migrate import migrate
from gateway.infra.postgres import open_pool
from tests.support.databases import execute, own_database, with_database
from tests.support.fork_server import close_fork_server
from tests.support.signatures import remember_signatures

MEMORY = Path("/dev/shm")  # Linux's; containers often have 64 MB of it
ROOM_BYTES = 2 << 30
_numbers = count(1)


def pytest_configure() -> None:
    # What one example may take is a matter of what else the machine does.
    settings.register_profile("busy machine", deadline=None)
    settings.load_profile("busy machine")
    remember_signatures()
    # A script's background jobs ignore Ctrl+C, and so would every process that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked ``fault(long=True)`` run when fault tests are asked for, not with all the others."""
    if "fault" in config.getoption("markexpr"):
        return
    for item in items:
        if any(mark.kwargs.get("long") for mark in item.iter_markers("fault")):
            item.add_marker(pytest.mark.skip(reason="long: make fault"))


def pytest_collection_finish() -> None:
    """What is there now stays until the end: to search it for garbage again and again costs a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    close_fork_server()


@pytest.fixture(autouse=True)
def no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests set what they need; nothing of the developer's shell reaches them."""
    for name in (
        "DATABASE_URL",
        "REDIS_URL",
        "REDIS_HOST",
        "REDIS_PASSWORD",
        "SMTP_HOST",
        "AUTH_MODE",
        "GATEWAY_TOKEN",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "ANTHROPIC_API_KEY",
        "GOOGLE_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """A directory that the servers' user may enter (those of pytest itself are private to ours).

    In memory where there is room: a database for each test is a thousand files, and a busy disk makes tests wait.
    """
    directory = Path(tempfile.mkdtemp(prefix="gateway-test-", dir=MEMORY if _has_room(MEMORY) else None))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(server_directory: Path) -> Iterator[str]:
    """URL of a database whose user may create databases."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    server = EmbeddedPostgres(server_directory / "postgres", durable=False)
    server.start()
    yield f"{server.dsn}?sslmode=disable"  # it has no TLS: to ask for it is half of what a connection costs
    server.stop()


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """Name of a database with the schema of this version, copied for each test."""
    name = f"gateway_template_{os.getpid()}"

    async def create() -> None:
        await execute(postgres_url, f"CREATE DATABASE {name}")
        await migrate(with_database(postgres_url, name))

    _run(create())
    yield name
    _run(execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def database_url(postgres_url: str, template_database: str) -> AsyncIterator[str]:
    """A database of this test's own, with the schema and no rows."""
    async with own_database(postgres_url, template_database) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_database_url(postgres_url: str, template_database: str) -> AsyncIterator[str]:
    """A database for all tests of a module that share what runs on it; each sees the rows of those before it."""
    async with own_database(postgres_url, template_database) as url:
        yield url


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """A database of this test's own without a schema."""
    async with own_database(postgres_url) as url:
        yield url


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    pool = await open_pool(database_url, min_size=1, max_size=10)
    yield pool
    # Closing waits for every borrowed connection: a test that leaked one fails here instead of hanging the run.
    async with asyncio.timeout(10):
        await pool.close()


@pytest.fixture(scope="session")
def redis_server_url(server_directory: Path) -> Iterator[str]:
    if given := os.environ.get("TEST_REDIS_URL"):
        yield given
        return
    server = EmbeddedValkey(server_directory / "valkey")
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """An empty Redis, shared by the tests of this run one after the other."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url


@pytest.fixture
def own_postgres(server_directory: Path) -> Iterator[Callable[[], EmbeddedPostgres]]:
    """Start a PostgreSQL that this test alone may stop, kill and restart. No schema, database ``postgres``."""
    started: list[EmbeddedPostgres] = []

    def start() -> EmbeddedPostgres:
        server = EmbeddedPostgres(server_directory / f"own-postgres-{next(_numbers)}", durable=False)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def own_valkey(server_directory: Path) -> Iterator[Callable[[], EmbeddedValkey]]:
    """Start a Valkey that this test alone may stop, kill, pause and restart."""
    started: list[EmbeddedValkey] = []

    def start(*, appendonly: bool = False) -> EmbeddedValkey:
        server = EmbeddedValkey(server_directory / f"own-valkey-{next(_numbers)}")
        started.append(server)
        server.start(appendonly=appendonly)
        return server

    yield start
    for server in started:
        server.stop()


def _has_room(directory: Path) -> bool:
    return os.access(directory, os.W_OK) and shutil.disk_usage(directory).free >= ROOM_BYTES


def _run(work: Coroutine[Any, Any, None]) -> None:
    # asyncio.run would leave the main thread without the event loop that pytest-asyncio set.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(work)
