"""What a cron job of the installation may ask of e-mails (``Authorization: Bearer <CRON_SECRET>``)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import asyncpg
from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from gateway import audit
from gateway.access import MACHINE, Principal
from gateway.feature import ThePlatform
from gateway.services.email.queue import EmailQueueService
from gateway.services.email.store import SQL

WORKERS_PATH: Final = "/api/v1/workers"
DAY_S: Final = 86_400.0
LIMIT_DEFAULT: Final = 100
DAYS_DEFAULT: Final = 90
_AT_ONCE: Final = 5000  # rows of one statement

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Days = Annotated[int, QueryParameter(ge=1, le=3650)]


class EmailMachineController(Controller):
    path = WORKERS_PATH
    tags = ("machines",)

    @post(
        "/process-email-queue",
        opt={"access": MACHINE, "query": ("limit",)},
        status_code=200,
        summary="Give mails that lost their job a new one",
    )
    async def process_queue(
        self, queue: NamedDependency[EmailQueueService], limit: Limit = LIMIT_DEFAULT
    ) -> dict[str, Any]:
        """Safe at any time: it happens every minute by itself too. ``processed`` is how many there were."""
        return {"success": True, "data": {"processed": await queue.restore(limit)}}

    @post(
        "/cleanup-email-logs",
        opt={"access": MACHINE, "query": ("days",)},
        status_code=200,
        summary="Delete events and attempts of mails that ended long ago",
    )
    async def clean_logs(
        self, request: Request[Principal, Any, Any], platform: ThePlatform, days: Days = DAYS_DEFAULT
    ) -> dict[str, Any]:
        """The mails stay, with their recipients and how they ended."""
        counts = {
            "events": await _deleted(platform.pool, SQL["clean_events"], days),
            "attempts": await _deleted(platform.pool, SQL["clean_attempts"], days),
        }
        change = audit.Change(
            actor=request.user.id, action="email.clean_logs", subject="emails", detail={"days": days} | counts
        )
        await audit.record(platform.pool, change)
        return {"success": True, "data": counts}


async def _deleted(pool: asyncpg.Pool[asyncpg.Record], statement: str, days: int) -> int:
    """In parts, so that no statement holds many rows."""
    total = 0
    while part := int((await pool.execute(statement, days * DAY_S, _AT_ONCE)).removeprefix("DELETE ")):
        total += part
    return total
