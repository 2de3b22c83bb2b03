"""Health: is the process alive, may it get traffic, and what is wrong. Redis being away never takes a replica out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol

import asyncpg
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import SkipValidation

from gateway import __version__
from gateway.access import PUBLIC
from gateway.infra.migrate import Migration, load_migrations, migration_status
from gateway.infra.postgres import is_unavailable

CHECK_TIMEOUT_S: Final = 1.0
RETRY_AFTER_S: Final = 5
OPERATIONS: Final = {"access": PUBLIC}


class RedisState(StrEnum):
    UNUSED = "unused"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class HealthSource(Protocol):
    """What the composition root knows of itself."""

    @property
    def redis(self) -> RedisState: ...

    @property
    def mode(self) -> str:
        """ "queue" or "direct"."""
        ...

    @property
    def not_ready(self) -> str | None:
        """Why this replica wants no new traffic (starting, draining); None: it does."""
        ...

    async def ledger_problem(self) -> str | None:
        """What is wrong with PostgreSQL or its schema; None: nothing. Answers within about a second."""
        ...


Health = NamedDependency[SkipValidation[HealthSource]]


class LedgerCheck:
    """Asks PostgreSQL and compares its schema with this version's files, which are read once."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], migrations: tuple[Migration, ...] | None = None) -> None:
        self._pool = pool
        self._migrations = load_migrations() if migrations is None else migrations

    async def problem(self) -> str | None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S), self._pool.acquire() as connection:
                status = await migration_status(connection, self._migrations)
        except TimeoutError:
            return f"PostgreSQL did not answer within {CHECK_TIMEOUT_S:g} s"
        except asyncpg.InvalidPasswordError:
            return "PostgreSQL refused the login of DATABASE_URL"
        except asyncpg.InvalidCatalogNameError:
            return "The database of DATABASE_URL does not exist"
        except Exception as error:
            if not is_unavailable(error):
                raise
            return f"PostgreSQL does not answer ({type(error).__name__})"
        return status.problem()


UNAVAILABLE: Final = {
    503: ResponseSpec(dict[str, Any], generate_examples=False, description="Not now: the body says why")
}


def _unavailable(body: dict[str, Any]) -> Response[dict[str, Any]]:
    return Response(body, status_code=503, headers={"Retry-After": str(RETRY_AFTER_S)})


@get(
    "/health",
    opt=OPERATIONS,
    summary="Health in full: 503 if PostgreSQL or its schema is not there",
    responses=UNAVAILABLE,
    tags=["operations"],
)
async def health_route(health: Health) -> Response[dict[str, Any]]:
    problem = await health.ledger_problem()
    degraded = health.redis is RedisState.DISCONNECTED
    body: dict[str, Any] = {
        "status": "unavailable" if problem else "degraded" if degraded else "ok",
        "version": __version__,
        "mode": health.mode,
        "checks": {"ledger": problem or "ok", "redis": health.redis.value, "traffic": health.not_ready or "ok"},
    }
    return _unavailable(body) if problem else Response(body)


@get("/health/live", opt=OPERATIONS, summary="The process lives: its event loop turns", tags=["operations"])
async def live_route() -> dict[str, str]:
    return {"status": "ok"}


@get(
    "/health/ready",
    opt=OPERATIONS,
    summary="May this replica get traffic: 503 while it starts or drains",
    responses=UNAVAILABLE,
    tags=["operations"],
)
async def ready_route(health: Health) -> Response[dict[str, Any]]:
    reason = health.not_ready or await health.ledger_problem()
    if reason is not None:
        return _unavailable({"status": "not_ready", "reason": reason})
    return Response({"status": "ready"})


@get("/api/health", opt=OPERATIONS, summary="Health in the form of document 002", tags=["operations"])
async def api_health_route(health: Health) -> dict[str, Any]:
    """Exactly these keys: other programs compare them. Without Redis there is no job queue in their sense."""
    degraded = health.redis is RedisState.DISCONNECTED or await health.ledger_problem() is not None
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    enabled = health.redis is not RedisState.UNUSED
    redis = "connected" if health.redis is RedisState.CONNECTED else "disconnected"
    return {
        "status": "degraded" if degraded else "ok",
        "timestamp": now,
        "jobQueue": {"enabled": enabled, "redis": redis},
    }


ROUTES = (health_route, live_route, ready_route, api_health_route)
