"""The dashboard for administrators, ``/admin/queues``: pages made by the server, useful without scripts."""

from __future__ import annotations

from typing import Final

from litestar import Router
from litestar.di import Provide

from gateway.feature import OwnRouter
from gateway.web.dashboard import (
    brought,
    bulk,
    clean,
    events,
    export,
    failing,
    job,
    login,
    metrics,
    others,
    overview,
    queue,
    replicas,
    upkeep,
)
from gateway.web.dashboard.assets import ADDRESS, asset_route
from gateway.web.dashboard.frame import Dashboard
from gateway.web.dashboard.problems import page_handlers
from gateway.web.session import demand_same_origin

__all__ = ["ADDRESS", "HANDLERS", "dashboard_router"]

HANDLERS: Final = (
    asset_route,
    login.login_page,
    login.sign_in,
    login.sign_out,
    overview.overview,
    *queue.HANDLERS,
    *bulk.HANDLERS,
    *job.HANDLERS,
    *others.HANDLERS,
    export.export_jobs,
    *clean.HANDLERS,
    *replicas.HANDLERS,
    *upkeep.HANDLERS,
    metrics.metrics_page,
    failing.failures_page,
    events.events_route,
)


def dashboard_router(dashboard: Dashboard) -> Router:
    async def refreshed() -> Dashboard:  # not its method: Litestar copies what a method is bound to
        return await dashboard.refreshed()

    return OwnRouter(
        ADDRESS,
        route_handlers=[*HANDLERS, *brought.routes_of(dashboard.features)],
        guards=[demand_same_origin],
        dependencies={"dashboard": Provide(refreshed)},
        exception_handlers=page_handlers(dashboard),
    )
