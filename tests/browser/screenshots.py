"""``python -m tests.browser.screenshots``: photograph the dashboard again, ``docs/pictures/page-*.png``.

A real gateway with real jobs, mails and a run, as the tests have it; light and dark. Names and times differ each time.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.migrate import migrate
from tests.browser.accessibility import page_path
from tests.browser.visits import Visits, chromium
from tests.browser.world import World, world

PICTURES: Final = Path(__file__).resolve().parents[2] / "docs" / "pictures"
SHOWN: Final = ("overview", "queue", "job", "run")
SENT: Final = 240
LARGEST: Final = 150_000  # bytes


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)  # the servers' users enter it
        postgres = EmbeddedPostgres(directory / "postgres", durable=False)
        valkey = EmbeddedValkey(directory / "valkey")
        postgres.start()
        valkey.start()
        try:
            asyncio.run(photographed(directory, postgres.dsn, valkey))
        finally:
            valkey.stop()
            postgres.stop()
    return 0


async def photographed(directory: Path, database_url: str, valkey: EmbeddedValkey) -> None:
    await migrate(database_url)
    shown = world(directory, database_url, valkey, sent=SENT, thinking_s=0.5, hostile=False)
    async with shown as made, chromium() as browser:
        visits = Visits(browser, made)
        for theme in ("light", "dark"):
            await _pages(visits, made, theme)
        await visits.close()
        if visits.faults:
            raise RuntimeError("\n".join(visits.faults))


async def _pages(visits: Visits, made: World, theme: str) -> None:
    context = await visits.session(color_scheme=theme, viewport={"width": 1280, "height": 720}, locale="en-GB")
    page = await visits.another(context)
    for name in SHOWN:
        await page.goto(made.url + page_path(name, made))
        picture = await page.screenshot(animations="disabled", caret="hide")
        if len(picture) > LARGEST:
            raise RuntimeError(f"{name} in {theme} has {len(picture)} bytes")
        (PICTURES / f"page-{name}-{theme}.png").write_bytes(picture)


if __name__ == "__main__":
    sys.exit(main())
