"""Reading for a page, for so long and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

T = TypeVar("T")
_given_up: Final[set[asyncio.Future[Any]]] = set()


async def within(seconds: float, work: Awaitable[T]) -> T:
    """What ``work`` answers. Raises TimeoutError when it has not in time.

    Unlike ``asyncio.timeout`` it does not wait for the end of what was given up: asyncpg asks the server to cancel the
    statement and waits up to 30 s for its word, which a server that is silent does not give.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            _given_up.add(task)
            task.add_done_callback(_forget)
    if task in _given_up:
        raise TimeoutError(f"nothing came in {seconds:g} s")
    return task.result()


def _forget(task: asyncio.Future[Any]) -> None:
    _given_up.discard(task)
    if not task.cancelled():
        task.exception()  # nobody else asks for it
