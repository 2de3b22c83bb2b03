"""Fixtures: a scripted server, pools that talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from gateway.services.email.smtp import SmtpPool, SmtpSettings
from gateway.services.email.smtp_answers import SmtpFailure
from tests.support.smtp_server import ScriptedSmtp

FROM, TO = "shop@shop.example", "ada@example.com"
BODY = b"Subject: Hello\r\n\r\n.first line\r\n..\r\n.\r\nlast\r\n"

PoolOf = Callable[..., Coroutine[Any, Any, SmtpPool]]


@pytest_asyncio.fixture(params=[True, False], ids=["pipelining", "one by one"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedSmtp]:
    server = ScriptedSmtp(pipelining=request.param)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def pool_of() -> AsyncIterator[PoolOf]:
    """Makes started pools for a server; keyword arguments are those of SmtpSettings."""
    async with AsyncExitStack() as stack:

        async def make(server: ScriptedSmtp, **changes: Any) -> SmtpPool:
            fields: dict[str, Any] = {"host": server.host, "port": server.port, "tls": "none", "command_timeout_s": 5.0}
            pool = SmtpPool(SmtpSettings(**{**fields, **changes}))
            await pool.start()
            stack.push_async_callback(pool.stop)
            return pool

        yield make


async def failure_of(pool: SmtpPool, recipients: list[str] | None = None) -> SmtpFailure:
    """Sends ``BODY`` and returns how that failed."""
    with pytest.raises(SmtpFailure) as caught:
        await pool.send(FROM, recipients or [TO], BODY)
    return caught.value
