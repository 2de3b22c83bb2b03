"""Memory and processor time of a process, as Linux tells them (proc(5)); None where there is no /proc."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

PROC = Path("/proc")


class Usage(msgspec.Struct, frozen=True):
    """Resident bytes, shared pages included; seconds of processor time since its start; the kernel's letter for what
    it does: R runs, S sleeps, D waits for a disk, T was stopped, t is traced, Z has ended."""

    rss_bytes: int
    cpu_s: float
    state: str


def usage_of(pid: int) -> Usage | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text("ascii", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold brackets and spaces.
    fields = stat.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime, stime: fields 14 and 15
    return Usage(int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK"), fields[0])
