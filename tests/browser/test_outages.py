"""What happens while somebody looks: PostgreSQL goes away, another replica answers, one is drained, another person
decides, the page is hidden. In a gateway of its own, because its jobs change."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from gateway.dev_servers import EmbeddedValkey
from tests.browser.visits import Visits
from tests.browser.world import World, world
from tests.support.databases import own_database
from tests.support.eventually import eventually
from tests.support.modes import LONG
from tests.support.proxy import Proxy

pytestmark = [LONG, pytest.mark.asyncio(loop_scope="session")]
QUEUE = "/queue/email-queue"
SOON = 30_000  # ms
# No page of a browser without a screen is ever hidden by itself.
HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ledger(postgres_url: str, template_database: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before PostgreSQL, and the address of a database behind it."""
    async with own_database(postgres_url, template_database) as url:
        parts = urlsplit(url)
        async with Proxy(parts.hostname or "", parts.port or 0) as proxy:
            login, at, _ = parts.netloc.rpartition("@")
            yield proxy, urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{proxy.port}"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def apart(server_directory: Path, ledger: tuple[Proxy, str]) -> AsyncIterator[World]:
    valkey = EmbeddedValkey(server_directory / "outages-valkey")
    valkey.start()
    directory = server_directory / "outages"
    directory.mkdir()
    try:
        async with world(directory, ledger[1], valkey, sent=2) as made:
            yield made
    finally:
        valkey.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def visits(browser: Browser, apart: World) -> AsyncIterator[Visits]:
    made = Visits(browser, apart)
    yield made
    await made.close()
    assert not made.faults, "\n".join(made.faults)


async def test_two_who_decide_at_once_are_told_who_was_first(visits: Visits, apart: World) -> None:
    path = f"/runs/{await apart.run()}"
    first, second = await visits.open(path), await visits.open(path, role="operator")
    for page in (first, second):
        await page.get_by_role("link", name="send_email").click()
        await expect(page.get_by_role("heading", name="send_email")).to_be_visible()
    await first.get_by_text("Approve…").click()
    await second.get_by_text("Reject…").click()
    await second.get_by_label("Reason").fill("too early")
    await first.get_by_role("button", name="Approve", exact=True).click()
    await expect(first.get_by_text("Approved. A job does it now.")).to_be_visible()
    await second.get_by_role("button", name="Reject", exact=True).click()
    await expect(second.get_by_role("alert")).to_contain_text("admin-of-the-tests")
    await second.get_by_role("link", name="Back").click()
    await expect(second.get_by_role("definition").filter(has_text="admin-of-the-tests")).to_be_visible()


async def test_a_form_of_one_replica_is_answered_by_another(visits: Visits, apart: World) -> None:
    """As when versions are rolled: between the page and its form the replica behind the address changes."""
    other = await apart.cluster.start()
    ports = [urlsplit(process.url).port or 0 for process in (apart.process, other)]
    async with Proxy("127.0.0.1", ports[0]) as front:
        there = f"http://127.0.0.1:{front.port}"
        visits.foreign.add(there)
        page = await visits.open("/replicas")
        await page.goto(f"{there}/admin/queues/queue/chat")
        await page.get_by_text("Pause…").click()
        await page.get_by_label("Reason").fill("rolled")
        front.lead("127.0.0.1", ports[1])
        front.cut()
        await page.get_by_role("button", name="Pause", exact=True).click()
        await expect(page.get_by_text("chat is paused.")).to_be_visible(timeout=SOON)
        await expect(page.get_by_text('Reason: "rolled"')).to_be_visible()
        style = await page.locator("link[rel=stylesheet]").first.get_attribute("href")
        of_another_version = re.sub("/[0-9a-f]{16}/", f"/{'0' * 16}/", str(style))
        answered = await page.evaluate("async (url) => (await fetch(url)).status", there + of_another_version)
        assert answered == 200, "a page of the new version has its looks from the old one"
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_text("chat is paused.")).to_have_count(0, timeout=SOON)
        await page.close()
    # What the proxy cut, the browser says.
    visits.faults[:] = [one for one in visits.faults if "ERR_CONNECTION_RESET" not in one]


async def test_a_hidden_page_has_no_stream_and_comes_back_with_the_right_numbers(visits: Visits, apart: World) -> None:
    page = await visits.open()
    asked: list[str] = []
    ended: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: ended.append(request.url))
    page.on("requestfinished", lambda request: ended.append(request.url))
    number = page.get_by_role("row", name=re.compile("^email-queue")).get_by_role("cell").nth(3)
    before = int(await number.inner_text())
    await page.evaluate(HIDE, True)
    await eventually(lambda: any("/events?" in url for url in ended), 20, "the stream is open")
    asked.clear()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await apart.send("delayed", "hidden@example.com", scheduledAt=tomorrow)
    await page.wait_for_timeout(11_000)  # longer than pages wait between two looks
    assert not asked
    await page.evaluate(HIDE, False)
    await expect(number).to_have_text(str(before + 1), timeout=SOON)
    await eventually(lambda: any("/events?" in url for url in asked), 20, "the stream is not back")


async def test_a_drain_is_seen_to_its_end(visits: Visits, apart: World) -> None:
    """Last but for the outage: what was held is answered."""
    page = await visits.open("/replicas")
    row = page.get_by_role("row").filter(has_text="email-queue 4/4").first
    name = await row.locator("th bdi").first.inner_text()
    await row.get_by_text("Drain…").click()
    await row.get_by_role("button", name="Drain", exact=True).click()
    await expect(page.get_by_text("The replica takes no further job.")).to_be_visible()
    row = page.get_by_role("row").filter(has_text=name)
    await expect(row.get_by_text("Draining")).to_be_visible(timeout=SOON)
    apart.post.answers.set()
    await expect(row.get_by_text("safe to stop")).to_be_visible(timeout=SOON)


async def test_with_postgresql_away_pages_say_so_and_come_back_by_themselves(
    visits: Visits, apart: World, ledger: tuple[Proxy, str]
) -> None:
    old, new = await visits.open(), await visits.open(QUEUE)
    rows = await old.get_by_role("row").count()
    proxy, _ = ledger
    await proxy.down()
    try:
        await old.keyboard.press("r")
        await expect(old.get_by_role("alert").first).to_contain_text("What you see is from", timeout=SOON)
        assert await old.get_by_role("row").count() == rows, "what was known stays readable"
        began = time.perf_counter()
        await new.goto(apart.url + QUEUE, wait_until="commit")
        await expect(new.get_by_role("heading", name="This page cannot be loaded now")).to_be_visible()
        assert time.perf_counter() - began < 2, "it is refused at once, and said at once"
        await expect(new.get_by_role("alert").filter(has_text="PostgreSQL")).to_be_visible()
    finally:
        await proxy.up()
    await expect(old.get_by_role("alert").filter(has_text="What you see is from")).to_have_count(0, timeout=60_000)
    await expect(new.get_by_role("heading", name="email-queue")).to_be_visible(timeout=60_000)
    visits.faults[:] = [one for one in visits.faults if not re.match("503 |console: .*503", one)]
