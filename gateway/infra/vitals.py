"""How this process is, in numbers."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")  # proc(5): sizes in pages, the second is what is resident


def rss_bytes() -> float | None:
    """Memory that is resident now; None where the system does not tell."""
    try:
        pages = _STATM.read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return float(int(pages) * resource.getpagesize())


def vitals_of(loop_lag_s: Callable[[], float]) -> Callable[[], dict[str, float]]:
    """What a sign of life tells: ``rssBytes``, and ``loopLagS``, the longest delay of the loop lately."""

    def vitals() -> dict[str, float]:
        told = {"loopLagS": round(loop_lag_s(), 4)}
        memory = rss_bytes()
        return told if memory is None else told | {"rssBytes": memory}

    return vitals
