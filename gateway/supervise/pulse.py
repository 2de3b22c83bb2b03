"""Signs of life: which process is frozen, though it runs.

Each process writes to a pipe as often as its event loop turns. One that was stopped, that computes or sleeps without
giving the loop back, or that waits for a lock for ever, writes nothing. It is not asked for anything: an answer over
HTTP would also be late when it is only busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from gateway.supervise.pool import Pool
from gateway.supervise.process import Process, State

log = structlog.get_logger(__name__)

_LOOK_MAX_S: Final = 2.0  # two of the supervisor's looks
_SAID_FROM_S: Final = 5.0  # silence that `status` shows
_DOING: Final = {
    "T": "it was stopped by a signal",
    "t": "a debugger holds it",
    "R": "it computes, or waits for the processor",
    "S": "it sleeps or waits for a lock",
    "D": "it waits for a disk",
}


class Watch:
    """Ends processes that are frozen. ``clock``: monotonic seconds.

    Silence is counted by our own looks, each for two seconds at the most: while this machine or the supervisor itself
    did not run, nobody was silent. It begins with the first sign of life: who loads its code for long gives none yet.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._looked_at = clock()

    def look(self) -> None:
        now = self._clock()
        passed_s, self._looked_at = min(now - self._looked_at, _LOOK_MAX_S), now
        for process in tuple(self._pool.processes):
            if process.gave_sign():
                process.silent_s = 0.0
            elif process.silent_s is not None:
                process.silent_s += passed_s
            if self._is_frozen(process):
                self._end(process)

    def _is_frozen(self, process: Process) -> bool:
        eco = self._pool.plan.ecosystem
        limit_s = eco.watchdog_timeout_s
        if not limit_s or process.silent_s is None or process.abandoned or not process.alive:
            return False
        if process.state is State.STARTING:
            limit_s = max(limit_s, eco.listen_timeout_s)
        return process.silent_s >= limit_s

    def _end(self, process: Process) -> None:
        why = silence_of(process)
        eco = self._pool.plan.ecosystem
        log.error(
            "process_frozen",
            number=process.number,
            pid=process.pid,
            silent_s=round(process.silent_s or 0.0, 1),
            seen=_doing(process),
            state=process.state.value,
            killed_in_s=eco.watchdog_grace_s,
        )
        self._pool.abandon(process, f"frozen: {why}")


def silence_of(process: Process) -> str | None:
    """What to say of a process that has given no sign of life for a while; None: it lives."""
    if process.silent_s is None or process.silent_s < _SAID_FROM_S:
        return None
    return f"process {process.number} gave no sign of life for {process.silent_s:.0f} s; {_doing(process)}"


def _doing(process: Process) -> str:
    process.look()
    return _DOING.get(process.usage.state if process.usage is not None else "", "what it does is not known")
