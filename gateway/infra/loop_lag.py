"""How late the event loop is: for ``/metrics``, and for readiness.

A loop that is late serves every request late. Readiness lets others take its traffic; liveness does not look at it, as
a restart would only move the load. A hanging loop answers neither.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from gateway.infra.loops import Loop

log = structlog.get_logger(__name__)

_SAMPLE_S: Final = 0.25
WINDOW_S: Final = 15.0  # as long as Prometheus' usual interval, so that no peak falls between two scrapes


class LagWatch:
    """Is the loop late for long? Beginning and end differ in level and in time, so that it does not flap.

    Late: longer than ``max_s`` in every stretch of ``_GAP_S`` over ``hold_s`` seconds, so one stall alone is not. On
    time again: never longer than half of ``max_s`` for ``hold_s`` seconds.
    """

    _GAP_S: Final = 2.0

    def __init__(self, max_s: float, hold_s: float = 5.0) -> None:
        self._max_s = max_s
        self._hold_s = hold_s
        self._above_since: float | None = None
        self._above_at = self._restless_at = 0.0
        self.late = False

    def see(self, now: float, lag_s: float) -> None:
        """A look at ``now`` (seconds, monotonic) that came ``lag_s`` after its time."""
        if lag_s > self._max_s / 2:
            self._restless_at = now
        if lag_s > self._max_s:
            if self._above_since is None or (now - lag_s) - self._above_at > self._GAP_S:
                self._above_since = now
            self._above_at = now
            self.late = self.late or now - self._above_since >= self._hold_s
        elif self.late and now - self._restless_at >= self._hold_s:
            self.late, self._above_since = False, None


class LoopLag:
    """A component. ``told`` hears the longest delay of the last ``WINDOW_S`` seconds; ``max_s`` 0 is never too late."""

    name = "loop lag"

    def __init__(self, told: Callable[[float], None], max_s: float, hold_s: float = 5.0) -> None:
        self._told = told
        self._max_s = max_s
        self._watch = LagWatch(max_s, hold_s) if max_s > 0 else None
        self._lags: deque[float] = deque(maxlen=round(WINDOW_S / _SAMPLE_S))
        self._loop = Loop(self.name, self._look)

    @property
    def longest_s(self) -> float:
        """Of the last ``WINDOW_S`` seconds."""
        return max(self._lags, default=0.0)

    @property
    def problem(self) -> str | None:
        """Why this process should get no traffic now; None: its loop is on time."""
        if self._watch is None or not self._watch.late:
            return None
        return f"overloaded: the event loop is up to {self.longest_s:.1f} s late (READY_LOOP_LAG_MAX_MS)"

    async def start(self) -> None:
        await self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()

    async def _look(self) -> float:
        loop = asyncio.get_running_loop()
        due = loop.time() + _SAMPLE_S
        await asyncio.sleep(_SAMPLE_S)
        now = loop.time()
        self._lags.append(now - due)
        self._told(max(self._lags))
        if self._watch is not None:
            was_late = self._watch.late
            self._watch.see(now, now - due)
            if self._watch.late and not was_late:
                log.warning("event_loop_late", longest_s=round(max(self._lags), 1), max_s=self._max_s)
            elif was_late and not self._watch.late:
                log.info("event_loop_on_time")
        return 0.0
