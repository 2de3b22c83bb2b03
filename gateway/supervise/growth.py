"""When a process is replaced for its size.

Who leaks is replaced as soon as it has reached the mark. Who needs more than the mark allows reaches it again soon
after each replacement, which gains nothing: from one to the next the pause doubles, and the log says to raise the mark.
The two are told apart by what comes then: a size that stays waits, one that goes on growing does not. So that a leak
cannot use the pause to take all memory, no pause holds beyond three times the mark.
"""

from __future__ import annotations

from typing import Final

from gateway.supervise.config import Ecosystem
from gateway.supervise.process import Process

LONGEST_PAUSE_S: Final = 3600.0
_SOON: Final = 10  # times min_uptime: reached by then, the mark is too low rather than a leak at work
_GROWING: Final = 1.5  # times what the one before it had: it is no steady size
_AT_MOST: Final = 3.0  # times the mark
_SHORTEST_S: Final = 1.0  # a min_uptime of 0 doubles too
_MIB: Final = 1024**2


class Growth:
    """Of one place; ``again``: how many processes in a row reached the mark soon after their start; ``size``: what the
    last of them had when it was replaced."""

    def __init__(self) -> None:
        self.again = 0
        self.size = 0

    def see(self, process: Process, mark: int) -> None:
        """Call it with each look at the process's size."""
        if process.grown_after_s is None and process.rss_bytes > mark:
            process.grown_after_s = process.uptime_s

    def is_due(self, process: Process, mark: int, eco: Ecosystem) -> bool:
        """Is it to be replaced now?"""
        if process.rss_bytes <= mark or process.uptime_s < eco.min_uptime_s:
            return False
        return process.uptime_s >= self.pause_s(eco) or process.rss_bytes >= self.at_once_from(mark)

    def pause_s(self, eco: Ecosystem) -> float:
        """From the start of a process until it may be replaced for its size."""
        if not self.again:
            return eco.min_uptime_s
        return float(min(LONGEST_PAUSE_S, max(eco.min_uptime_s, _SHORTEST_S) * 2 ** min(self.again, 30)))

    def at_once_from(self, mark: int) -> int:
        """From this size on no pause holds."""
        return int(min(_GROWING * max(mark, self.size), _AT_MOST * mark))

    def replaced(self, process: Process, eco: Ecosystem) -> None:
        """``process`` was, for its size."""
        soon_s = max(self.pause_s(eco), _SOON * max(eco.min_uptime_s, _SHORTEST_S))
        soon = process.grown_after_s is not None and process.grown_after_s <= soon_s
        self.again, self.size = (self.again + 1, process.rss_bytes) if soon else (0, 0)

    def reason(self, process: Process, eco: Ecosystem) -> str | None:
        """Why a process above the mark runs on, in words; None: it is not above it, or has no pause to wait for."""
        mark = eco.memory_mark
        if mark is None or process.rss_bytes <= mark:
            return None
        sizes = f"process {process.number} has {process.rss_bytes // _MIB}M, max_memory_restart is {mark // _MIB}M"
        if (process.fresh_bytes or 0) > mark:
            return f"{sizes}, and a fresh one is above it already: none is replaced. Raise the mark"
        if not self.again:
            return None
        due_s = max(0.0, self.pause_s(eco) - process.uptime_s)
        at_once = self.at_once_from(mark) // _MIB
        return (
            f"{sizes}, as {self.again} before it had: replaced in {due_s:.0f} s, at {at_once}M at once. Raise the mark"
        )
