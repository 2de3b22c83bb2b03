"""The whole application over a real PostgreSQL, called in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from gateway.app import create_app
from gateway.runtime import DevOptions, Runtime
from gateway.settings import Settings

SECRET = "mX2vQ9sLw4Rk7TzB1nYc6HdJ0pGfE8ua"
ADMIN = {"Authorization": "Bearer dev"}


def settings_for(database_url: str, **others: Any) -> Settings:
    return Settings.model_validate(
        {"database_url": database_url, "jwt_secret": SECRET, "smtp_host": "127.0.0.1", "smtp_port": 1} | others
    )


@asynccontextmanager
async def serving(
    settings: Settings, *, routes: tuple[object, ...] = (), wait: bool = True
) -> AsyncIterator[tuple[httpx.AsyncClient, Runtime]]:
    """A client without a token, and the runtime behind it. ``wait`` False does not wait until the runtime is ready."""
    runtime = await Runtime.open(settings, DevOptions(token="dev", routes=routes))
    app = create_app(runtime)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        if wait:
            await runtime.booted()
        yield client, runtime
