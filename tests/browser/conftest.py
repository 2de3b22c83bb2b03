"""One browser and one gateway for all tests of the pages: starting them takes longer than most of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser

from gateway.dev_servers import EmbeddedValkey
from tests.browser.visits import Visits, chromium
from tests.browser.world import World, world
from tests.support.databases import own_database


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shown(server_directory: Path, postgres_url: str, template_database: str) -> AsyncIterator[World]:
    """What the pages show. Tests add to it; none counts on a number that another may change."""
    valkey = EmbeddedValkey(server_directory / "browser-valkey")
    valkey.start()
    try:
        async with own_database(postgres_url, template_database) as url, world(server_directory, url, valkey) as made:
            yield made
    finally:
        valkey.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def visits(browser: Browser, shown: World) -> AsyncIterator[Visits]:
    """Opens pages; fails at the end for errors, violations of the policy, and requests to elsewhere."""
    made = Visits(browser, shown)
    yield made
    await made.close()
    assert not made.faults, "\n".join(made.faults)
