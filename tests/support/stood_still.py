"""How long this process stood still: a bound in time is one of what it does, not of a machine that has more to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_TURN_S = 0.01


@dataclass
class Took:
    """``seconds``: of the block, without those in which the event loop had no turn; ``longest_s`` at once."""

    seconds: float = 0.0
    longest_s: float = 0.0


@asynccontextmanager
async def timed() -> AsyncIterator[Took]:
    took, stood_still_s = Took(), 0.0

    async def watch() -> None:
        nonlocal stood_still_s
        last = time.monotonic()
        while True:
            await asyncio.sleep(_TURN_S)
            now = time.monotonic()
            if (late_s := now - last - _TURN_S) > _TURN_S:
                stood_still_s += late_s
                took.longest_s = max(took.longest_s, late_s)
            last = now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)  # it has begun
    began = time.monotonic()
    try:
        yield took
    finally:
        await asyncio.sleep(_TURN_S)  # a standstill at the end is seen too
        took.seconds = time.monotonic() - began - stood_still_s
        watching.cancel()
