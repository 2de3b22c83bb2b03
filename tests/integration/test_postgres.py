"""The pool: values, bounds, and which errors mean "not now"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.dev_servers import EmbeddedPostgres, free_port
from gateway.infra.postgres import is_unavailable, open_pool
from tests.support.proxy import Proxy

URL = "postgresql://postgres@127.0.0.1:{}/postgres"


async def test_json_values_are_python_values(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    value = {"text": "ü \u2028 \U0001f600", "list": [1, 2.5, None, True], "empty": {}}
    assert await pool.fetchval("SELECT $1::jsonb", value) == value
    assert await pool.fetchval("SELECT $1::json", value) == value
    assert await pool.fetchval("SELECT $1::jsonb[]", [value, 7, "word"]) == [value, 7, "word"]
    assert await pool.fetchval("SELECT '{\"a\": 1}'::jsonb ->> 'a'") == "1"
    assert await pool.fetchval("SELECT NULL::jsonb") is None


async def test_sessions_speak_utc_and_end_idle_transactions(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    assert (await pool.fetchval("SELECT now()")).utcoffset() == timedelta(0)
    assert await pool.fetchval("SHOW idle_in_transaction_session_timeout") == "30s"
    assert await pool.fetchval("SHOW application_name") == "gateway"


async def test_a_connection_given_back_inside_a_transaction_is_rolled_back(database_url: str) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    pool = await open_pool(database_url, max_size=1)
    async with pool.acquire() as connection:
        await connection.execute("CREATE TABLE n (n int)")
        await connection.execute("BEGIN; INSERT INTO n VALUES (1)")
    assert await pool.fetchval("SELECT count(*) FROM n") == 0
    assert len(complaints) == 1
    assert "active transaction" in complaints[0]
    await pool.close()


async def test_a_refused_connection_is_unavailable() -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one, the next line says
        await open_pool(URL.format(free_port()))
    assert is_unavailable(caught.value)


async def test_a_restart_is_unavailable_and_the_pool_recovers(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    server = own_postgres()
    pool = await open_pool(server.dsn, min_size=2, max_size=2)
    running = asyncio.create_task(pool.fetchval("SELECT pg_sleep(30)"))
    # The statement has been sent once another one on this pool has come back.
    assert await pool.fetchval("SELECT 1") == 1
    server.stop()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one depends on the moment; all must be known
        await running
    assert is_unavailable(caught.value)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await pool.fetchval("SELECT 1")
    assert is_unavailable(caught.value)
    server.start()
    assert await pool.fetchval("SELECT 1") == 1
    await pool.close()
    with pytest.raises(asyncpg.InterfaceError) as closed:
        await pool.fetchval("SELECT 1")
    assert is_unavailable(closed.value)


async def test_a_server_that_does_not_answer_is_unavailable_in_time(postgres_url: str) -> None:
    address = urlsplit(postgres_url)
    assert address.hostname is not None
    assert address.port is not None
    async with Proxy(address.hostname, address.port) as proxy:
        pool = await open_pool(URL.format(proxy.port), command_timeout_s=2)
        proxy.stall()
        with pytest.raises(TimeoutError) as caught:
            await pool.fetchval("SELECT 1")
        assert is_unavailable(caught.value)
        pool.terminate()


async def test_a_wrong_statement_is_not_unavailable(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    with pytest.raises(asyncpg.UndefinedTableError) as wrong:
        await pool.fetchval("SELECT * FROM nowhere")
    assert not is_unavailable(wrong.value)
    with pytest.raises(asyncpg.InterfaceError) as misuse:
        await pool.fetchval("SELECT $1::int")
    assert not is_unavailable(misuse.value)
