"""The HTTP application: routes, guard, error answers, and when the rest starts and stops. No logic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.di import Provide

from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.web import docs, health, jobs_admin, metrics, models_admin, queue_controls, queues_admin, schedules_admin
from gateway.web.auth import Authenticator, check_access_declared
from gateway.web.channel_access import channel_access
from gateway.web.clients import Clients
from gateway.web.dashboard import dashboard_router
from gateway.web.dashboard.frame import Dashboard
from gateway.web.dashboard.outage import RedisHistory
from gateway.web.errors import exception_handlers
from gateway.web.event_streams import events_route
from gateway.web.intake import PER_CONNECTION, Intake
from gateway.web.keys_admin import KeysAdmin
from gateway.web.logins_admin import create_login_route
from gateway.web.maintenance_admin import Duties, MaintenanceAdmin
from gateway.web.middleware import BODY_MAX_BYTES, REQUEST_ID_HEADER, RequestEdge
from gateway.web.openapi_errors import declare_errors
from gateway.web.openapi_queries import declare_queries
from gateway.web.realtime import realtime_socket
from gateway.web.requests import demand_sound_request
from gateway.web.workers_admin import WorkersAdmin
from gateway.web.workers_health import workers_health


def create_app(runtime: Runtime) -> Litestar:
    """Raises ValueError if a route does not declare what access it demands."""
    settings = runtime.settings
    authenticator = Authenticator(settings, runtime.platform.pool, runtime.dev.token)

    history = RedisHistory()
    runtime.events.subscribe(history.on_event)
    dashboard = Dashboard(
        runtime,
        authenticator,
        history,
        runtime.features,
        known_token=runtime.dev.token if runtime.dev.open_door else None,
    )
    access = channel_access(runtime.features, runtime.engine.registry)
    clients = Clients(settings, runtime.realtime.hub, authenticator, access, runtime.metrics.realtime)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        await runtime.start()
        await clients.start()
        try:
            yield
        finally:
            await clients.stop()
            await runtime.stop()
            await authenticator.stop()

    app = Litestar(
        route_handlers=_routes(runtime, dashboard),
        guards=[authenticator.guard, demand_sound_request],
        dependencies={
            "platform": Provide(_always(runtime.platform), sync_to_thread=False),
            "controls": Provide(_always(runtime.controls), sync_to_thread=False),
            "duties": Provide(
                _always(Duties(runtime.maintenance.duties, runtime.maintenance.book)), sync_to_thread=False
            ),
            "health": Provide(_always(runtime), sync_to_thread=False),
            "metrics": Provide(_always(runtime.metrics), sync_to_thread=False),
            "clients": Provide(_always(clients), sync_to_thread=False),
        },
        exception_handlers=exception_handlers(),
        lifespan=[lifespan],
        openapi_config=docs.openapi_config(),
        cors_config=_cors(settings),
        request_max_body_size=BODY_MAX_BYTES,
        logging_config=None,  # infra/log.py has configured it
    )
    check_access_declared(app)
    declare_errors(app)
    declare_queries(app)
    intake = Intake(app.asgi_handler, PER_CONNECTION * settings.database_pool_size)
    app.asgi_handler = RequestEdge(intake, runtime.metrics.http.ended)
    return app


def _routes(runtime: Runtime, dashboard: Dashboard) -> list[Any]:
    routes: list[Any] = [*health.ROUTES, metrics.metrics_route, docs.openapi_route, *runtime.dev.routes]
    if runtime.settings.serves_api:
        routes += [*queues_admin.ROUTES, *jobs_admin.ROUTES, *queue_controls.ROUTES]
        routes += [schedules_admin.SchedulesAdmin, models_admin.ModelsAdmin, KeysAdmin, create_login_route]
        routes += [WorkersAdmin, MaintenanceAdmin, workers_health]
        routes += [realtime_socket, events_route, dashboard_router(dashboard)]
        routes += [route for feature in runtime.features for route in feature.routes]
    return routes


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


def _cors(settings: Settings) -> CORSConfig | None:
    if not settings.cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", REQUEST_ID_HEADER, "X-Batch-Validation"],
        expose_headers=[REQUEST_ID_HEADER, "Idempotent-Replayed", "Retry-After"],
        max_age=600,
    )
