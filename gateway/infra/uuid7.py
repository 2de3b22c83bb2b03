"""Time-ordered ids (RFC 9562, version 7). Python 3.14 has them in the standard library."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_last = 0


def uuid7() -> UUID:
    """A version 7 id: 48 bits of Unix milliseconds, then 12 bits that keep one process's ids rising within a millisecond,
    then 62 random bits."""
    global _last
    stamp = (time.time_ns() // 1_000_000) << 12
    # Rising within the process: a second id of the same millisecond, or one after the clock went back, counts on.
    _last = stamp = max(stamp, _last + 1)
    milliseconds, counter = stamp >> 12, stamp & 0xFFF
    value = (milliseconds & 0xFFFFFFFFFFFF) << 80 | 7 << 76 | counter << 64 | 2 << 62 | secrets.randbits(62)
    return UUID(int=value)
