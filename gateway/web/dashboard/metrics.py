"""``/admin/queues/metrics``: how the queues went, up to seven days back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from litestar import Response, get

from gateway.feature import ThePlatform
from gateway.web.dashboard.charts import RANGES, charts_of, moments_of, times_of
from gateway.web.dashboard.frame import Page, PageRequest, TheDashboard, respond
from gateway.web.dashboard.overview import READ_S
from gateway.web.dashboard.queue import READ, queue_name
from gateway.web.queues_schemas import invalid


@get("/metrics", opt=READ | {"query": ("range", "queue")}, include_in_schema=False)
async def metrics_page(request: PageRequest, platform: ThePlatform, dashboard: TheDashboard) -> Response[Any]:
    asked = request.query_params.get("range", "1h")
    if asked not in RANGES:
        raise invalid("range", f"must be one of {', '.join(RANGES)}, not {asked[:20]!r}")
    chosen, names = RANGES[asked], platform.engine.registry.queue_names
    queue = queue_name(platform, request.query_params.get("queue", names[0]))
    history = platform.inspector.history
    async with asyncio.timeout(READ_S):
        steps = await history.steps(names, chosen.range_s, chosen.step_s)
        times = await history.times(queue, chosen.range_s, chosen.step_s)
    moments = moments_of(datetime.now(UTC), chosen)
    page = Page(
        template="metrics.html",
        title="Metrics",
        place="metrics",
        data={
            "range": asked,
            "queue": queue,
            "queues": [charts_of(name, steps[name], moments, chosen) for name in names],
            "times": times_of(times, moments),
        },
        extra={"ranges": RANGES, "since": moments[0]},
    )
    return respond(request, dashboard, page)
