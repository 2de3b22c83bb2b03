"""The contract of every long-lived thing."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

import structlog

log = structlog.get_logger(__name__)

_LAST_S: Final = 0.2  # for each component, once the time of all is over


class StartError(Exception):
    """This replica can never start as it is set up. The message says what was seen and what to do."""


class Component(Protocol):
    """Something that ``runtime`` starts and stops in order.

    ``start`` returns when it is usable, and may raise ``StartError``. ``stop`` returns when it has stopped; it is safe
    to call twice, and on something never started.
    """

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def end(task: asyncio.Task[None] | None, within_s: float) -> None:
    """Cancel it and wait for its end, but not longer: one that waits for a silent PostgreSQL ends with its pool."""
    if task is None:
        return
    task.cancel()
    await asyncio.wait([task], timeout=within_s)
    if task.done() and not task.cancelled():
        task.exception()  # it was for those who waited for the task


async def stop_all(started: list[Component], within_s: float) -> None:
    """Stop them, the last one first, and empty the list. One that cannot stop, or not in time, must not keep the others
    from it, nor the process from ending."""
    ends = time.monotonic() + within_s
    while started:
        component = started.pop()
        stopping = asyncio.create_task(component.stop(), name=f"stop {component.name}")
        await asyncio.wait([stopping], timeout=max(_LAST_S, ends - time.monotonic()))
        if not stopping.done():
            stopping.cancel()  # not awaited: a statement on a silent connection takes long to be cancelled
            log.warning("stop_unfinished", component=component.name)
        elif not stopping.cancelled() and (error := stopping.exception()) is not None:
            log.error("stop_failed", component=component.name, exc_info=error)
