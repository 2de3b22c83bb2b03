"""Rows that were ticked, lists as files, and old jobs cleaned up: what the page of a queue does to many jobs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from gateway.access import Role
from gateway.infra.log import MASK
from gateway.web.dashboard.export import ROWS_MAX
from tests.support.eventually import eventually
from tests.support.pages import ORIGIN, PAGES, Dashboard, Document, dashboard, token_for

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
    return await board.http.post(f"{PAGES}{QUEUE}/ticked", content=body, headers=headers, follow_redirects=True)


async def test_rows_that_were_ticked_are_counted_and_then_retried(board: Dashboard) -> None:
    ids = [await board.submit() for _ in range(60)]
    for each in ids[:3]:
        await board.fail(each)
    page = await board.page(QUEUE)
    boxes = [box for box in page.all("input") if box.get("name") == "id"]
    assert (len(boxes), {box.get("form") for box in boxes}) == (50, {"ticked"})
    page.sound()
    asked = await tick(board, "retry", ids[1:54])  # more fields than other forms have
    assert (asked.status_code, asked.request.method) == (200, "GET"), "a page to come back to"
    assert "2 of 53 ticked jobs: the state of the others forbids it" in Document.of(asked.text).text
    many = await tick(board, "retry", [*ids, *(str(uuid4()) for _ in range(41))])
    assert (many.status_code, many.request.method) == (200, "POST"), "too many for an address"
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
    "ids",
    [[], ["x"], ["a,b"], ["x" * 100_000], [str(uuid4()) for _ in range(201)]],
    ids=["none", "no id", "two", "long", "201"],
)
async def test_what_was_ticked_has_to_be_jobs(board: Dashboard, ids: list[str]) -> None:
    answer = await tick(board, "retry", ids)
    assert (answer.status_code, "That cannot be asked" in answer.text) == (400, True)
    assert all(len(earlier.headers["location"]) <= 4_000 for earlier in answer.history)


async def test_who_may_tick(board: Dashboard) -> None:
    job = await board.submit()
    board.sign_in(Role.OPERATOR)
    assert (await tick(board, "delete", [job])).status_code == 403
    assert (await tick(board, "cancel", [job])).status_code == 200
    board.sign_in(Role.VIEWER)
    assert (await tick(board, "cancel", [job])).status_code == 403
    assert not [box for box in (await board.page(QUEUE)).all("input") if box.get("type") == "checkbox"]


async def test_a_list_is_a_file_that_no_spreadsheet_takes_for_formulas(board: Dashboard) -> None:
    job = await board.submit(
        {"n": '=HYPERLINK("http://x")', "password": "hunter2", "url": "https://ada:hunter2@x/", "message": "dear ada"},
        dedupe_key="=1+1",
        tags=("@sum", "b"),
        group="+1",
    )
    await board.fail(job, '-boom,\n"quoted" \u202e')
    await board.submit()
    page = await board.page(f"{QUEUE}?status=failed")
    assert [form for form in page.all("form") if form.get("action") == f"{PAGES}{QUEUE}/export"]
    link = f"{PAGES}{QUEUE}/export?status=failed"
    answer = await board.http.get(link)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="email-queue-failed-')
    [row] = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert (row["id"], row["key"], row["tags"], row["group"]) == (job, "'=1+1", "'@sum b", "'+1")
    assert row["error"] == '\'-boom,\n"quoted" \\u202e'
    shown = {"password": MASK, "url": f"https://ada:{MASK}@x/", "message": "dear ada"}
    assert json.loads(row["argument"]) == {"n": '=HYPERLINK("http://x")', **shown}
    board.sign_in(Role.VIEWER)
    assert "dear ada" not in (await board.http.get(link)).text
    assert (await board.http.get(f"{PAGES}{QUEUE}/export?q=queue:other")).status_code == 400


async def test_a_file_ends_and_says_so(board: Dashboard) -> None:
    await board.pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts, finished_at) "
        "SELECT gen_random_uuid(), 'email-queue', 'email.send', 'failed', '{}'::jsonb, 3, now() "
        "FROM generate_series(1, $1)",
        ROWS_MAX + 1,
    )
    lines = (await board.http.get(f"{PAGES}{QUEUE}/export?status=failed")).text.splitlines()
    assert len(lines) == 1 + ROWS_MAX + 1
    assert lines[-1] == "(there are more jobs: this file ends here)"


async def test_old_jobs_are_counted_and_then_deleted(board: Dashboard) -> None:
    for hours in (1, 30, 50):
        job = await board.submit()
        await board.fail(job)
        await board.pool.execute(
            "UPDATE jobs SET finished_at = now() - make_interval(hours => $2) WHERE id = $1::uuid", job, hours
        )
    page = await board.page(f"{QUEUE}/clean?state=failed&hours=24")
    page.sound()
    assert "2 failed jobs ended more than 1 d ago" in page.text
    assert "No job ended so long ago" in (await board.page(f"{QUEUE}/clean?state=completed&hours=24")).text
    fields = {"state": "failed", "hours": "24", "count": "2"}
    for _ in range(2):  # a double click
        answer = await board.press(f"{QUEUE}/clean", **fields)
        assert answer.headers["location"] == f"{PAGES}{QUEUE}?done=clean"
    assert await board.pool.fetchval("SELECT count(*) FROM jobs") == 1
    assert [action for _, action, _ in await board.audited()] == ["queue.clean"] * 2
    for wrong in ({"hours": "24"}, {"count": "2"}, {"hours": "0", "count": "2"}, fields | {"count": "101"}):
        assert (await board.press(f"{QUEUE}/clean", **wrong)).status_code == 400
    assert (await board.http.get(f"{PAGES}{QUEUE}/clean?state=waiting&hours=1")).status_code == 400
    board.sign_in(Role.OPERATOR)
    assert (await board.http.get(f"{PAGES}{QUEUE}/clean?hours=24")).status_code == 403
    assert (await board.press(f"{QUEUE}/clean", **fields)).status_code == 403


async def test_what_an_operation_looked_for_is_hidden_from_who_may_not_read_it(board: Dashboard) -> None:
    await board.fail(await board.submit({"message": "dear ada"}))
    board.sign_in(Role.OPERATOR)
    started = await board.press(f"{QUEUE}/bulk", action="retry", q="args.message:dear ada", count="1")
    path = started.headers["location"].removeprefix(PAGES)
    assert "dear ada" in (await board.page(path)).text
    board.sign_in(Role.VIEWER)
    assert MASK in (await board.page(path)).text
    caller = {"Authorization": f"Bearer {token_for(board.settings, Role.VIEWER)}"}
    for address in (f"{PAGES}{path}", f"{PAGES}/operations", f"/api/v1/admin{path}", "/api/v1/admin/operations"):
        answer = await board.http.get(address, headers=caller | {"Accept": "application/json"})
        assert (answer.status_code, "dear ada" in answer.text, MASK in answer.text) == (200, False, True), address
