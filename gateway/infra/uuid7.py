"""Time-ordered ids (RFC 9562, version 7). Python 3.14 has them in the standard library."""

from __future__ import annotations

import secrets
import time
from uuid import UUID


class Uuid7:
    """Makes version 7 ids: 48 bits of Unix milliseconds, 12 bits that keep one process's ids rising within a
    millisecond, 62 random bits."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> UUID:
        stamp = (time.time_ns() // 1_000_000) << 12
        # A second id of the same millisecond, or one after the clock went back, counts on.
        self._last = stamp = max(stamp, self._last + 1)
        milliseconds, counter = stamp >> 12, stamp & 0xFFF
        value = (milliseconds & 0xFFFFFFFFFFFF) << 80 | 7 << 76 | counter << 64 | 2 << 62 | secrets.randbits(62)
        return UUID(int=value)


uuid7 = Uuid7()
