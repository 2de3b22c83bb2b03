"""A job that runs, and failures by reason, in a real browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from tests.browser.accessibility import findings
from tests.browser.visits import Visits
from tests.browser.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")
QUEUE = "/queue/email-queue"
LIVE_MS = 15_000  # a page without a stream looks each ten seconds


async def test_a_job_that_takes_long_says_where_it_stands(visits: Visits, shown: World) -> None:
    job = shown.jobs["active"][0]
    page = await visits.open(f"{QUEUE}/{job}")
    await expect(page.get_by_text("connects, and names 1 recipient")).to_be_visible(timeout=LIVE_MS)
    log = page.get_by_role("list", name="Log")
    await expect(log.get_by_role("listitem").last).to_contain_text("the server takes the message")
    await page.evaluate("look()")
    await expect(page.get_by_role("button", name="Copy the request's id")).to_be_visible()
    assert not await findings(page)


async def test_failures_of_one_reason_are_one_row_that_leads_to_its_jobs(visits: Visits, shown: World) -> None:
    page = await visits.open("/failures")
    row = page.get_by_role("row").filter(has_text="Mailbox is full")
    await expect(row.get_by_role("cell").first).to_have_text(re.compile(r"^\d+$"))
    assert not await findings(page)
    await row.get_by_role("link", name="Retry…").click()
    await expect(page.get_by_role("main")).to_contain_text(re.compile(r"\d+ jobs? match[\s\S]*550 \* Mailbox is full"))


async def test_what_can_be_done_follows_what_happens_while_the_page_is_open(visits: Visits, shown: World) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    job = await shown.send("delayed", "follow@tomorrow.example", scheduledAt=tomorrow)
    page = await visits.open(f"{QUEUE}/{job}")
    queue = await visits.open("/queue/chat")
    await expect(page.get_by_text("Cancel…")).to_be_visible()
    await expect(queue.get_by_role("button", name="Resume")).to_be_hidden()
    await shown.admin("POST", f"/jobs/{job}/cancel", {"reason": "by somebody else"})
    await shown.admin("POST", "/queues/chat/pause", {"reason": "by somebody else"})
    try:
        await expect(page.get_by_text("Cancel…")).to_be_hidden(timeout=LIVE_MS)
        await expect(page.get_by_text("Delete…")).to_be_visible()
        await queue.evaluate("look()")
        await expect(queue.get_by_role("button", name="Resume")).to_be_visible(timeout=LIVE_MS)
    finally:
        await shown.admin("POST", "/queues/chat/resume")
    await queue.evaluate("look()")
    await expect(queue.get_by_role("button", name="Resume")).to_be_hidden(timeout=LIVE_MS)
