"""The servers that development and these tests run on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis

from gateway.dev_servers import DevServerError, EmbeddedPostgres, EmbeddedValkey
from tests.support.eventually import eventually

_PARENT = """
import sys
from pathlib import Path
from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
postgres, valkey = EmbeddedPostgres(Path(sys.argv[1]), durable=False), EmbeddedValkey(Path(sys.argv[2]))
postgres.start(), valkey.start()
print(postgres.pid, valkey.pid, flush=True)
sys.stdin.read()
"""


async def test_rows_survive_stop_kill_and_restart_on_the_same_port(
    own_postgres: Callable[[], EmbeddedPostgres],
) -> None:
    server = own_postgres()
    url = server.dsn
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    server.restart()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("SELECT 1")
    server.kill()
    server.start()
    assert server.dsn == url
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT n FROM kept") == 7
    await connection.close()


def test_valkey_keeps_its_data_only_with_an_append_only_file(own_valkey: Callable[..., EmbeddedValkey]) -> None:
    server = own_valkey(appendonly=True)
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "1")
    server.stop()
    server.start(appendonly=True)
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"1"
    server.stop()
    server.start(appendonly=False)
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") is None


def test_a_paused_valkey_answers_after_it_is_resumed(own_valkey: Callable[..., EmbeddedValkey]) -> None:
    server = own_valkey()
    with redis.Redis.from_url(server.url, socket_timeout=2, retry=None) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_the_servers_end_with_a_killed_parent(server_directory: Path) -> None:
    command = [
        sys.executable,
        "-c",
        _PARENT,
        str(server_directory / "orphan-pg"),
        str(server_directory / "orphan-valkey"),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(_alive(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
    asyncio.run(eventually(lambda: not any(_alive(pid) for pid in pids), 30, "a server outlived its parent"))


def _alive(pid: int) -> bool:
    # Not kill(pid, 0): that also finds a process that ended and that nobody waited for.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


async def test_a_protected_postgresql_is_so_from_its_second_start_on(server_directory: Path) -> None:
    directory = server_directory / "protected-pg"
    open_to_all = EmbeddedPostgres(directory, durable=False)
    open_to_all.start()
    open_to_all.stop()
    server = EmbeddedPostgres(directory, durable=False, protected=True)
    for _ in range(2):
        server.start()
        try:
            connection = await asyncpg.connect(server.dsn)
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
            with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
                await asyncpg.connect(host="127.0.0.1", port=server.port, user="postgres", password="wrong")
        finally:
            server.stop()
    assert (directory / "password").stat().st_mode & 0o777 == 0o600


def test_a_protected_valkey_tells_its_password_in_no_list_of_processes(server_directory: Path) -> None:
    server = EmbeddedValkey(server_directory / "protected-valkey", protected=True)
    server.start()
    try:
        assert server.password
        listed = subprocess.run(
            ["ps", "-o", "args=", "-p", str(server.pid)], capture_output=True, text=True, check=True
        )
        assert server.password not in listed.stdout
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        server.stop()
    assert (server.directory / "valkey.conf").stat().st_mode & 0o777 == 0o600


def test_two_processes_cannot_use_one_data_directory(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    first = own_postgres()
    second = EmbeddedPostgres(first.directory)
    with pytest.raises(DevServerError, match="used by another process"):
        second.start()
    second.stop()
    assert first.pid is not None


def test_a_taken_port_is_reported_with_the_server_s_words(
    server_directory: Path, own_valkey: Callable[..., EmbeddedValkey]
) -> None:
    taken = own_valkey()
    late = EmbeddedValkey(server_directory / "late", port=taken.port)
    with pytest.raises(DevServerError, match=rf"(?s)port {taken.port}\b.*[Aa]ddress already in use"):
        late.start()
    assert late.pid is None


def test_start_outside_of_the_main_thread_is_refused(server_directory: Path) -> None:
    # The kernel would end the server together with that thread.
    seen: list[BaseException] = []

    def run() -> None:
        try:
            EmbeddedValkey(server_directory / "thread").start()
        except DevServerError as error:
            seen.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(seen) == 1
    assert "main thread" in str(seen[0])


def test_stop_is_safe_twice_and_before_start(server_directory: Path) -> None:
    server = EmbeddedValkey(server_directory / "twice")
    server.stop()
    server.start()
    server.stop()
    server.stop()
    assert server.pid is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give its rights up")
async def test_root_s_database_may_lie_below_a_private_directory(server_directory: Path) -> None:
    home = server_directory / "home"
    home.mkdir(mode=0o700)
    server = EmbeddedPostgres(home / ".gateway" / "postgres", durable=False)
    server.start()
    try:
        connection = await asyncpg.connect(server.dsn)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    finally:
        server.stop()
        server.erase()
    assert home.stat().st_mode & 0o777 == 0o700
    assert not (home / ".gateway" / "postgres").exists()
