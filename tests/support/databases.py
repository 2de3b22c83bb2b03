"""Databases of the tests' server, each for one test or one module."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from urllib.parse import urlsplit, urlunsplit

import asyncpg

_numbers = count(1)


@asynccontextmanager
async def own_database(server_url: str, template: str | None = None) -> AsyncIterator[str]:
    """URL of a new database, a copy of *template* or empty; it is gone afterwards."""
    name = f"gateway_test_{os.getpid()}_{next(_numbers)}"
    copied = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
    await execute(server_url, f"CREATE DATABASE {name}{copied}")
    try:
        yield with_database(server_url, name)
    finally:
        await execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
