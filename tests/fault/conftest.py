"""Clusters of real processes for the tests beside this file, in the modes that they name (``tests.support.modes``)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway import Cluster, HoldingSmtp, gateways, running


@pytest.fixture
def mode_redis_url(mode: str, request: pytest.FixtureRequest) -> str | None:
    """The Redis of this mode."""
    return str(request.getfixturevalue("redis_url")) if mode == "queue" else None


@pytest.fixture
async def smtp() -> AsyncIterator[HoldingSmtp]:
    """Answers at once, until a test clears ``answers``."""
    async with running(HoldingSmtp()) as server:
        server.answers.set()
        yield server


@pytest.fixture
async def cluster(
    tmp_path: Path, database_url: str, smtp: HoldingSmtp, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    async with gateways(tmp_path, database_url, smtp, redis_url=mode_redis_url) as made:
        yield made
