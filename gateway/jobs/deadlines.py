"""Jobs that are not worth starting any more: cancelled when nobody started them by ``expires_at``.

Claims step over them from that moment on; this chore only moves their rows, so it may come a second late. Once
its task has begun, or may have, the deadline is cleared when the attempt ends: it is retried as any other job.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import asyncpg
import structlog

from gateway.jobs.store import SQL, Row

log = structlog.get_logger(__name__)

EXPIRE_POLL_S: Final = 1.0
_BATCH: Final = 500


class Deadlines:
    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self._pool = pool

    async def expire(self) -> None:
        """A chore: cancel what is late, in statements of bounded size."""
        while late := await self._pool.fetch(SQL["expire"], _BATCH):
            for queue, number in Counter(row["queue"] for row in late).items():
                log.warning("jobs_expired", queue=queue, jobs=number)
