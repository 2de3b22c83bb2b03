"""Where a command does its work: by the API of the instance that is named, else in the database itself."""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from gateway.cli.command import invocation
from gateway.cli.database import explained
from gateway.cli.instance import running_dev
from gateway.cli.local import environment, load_settings
from gateway.cli.loop import run_loop

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")


def by_api() -> bool:
    """An instance is named, or ``gateway dev`` runs here and the environment names no database of its own."""
    call = invocation()
    if call.url or os.environ.get("GATEWAY_URL"):
        return True
    own = any(os.environ.get(name) for name in ("DATABASE_URL", "DATABASE_URL_FILE"))
    return not own and running_dev(call.data_dir) is not None


def with_pool(work: Callable[[asyncpg.Pool[asyncpg.Record]], Awaitable[T]]) -> T:
    from gateway.infra.postgres import open_pool

    url = load_settings(environment(invocation()), serving=False).settings.database_url

    async def run() -> T:
        pool = await open_pool(url, max_size=1, application_name="gateway command")
        try:
            return await work(pool)
        finally:
            await pool.close()

    with explained(url):
        return run_loop(run())


def user_here() -> str:
    """Who is at this terminal, for the audit; containers may have a uid without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
