"""The pages over time and in numbers: Redis away, the network away, many tabs, every page in every width and theme."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from playwright.async_api import Page, expect

from tests.browser.accessibility import PAGES, findings, page_path
from tests.browser.visits import Visits
from tests.browser.world import World
from tests.support.eventually import eventually
from tests.support.modes import LONG

pytestmark = [LONG, pytest.mark.asyncio(loop_scope="session")]
QUEUE = "/queue/email-queue"
TABS = 8  # browsers open six connections to a host


async def test_with_redis_killed_pages_come_from_the_ledger_within_a_second_and_say_so(
    visits: Visits, shown: World
) -> None:
    page = await visits.open(timezone_id="Asia/Tokyo", locale="en-GB")
    mode = page.get_by_role("banner")
    await expect(mode).to_contain_text("redis mode")
    shown.valkey.kill()
    try:
        await expect(page.get_by_role("main").get_by_text("Redis does not answer since")).to_be_visible(timeout=15_000)
        await expect(mode).to_contain_text("direct mode")
        other = await visits.open()
        for path in ("", QUEUE, f"{QUEUE}/{shown.jobs['retried'][0]}", "/jobs?q=Greylisted", "/replicas"):
            began = time.perf_counter()
            await other.goto(shown.url + path, wait_until="commit")
            await expect(other.get_by_role("main")).to_contain_text("Jobs are accepted, run and shown from PostgreSQL")
            assert time.perf_counter() - began < 1, path
        await expect(other.get_by_role("main").locator("time.clock")).not_to_have_count(0)
        await other.goto(f"{shown.url}{QUEUE}/{shown.jobs['failed'][-2]}")
        await other.get_by_role("button", name="Retry", exact=True).click()
        await expect(other.get_by_text("The job waits again.")).to_be_visible()
    finally:
        shown.valkey.start()
    await expect(page.get_by_role("main").get_by_text("Redis does not answer since")).to_have_count(0, timeout=15_000)
    await expect(mode).to_contain_text("redis mode")


async def test_with_the_network_away_the_page_says_from_when_it_is(visits: Visits) -> None:
    page = await visits.open()
    await page.context.set_offline(True)
    await page.keyboard.press("r")
    stale = page.get_by_role("alert")
    await expect(stale).to_contain_text("The gateway does not answer. What you see is from")
    await page.context.set_offline(False)
    await page.keyboard.press("r")
    await expect(stale).to_be_hidden()
    visits.faults[:] = [fault for fault in visits.faults if "ERR_INTERNET_DISCONNECTED" not in fault]


async def test_eight_tabs_of_one_browser_all_answer_and_all_go_on(visits: Visits, shown: World) -> None:
    context = await visits.session()
    pages = [await visits.another(context) for _ in range(TABS)]
    streams = "Object.keys(localStorage).filter(key => key.startsWith('gateway_stream_')).length"
    assert await pages[0].evaluate(streams) == 3
    await expect(pages[-1].get_by_role("contentinfo")).to_contain_text("updating every 10 s")
    numbers = [page.get_by_role("row", name=re.compile("^email-queue")).get_by_role("cell").nth(1) for page in pages]
    before = int(await numbers[0].inner_text())
    await shown.send("waiting", "tabs@slow.example")
    for number in numbers:
        await expect(number).to_have_text(str(before + 1), timeout=15_000)
    with_stream = [page for page in pages if not await polls(page)]
    assert len(with_stream) == 3
    await with_stream[0].close()
    others = [page for page in pages if page not in with_stream]

    async def took_over() -> bool:
        return [await polls(page) for page in others].count(False) == 1

    await eventually(took_over, 45, "no other tab took the stream over")


async def polls(page: Page) -> bool:
    return "updating every 10 s" in await page.get_by_role("contentinfo").inner_text()


async def test_what_one_tab_does_the_other_shows_and_hears(visits: Visits, shown: World) -> None:
    context = await visits.session()
    acting, looking = await visits.another(context, "/queue/chat"), await visits.another(context)
    await acting.get_by_text("Pause…").click()
    await acting.get_by_role("button", name="Pause", exact=True).click()
    await expect(looking.get_by_role("main").get_by_text("chat is paused.")).to_be_visible(timeout=15_000)
    assert "chat is paused." in await looking.locator("#spoken").inner_text(), "told to who cannot see it"
    await acting.get_by_role("button", name="Resume").click()
    await expect(looking.get_by_role("main").get_by_text("chat is paused.")).to_have_count(0, timeout=15_000)


async def test_paused_updates_ask_for_nothing(visits: Visits, shown: World) -> None:
    page = await visits.open()
    await page.get_by_role("button", name="Live updates").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await shown.admin("POST", f"/jobs/{await shown.send('gone', 'gone@slow.example')}/cancel", {})
    await page.wait_for_timeout(11_000)
    assert not asked
    await page.get_by_role("button", name="Live updates").click()
    await eventually(lambda: len(asked) >= 2, 5)


async def test_new_jobs_are_told_above_the_list_and_rows_stay(visits: Visits, shown: World) -> None:
    page = await visits.open(f"{QUEUE}?status=waiting")
    rows = page.get_by_role("table").get_by_role("row")
    before = await rows.count()
    place = await rows.nth(1).bounding_box()
    await shown.send("waiting", "new@slow.example")
    news = page.get_by_role("link", name="1 other job · Show")
    await expect(news).to_be_visible(timeout=15_000)
    assert await rows.count() == before
    assert await rows.nth(1).bounding_box() == place
    await news.click()
    await expect(rows).to_have_count(before + 1)


async def test_a_hostile_mail_is_shown_and_reaches_nobody(visits: Visits, shown: World) -> None:
    reached: list[str] = []

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("somebody connected")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        evil = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        html = f"""<link rel="preconnect" href="{evil}"><link rel="stylesheet" href="{evil}/a.css">
            <meta http-equiv="refresh" content="0; url={evil}">
            <style>p {{ color: rgb(1, 2, 3); background: url({evil}) }}</style>
            <script>top.document.title = "pwned"</script><body onload="top.document.title = 'pwned'"><p>Dear Ada</p>
            <img src="{evil}/x.png" onerror="top.document.title = 'pwned'">
            <iframe srcdoc="<link rel=preconnect href={evil}>"></iframe><a href="{evil}" target="_top">away</a>"""
        await shown.send("hostile mail", "ada@example.com", html=html, subject="A hostile mail")
        page = await visits.open("/emails?q=hostile+mail")
        title = page.get_by_role("link").filter(has=page.locator("code")).first
        await title.click()
        await expect(page.get_by_role("heading", name="A hostile mail")).to_be_visible()
        inside = page.frame_locator("iframe.preview")
        await expect(inside.get_by_text("Dear Ada")).to_have_css("color", "rgb(1, 2, 3)")
        address = page.url
        await inside.get_by_text("away").click()
        await page.reload()
        await expect(inside.get_by_text("Dear Ada")).to_be_visible()
        assert (page.url, "pwned" in await page.title()) == (address, False)
    assert not reached
    # What the browser says of each thing that it forbade.
    visits.faults[:] = [one for one in visits.faults if evil not in one and "sandboxed" not in one]


async def test_a_page_does_not_move_when_its_script_has_come(visits: Visits, shown: World) -> None:
    """Scripts show what only they can do: where that stands the rest has left room."""
    job = f"{QUEUE}/{shown.jobs['failed'][0]}"
    for path, sign, width in (
        (job, ".crumbs", 360),
        (f"{QUEUE}?status=failed", "thead", 1280),
        ("/login", ".top", 360),
    ):
        heights = []
        for held in (True, False):
            context = await visits.session(viewport={"width": width, "height": 740})
            if held:
                await context.route("**/app.js", lambda route: route.fulfill(content_type="text/javascript", body=""))
            page = await visits.another(context, path)
            heights.append(await page.locator(sign).first.evaluate("(one) => one.getBoundingClientRect().height"))
        assert heights[0] == heights[1], path


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_no_page_has_accessibility_findings(visits: Visits, shown: World, theme: str) -> None:
    context = await visits.session(color_scheme=theme)
    page = await visits.another(context)
    found = []
    for name in PAGES:
        await page.goto(shown.url + page_path(name, shown))
        found += [f"{name}: {one}" for one in await findings(page)]
    for details in await page.locator("details").all():
        await details.locator("summary").click()
    entry = await visits.open("/login", role=None, color_scheme=theme)
    found += [f"login: {one}" for one in await findings(entry)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("width", [360, 390, 768, 1024, 1200, 1271, 1280, 1920])
async def test_no_page_scrolls_sideways(visits: Visits, shown: World, width: int) -> None:
    page = await visits.open(viewport={"width": width, "height": 800})
    for name in PAGES:
        await page.goto(shown.url + page_path(name, shown))
        found = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert found[0] <= found[1], name
        assert not await clipped(page), name


async def clipped(page: Page) -> list[str]:
    """Tables whose right part is hidden behind a scroll."""
    found: list[str] = await page.evaluate(
        "[...document.querySelectorAll('.wide:has(.cards)')].filter(e => e.scrollWidth > e.clientWidth + 1)"
        ".map(e => e.querySelector('caption').textContent + ' ' + e.scrollWidth + '>' + e.clientWidth)"
    )
    return found
