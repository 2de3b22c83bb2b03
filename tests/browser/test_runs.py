"""The words of a run's models, as a browser shows them while they come."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.visits import Visits
from tests.support.people import data

pytestmark = pytest.mark.asyncio(loop_scope="session")
STEP = "0198c1d2-0000-7000-8000-000000000001"
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"> \u202egpj"


async def waiting_run(visits: Visits) -> str:
    """Nothing is told of it but what the test tells."""
    user = visits.world.process.user
    project = data(await user.post("/api/v1/projects", json={"name": "Words"}), 201)["id"]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"projectId": project, "jobType": "batch", "scheduledAt": tomorrow}
    run: str = data(await user.post("/api/v1/orchestration/jobs", json=body), 202)["jobId"]
    return run


async def tell(page: Page, kind: str, **fields: Any) -> None:
    """As the stream does."""
    message = json.dumps({"type": kind, "stepId": STEP, **fields})
    await page.evaluate("(text) => document.dispatchEvent(new CustomEvent('told', {detail: text}))", message)


async def test_words_appear_as_text_while_they_come_and_make_way_for_the_output(visits: Visits) -> None:
    page = await visits.open(f"/runs/{await waiting_run(visits)}")
    place = page.get_by_label("Words of the models, as they come")
    await expect(place).to_be_hidden()
    await tell(page, "run:step", status="running", agentSlug="critic")
    await tell(page, "run:token", text="Once ")
    await tell(page, "run:token", text=HOSTILE)
    await expect(place.get_by_role("heading")).to_have_text("critic, as it comes")
    await expect(place.locator("pre")).to_have_text("Once " + HOSTILE.replace("\u202e", "\\u202e"))
    assert await place.locator("img").count() == 0
    await tell(page, "run:token", text="x" * 30_000)
    assert len(await place.locator("pre").inner_text()) == 20_000
    await page.evaluate("document.dispatchEvent(new Event('listening'))")
    await expect(place).to_be_hidden()
    await tell(page, "run:token", text="Again")
    await expect(place.locator("pre")).to_have_text("Again")
    await tell(page, "run:step", status="completed")
    await expect(place).to_be_hidden()
