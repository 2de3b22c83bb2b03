"""Rows that were ticked, lists as files, and old jobs cleaned up: what the page of a queue does to many jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from gateway.access import Role
from tests.support.eventually import eventually
from tests.support.pages import ORIGIN, PAGES, Dashboard, dashboard

QUEUE = "/queue/email-queue"


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Dashboard]:
    async with dashboard(database_url) as made:
        made.sign_in()
        yield made


async def tick(board: Dashboard, action: str, ids: list[str]) -> httpx.Response:
    """Press a button under the boxes, as a browser without scripts does."""
    body = urlencode([("action", action), *(("id", each) for each in ids)])
    headers = ORIGIN | {"Content-Type": "application/x-www-form-urlencoded"}
    return await board.http.post(f"{PAGES}{QUEUE}/ticked", content=body, headers=headers)


async def test_rows_that_were_ticked_are_counted_and_then_retried(board: Dashboard) -> None:
    ids = [await board.submit() for _ in range(60)]
    for each in ids[:3]:
        await board.fail(each)
    page = await board.page(QUEUE)
    boxes = [box for box in page.all("input") if box.get("name") == "id"]
    assert (len(boxes), {box.get("form") for box in boxes}) == (50, {"ticked"})
    page.sound()
    asked = await tick(board, "retry", ids[1:54])  # more fields than other forms have
    assert (asked.status_code, "2 of 53 ticked jobs: the state of the others forbids it" in asked.text) == (200, False)
    assert not await board.audited()
    named = ",".join(ids[1:4])
    for _ in range(2):  # a double click
        started = await board.press(f"{QUEUE}/bulk", action="retry", ids=named, count="2")
        assert started.status_code == 303, started.text
        path = started.headers["location"].removeprefix(PAGES)

        async def done(path: str = path) -> bool:
            return "completed" in (await board.page(path)).text

        await eventually(done)
    assert [await board.state_of(each) for each in ids[:4]] == ["failed", "waiting", "waiting", "waiting"]
    assert [action for _, action, _ in await board.audited()] == ["queue.bulk"] * 2


@pytest.mark.parametrize(
    "ids", [[], ["x"], ["a,b"], [str(uuid4()) for _ in range(201)]], ids=["none", "no id", "two", "201"]
)
async def test_what_was_ticked_has_to_be_jobs(board: Dashboard, ids: list[str]) -> None:
    answer = await tick(board, "retry", ids)
    assert (answer.status_code, "That cannot be asked" in answer.text) == (400, True)


async def test_who_may_tick(board: Dashboard) -> None:
    job = await board.submit()
    board.sign_in(Role.OPERATOR)
    assert (await tick(board, "delete", [job])).status_code == 403
    assert (await tick(board, "cancel", [job])).status_code == 200
    board.sign_in(Role.VIEWER)
    assert (await tick(board, "cancel", [job])).status_code == 403
    assert not [box for box in (await board.page(QUEUE)).all("input") if box.get("type") == "checkbox"]
