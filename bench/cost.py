"""What doing something a number of times costs, each time: CPU before time, because rates swing with the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.servers import Stores, cpu_s

Measure = dict[str, Any]


@contextmanager
def cost(on: Stores, times: int, *, of: int | None = None) -> Iterator[Measure]:
    """Fills the measure at the end: rate, and CPU of one time in microseconds, of the process ``of`` (this one) and of
    the servers."""
    pid, measured = of or os.getpid(), Measure()
    before, started = (cpu_s(pid), *on.cpu_s), time.perf_counter()
    yield measured
    took, after = time.perf_counter() - started, (cpu_s(pid), *on.cpu_s)
    measured["jobs"], measured["per_s"] = times, round(times / took)
    for name, used, unused in zip(("worker", "postgres", "redis"), after, before, strict=True):
        measured[f"{name}_cpu_us"] = round((used - unused) / times * 1e6)
