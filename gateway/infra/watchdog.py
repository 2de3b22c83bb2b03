"""Who blocks the event loop: a thread that asks the loop for a sign of life, and shows its stack when none comes.

In one process a task that computes or sleeps without ``await`` stops HTTP, lease renewal and every other job with it.
The metric of the loop's lag says that it happened; this says where, while it happens.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback

import structlog

log = structlog.get_logger(__name__)

BLOCKED_S = 5.0
_FRAMES = 12  # the innermost ones: the task and what it called


class LoopWatchdog:
    """A component. Start it on the loop that it shall watch."""

    name = "loop watchdog"

    def __init__(self, blocked_s: float = BLOCKED_S) -> None:
        self._blocked_s = blocked_s
        self._stopped = threading.Event()
        self._alive_at = 0.0  # written by the loop, read by the thread
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        self._stopped.clear()
        self._alive_at = time.monotonic()
        watch = (asyncio.get_running_loop(), threading.get_ident())
        self._thread = threading.Thread(target=self._watch, args=watch, name=self.name, daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        said = False
        while not self._stopped.wait(self._blocked_s / 8):
            try:
                loop.call_soon_threadsafe(self._live)
            except RuntimeError:  # the loop was closed
                return
            silent_s = time.monotonic() - self._alive_at
            if silent_s >= self._blocked_s and not said:
                said = True
                log.error("event_loop_blocked", for_s=round(silent_s, 1), stack=_stack_of(thread_id))
            elif silent_s < self._blocked_s and said:
                said = False
                log.warning("event_loop_free")

    def _live(self) -> None:
        self._alive_at = time.monotonic()


def _stack_of(thread_id: int) -> str:
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001  the only way to another thread's stack
    return "" if frame is None else "".join(traceback.format_stack(frame)[-_FRAMES:])
