"""Background loops that do not die: what one round raises is said and the next round comes all the same."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable

import structlog

from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable

log = structlog.get_logger(__name__)

_AFTER_FAULT_S = 1.0
_LAST_WORD_S = 2.0
_SAY_AGAIN_S = 60.0  # the same fault in each round is one line a minute

Step = Callable[[], Awaitable[float]]


async def at_stop(what: str, writing: Awaitable[object]) -> None:
    """Await a last word to the ledger, but not for long: what it would say ages out by itself if it cannot be said."""
    try:
        async with asyncio.timeout(_LAST_WORD_S):
            await writing
    except LEDGER_ERRORS as error:
        log.info("not_said_at_stop", what=what, error=f"{type(error).__name__}: {error}")


class Loop:
    """A component: calls ``step`` again and again; it answers the seconds until the next call.

    An outage of PostgreSQL is what ``step`` is expected to meet, and only told at debug level: whoever needs the ledger
    to work tells it once. Anything else is a fault of ours, logged with its traceback. Neither ends the loop.
    """

    def __init__(self, name: str, step: Step, *, fault_event: str = "loop_failed") -> None:
        self.name = name
        self._fault_event = fault_event
        self._step = step
        self._task: asyncio.Task[None] | None = None
        self._said: dict[str, float] = {}

    async def start(self) -> None:
        # A context of its own: the ids of whatever request or job started it do not belong in its log lines.
        self._task = asyncio.create_task(self._run(), name=self.name, context=contextvars.Context())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            # A statement on a silent connection takes long to be cancelled; the stop does not wait for that.
            await asyncio.wait([task], timeout=_LAST_WORD_S)

    async def _run(self) -> None:
        own = asyncio.current_task()
        while True:
            try:
                wait_s = await self._step()
            except Exception as error:  # noqa: BLE001  the one place where a loop's faults end
                self._say(error)
                wait_s = _AFTER_FAULT_S
            if self._task is not own:  # stopped, and a library in the step made nothing of being cancelled
                return
            await asyncio.sleep(wait_s)

    def _say(self, error: Exception) -> None:
        if is_unavailable(error):
            log.debug("loop_waits_for_ledger", loop=self.name, error=str(error))
            return
        kind, now = f"{type(error).__name__}: {error}", time.monotonic()
        if now - self._said.get(kind, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            self._said = {kind: now}
            log.error(self._fault_event, loop=self.name, exc_info=error)
