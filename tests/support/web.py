"""The whole application over a real PostgreSQL, called in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from litestar import Litestar

from gateway.app import create_app
from gateway.runtime import DevOptions, Runtime
from gateway.services.email.caught import Inbox
from gateway.settings import Settings

SECRET = "mX2vQ9sLw4Rk7TzB1nYc6HdJ0pGfE8ua"
ADMIN = {"Authorization": "Bearer dev"}


def settings_for(database_url: str, **others: Any) -> Settings:
    return Settings.model_validate(
        {"database_url": database_url, "jwt_secret": SECRET, "smtp_host": "127.0.0.1", "smtp_port": 1} | others
    )


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    routes: tuple[object, ...] = (),
    wait: bool = True,
    demo: bool = False,
    inbox: Inbox | None = None,
) -> AsyncIterator[tuple[httpx.AsyncClient, Runtime]]:
    """A client without a token, and the runtime behind it. ``wait`` False does not wait until the runtime is ready.
    ``demo``: as `gateway dev`, without a key a demonstration answers; ``inbox``: likewise, mails that were caught."""
    runtime = await Runtime.open(settings, DevOptions(token="dev", routes=routes, demo_models=demo, inbox=inbox))
    app = create_app(runtime)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with _lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        if wait:
            await runtime.booted()
        yield client, runtime


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    """Start and stop the application in one task, as a server does; fixtures begin and end in different ones."""
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await stop.wait()

    living = asyncio.create_task(live())
    starting = asyncio.create_task(started.wait())
    await asyncio.wait([living, starting], return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()
    try:
        yield
    finally:
        stop.set()
        await living
