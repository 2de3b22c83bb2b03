"""Failures grouped by error, on a page of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from gateway.access import Role
from gateway.web.dashboard.store import FAILURES_READ
from tests.support.pages import PAGES, Dashboard, dashboard

QUEUE = f"{PAGES}/queue/email-queue"


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Dashboard]:
    async with dashboard(database_url) as made:
        made.sign_in()
        yield made


async def failed(board: Dashboard, error: str, number: int = 1, *, hours_ago: float = 0.0) -> None:
    """Jobs as one statement, so that many of them take no time."""
    await board.pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, attempts, max_attempts, error, finished_at) "
        "SELECT gen_random_uuid(), 'email-queue', 'email.send', 'failed', '{}', 3, 3, replace($1, '%', n::text), "
        "now() - $3 * interval '1 hour' - n * interval '1 millisecond' FROM generate_series(1, $2::integer) n",
        error,
        number,
        float(hours_ago),
    )


async def test_failures_are_one_line_for_each_reason_and_are_retried_by_it(board: Dashboard) -> None:
    await failed(board, "SMTP 550 mailbox u%@x.example unavailable\nLine two", 4)
    await failed(board, "TimeoutError after 60%.5 s", 2)
    await failed(board, "SMTP 550 mailbox u%@x.example is full")
    await failed(board, "SMTP 550 mailbox u%@x.example unavailable at present")
    await failed(board, "RCPT: SMTP 550 mailbox u%@x.example unavailable")
    page = await board.page("/failures")
    page.sound()
    assert "SMTP 550 mailbox <address> unavailable" in page.text
    query = f"status=failed&q={quote('error:' + chr(34) + '^SMTP 550 mailbox * unavailable$' + chr(34), safe='')}"
    assert f"{QUEUE}?{query}" in page.links()
    assert f"{QUEUE}/bulk?action=retry&{query}" in page.links()
    assert sum(link.startswith(f"{QUEUE}/") and "bulk" not in link for link in page.links()) == 3 + 2 + 1 + 1 + 1
    question = await board.page(f"/queue/email-queue/bulk?action=retry&{query}")
    assert "4 jobs" in question.text
    board.sign_in(Role.VIEWER)
    assert not [link for link in (await board.page("/failures")).links() if "bulk" in link]


async def test_the_page_says_how_far_it_looked(board: Dashboard) -> None:
    await failed(board, "boom u%@x.example", FAILURES_READ + 5)
    await failed(board, "long ago", hours_ago=30)
    answer = await board.http.get(f"{PAGES}/failures", headers={"Accept": "application/json"})
    told = answer.json()["data"]
    assert (told["read"], told["cut"], [group["count"] for group in told["groups"]]) == (
        FAILURES_READ,
        ["email-queue"],
        [FAILURES_READ],
    )
    assert "email-queue has more in this time" in (await board.page("/failures")).text
    await board.pool.execute("DELETE FROM jobs WHERE error LIKE 'boom%'")
    assert "No job failed in this time" in (await board.page("/failures?range=24h&queue=email")).text
    page = await board.page("/failures?range=7d&queue=email")
    assert "long ago" in page.text
    assert "more in this time" not in page.text
    assert "No job failed" in (await board.page("/failures?range=7d&queue=orchestration")).text
    await board.page("/failures?range=2w", 400)
    await board.page("/failures?queue=nothing", 404)
