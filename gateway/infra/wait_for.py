"""``asyncio.wait_for`` as of Python 3.12, for 3.11 as well (docs/decisions/0037-wait-for-of-3-12.md).

That of 3.11 returns instead of being cancelled when what it awaits has just ended (CPython gh-86296; gh-96764 mended
it). redis-py sends each command, and aiosmtplib awaits each answer, by it: whoever is cancelled at that moment goes on,
and a stop waits for nobody or leaves a loop running on closed connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def wait_for(fut: Awaitable[T], timeout: float | None) -> T:
    """Raises TimeoutError after ``timeout`` seconds, at once without having begun when it is 0 or less."""
    if timeout is not None and timeout <= 0:
        future = asyncio.ensure_future(fut)
        if not future.done():
            future.cancel()
            await asyncio.wait([future])
        try:
            return future.result()
        except asyncio.CancelledError as error:
            raise TimeoutError from error
    async with asyncio.timeout(timeout):
        return await fut
