"""``/admin/queues/maintenance``: retention and other upkeep, what came of each run, and when the next is due."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from litestar import Response, get

from gateway.web.dashboard.frame import Page, PageRequest, TheDashboard, respond
from gateway.web.dashboard.overview import READ_S
from gateway.web.dashboard.queue import READ
from gateway.web.maintenance_admin import DutyView, TheDuties, duty_views, runs_of

SHOWN: Final = 50


@get("/maintenance", opt=READ | {"query": ("duty", "cursor")}, include_in_schema=False)
async def maintenance_page(request: PageRequest, duties: TheDuties, dashboard: TheDashboard) -> Response[Any]:
    query = dict(request.query_params.items())
    async with asyncio.timeout(READ_S):
        views = await duty_views(duties)
        runs, cursor = await runs_of(duties, query | {"limit": str(SHOWN)})
    duty = query.get("duty", "")
    kept = {"duty": duty} if duty else {}
    page = Page(
        template="maintenance.html",
        title="Maintenance",
        place="maintenance",
        data={"duties": views, "runs": runs, "duty": duty},
        extra={
            "due": {view.name: next_due(view, datetime.now(UTC)) for view in views},
            "following": urlencode(kept | {"cursor": cursor}) if cursor else None,
        },
    )
    return respond(request, dashboard, page)


def next_due(duty: DutyView, now: datetime) -> datetime:
    """The first multiple of its period since 1970, plus its offset, that has not come yet. Pure."""
    passed = (now.timestamp() - duty.offset_s) // duty.period_s
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=(passed + 1) * duty.period_s + duty.offset_s)


HANDLERS: Final = (maintenance_page,)
