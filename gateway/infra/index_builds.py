"""Indexes of tables that may be large, built while jobs go on: ``CREATE INDEX CONCURRENTLY``.

Such a build takes no lock that a write waits for, and is in no transaction: what ends it in the middle leaves an index
that is not valid and still is there. It is dropped and built anew. A build reads the table twice and then waits for
every transaction that is older, so it tells how far it is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg

from gateway.infra.postgres import LEDGER_ERRORS, connect

_BUILD: Final = re.compile(r"^CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+)", re.MULTILINE)
_END: Final = re.compile(r";[ \t]*$", re.MULTILINE)
# Nobody waits behind a build that waits: it may, for a backup that began before it.
_LOCK_TIMEOUT: Final = "30min"
_LOOK_S: Final = 2.0
_PROGRESS: Final = """
SELECT phase, current_locker_pid AS waits_for,
  CASE WHEN blocks_total > 0 THEN 100 * blocks_done / blocks_total
       WHEN tuples_total > 0 THEN 100 * tuples_done / tuples_total END AS percent
FROM pg_stat_progress_create_index WHERE pid = $1"""

Told = Callable[[str], None]


def statements(sql: str) -> list[str]:
    """Of a file without a transaction: each is sent by itself."""
    text = "\n".join(line for line in sql.splitlines() if not line.startswith("--"))
    return [one.strip() for one in _END.split(text) if one.strip()]


async def prepare(connection: Any) -> None:
    """For the session: time for builds, and an end of those whose client was killed."""
    await connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'; SET statement_timeout = 0")
    with suppress(asyncpg.InvalidParameterValueError):  # not on each platform; the build then ends by itself
        await connection.execute(
            "SELECT set_config(name, '1000', false) FROM pg_settings WHERE name = 'client_connection_check_interval'"
        )


async def run(connection: Any, url: str, statement: str, told: Told | None) -> None:
    """Run a statement that may be repeated. ``told`` hears every two seconds how far the build of an index is."""
    name = _BUILD.match(statement)
    if name is None:
        await connection.execute(statement)
        return
    await _drop_unfinished(connection, name[1])
    watching = asyncio.create_task(_watch(connection.get_server_pid(), url, name[1], told)) if told else None
    try:
        await connection.execute(statement)
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _drop_unfinished(connection: Any, name: str) -> None:
    # IF NOT EXISTS does nothing about an index that is there and not valid.
    if await connection.fetchval("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", name):
        await connection.execute(f"DROP INDEX CONCURRENTLY {name}")


async def _watch(pid: int, url: str, name: str, told: Told) -> None:
    said = ""
    await asyncio.sleep(_LOOK_S)
    with suppress(*LEDGER_ERRORS):  # the build says what is wrong
        looking = await connect(url, application_name="gateway migrate progress")
        try:
            while True:
                text = _words(name, await looking.fetchrow(_PROGRESS, pid))
                if text != said:
                    told(text)
                said = text
                await asyncio.sleep(_LOOK_S)
        finally:
            looking.terminate()


def _words(name: str, seen: Any) -> str:
    if seen is None:
        return f"building {name}: not begun"
    if seen["waits_for"]:
        return f"building {name}: waits for the transaction of PostgreSQL's process {seen['waits_for']}"
    percent = "" if seen["percent"] is None else f", {seen['percent']} %"
    return f"building {name}: {seen['phase'].removeprefix('building index: ')}{percent}"
