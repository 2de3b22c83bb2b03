"""``/admin/queues/failures``: what went wrong lately, each reason once, and the way to try its jobs again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from litestar import Response, get

from gateway.feature import ThePlatform
from gateway.web.dashboard.failures import grouped
from gateway.web.dashboard.frame import Page, PageRequest, TheDashboard, respond
from gateway.web.dashboard.overview import READ_S
from gateway.web.dashboard.queue import READ, queue_name
from gateway.web.dashboard.store import FAILURES_READ, failures_lately
from gateway.web.queues_schemas import invalid

GROUPS_SHOWN: Final = 100
WITHIN: Final = {"1h": 3600.0, "24h": 86_400.0, "7d": 7 * 86_400.0}  # failed jobs are kept for 7 days by default
WORDS: Final = {"1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days"}


@get("/failures", opt=READ | {"query": ("range", "queue", "done")}, include_in_schema=False)
async def failures_page(request: PageRequest, platform: ThePlatform, dashboard: TheDashboard) -> Response[Any]:
    """The newest ``FAILURES_READ`` failed jobs of each queue: ``cut`` names the queues that have more in that time."""
    asked = request.query_params.get("range", "24h")
    if asked not in WITHIN:
        raise invalid("range", f"must be one of {', '.join(WITHIN)}, not {asked[:20]!r}")
    names = platform.engine.registry.queue_names
    given = request.query_params.get("queue")
    chosen = queue_name(platform, given) if given else None
    async with asyncio.timeout(READ_S):
        failures = await failures_lately(platform.pool, [chosen] if chosen else names, WITHIN[asked])
    numbers, groups = Counter(failure.queue for failure in failures), grouped(failures)
    page = Page(
        template="failures.html",
        title="Failures",
        place="failures",
        data={
            "range": asked,
            "queue": chosen,
            "read": len(failures),
            "cut": [queue for queue, number in numbers.items() if number >= FAILURES_READ],
            "groups": groups[:GROUPS_SHOWN],
            "more_groups": max(0, len(groups) - GROUPS_SHOWN),
        },
        topics=[f"queue:{name}" for name in ([chosen] if chosen else names)],
        extra={"ranges": WORDS, "queues": names, "most": FAILURES_READ},
    )
    return respond(request, dashboard, page)
