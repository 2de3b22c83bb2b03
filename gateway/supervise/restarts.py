"""When a process that crashed is started again, and when no more."""

from __future__ import annotations

from collections import deque

BACKOFF_MAX_S = 15.0


class Restarts:
    """Crashes of one place. The delay doubles with each crash in a row, up to ``BACKOFF_MAX_S``; it starts anew after
    one that lived for ``min_uptime_s``. ``limit`` crashes within ``window_s`` seconds: given up."""

    def __init__(self, *, first_s: float, min_uptime_s: float, limit: int, window_s: float) -> None:
        self._first_s = first_s
        self._min_uptime_s = min_uptime_s
        self._limit = limit
        self._window_s = window_s
        self._in_a_row = 0
        self._crashes: deque[float] = deque()

    def crashed(self, now: float, uptime_s: float) -> float | None:
        """Seconds until the next start; None: there is none."""
        self._in_a_row = 1 if uptime_s >= self._min_uptime_s else self._in_a_row + 1
        self._crashes.append(now)
        while now - self._crashes[0] > self._window_s:
            self._crashes.popleft()
        if len(self._crashes) >= self._limit:
            return None
        return min(BACKOFF_MAX_S, self._first_s * 2.0 ** min(self._in_a_row - 1, 30))

    @property
    def within_window(self) -> int:
        return len(self._crashes)
