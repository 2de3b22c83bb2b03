"""Both modes: with Redis ("queue") and without ("direct")."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.gateway import running
from tests.support.smtp_server import ScriptedSmtp


@pytest.fixture(params=["queue", "direct"])
def mode(request: pytest.FixtureRequest) -> str:
    """The mode word that accepted mails are answered with."""
    word: str = request.param
    return word


@pytest.fixture
def mode_redis_url(mode: str, request: pytest.FixtureRequest) -> str | None:
    """The Redis of this mode."""
    return str(request.getfixturevalue("redis_url")) if mode == "queue" else None


@pytest.fixture
async def smtp() -> AsyncIterator[ScriptedSmtp]:
    async with running(ScriptedSmtp()) as server:
        yield server
