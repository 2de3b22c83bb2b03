"""What people do with runs and with what agents ask for, on pages: decided once, who and when, and in the audit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from gateway.access import Role
from gateway.infra.uuid7 import uuid7
from gateway.masking import CONTENT_MASK
from gateway.services.orchestration.outcomes import Outcomes
from gateway.services.orchestration.telling import RunTeller
from tests.support.eventually import eventually
from tests.support.pages import PAGES, Dashboard, dashboard, token_for
from tests.support.run_rows import FakeAgent, RunRow, asks, project_row, run_row
from tests.support.web import ADMIN

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAIL = {"to": ["ada@example.com"], "subject": "</code><script>x</script>", "text": "pay \u202e100"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(shared_database_url: str) -> AsyncIterator[Dashboard]:
    async with dashboard(shared_database_url, openai_api_key="sk-nobody-is-asked") as made:
        yield made


@pytest.fixture
def board(gateway: Dashboard) -> Dashboard:
    gateway.sign_in(Role.OPERATOR)
    return gateway


async def asked_for(board: Dashboard, *actions: dict[str, Any]) -> tuple[RunRow, list[UUID]]:
    """A run that waits for people, as the runner leaves it."""
    run = await run_row(board.pool, await project_row(board.pool, repository=None))
    async with board.pool.acquire() as connection, connection.transaction():
        output = {"actions": list(actions)}
        await Outcomes(board.runtime.engine).record(connection, run, run.step_id, FakeAgent(), output)
    await board.pool.execute("UPDATE runs SET status = 'awaiting_approval' WHERE id = $1", run.id)
    rows = await board.pool.fetch("SELECT id FROM actions WHERE run_id = $1 ORDER BY id", run.id)
    return run, [row["id"] for row in rows]


async def status_of(board: Dashboard, action: UUID) -> str | None:
    found: str | None = await board.pool.fetchval("SELECT status FROM actions WHERE id = $1", action)
    return found


async def started(board: Dashboard) -> str:
    """A run that waits: no worker is here."""
    project = await project_row(board.pool, repository=None)
    body = {"projectId": str(project), "jobType": "single_agent", "agentSlug": "code-review"}
    answer = await board.http.post("/api/v1/orchestration/jobs", json=body, headers=ADMIN)
    run: str = answer.json()["data"]["jobId"]
    return run


async def test_the_inbox_shows_exactly_what_would_be_done(board: Dashboard) -> None:
    run, (action,) = await asked_for(board, asks("send_email", **MAIL))
    for path in ("/approvals", f"/approvals/{action}"):
        page = await board.page(path)
        page.sound()
        for words in ("ada@example.com", "</code><script>x</script>", "developer", "it is due", "high", "Expires"):
            assert words in page.text, (path, words)
        assert "\u202e" not in page.text
        assert f"{PAGES}/runs/{run.id}" in page.links()
        assert {f"{PAGES}/approvals/{action}/{verb}" for verb in ("approve", "reject")} <= set(page.actions())
    shown = await board.page(f"/runs/{run.id}")
    shown.sound()
    assert "Awaiting approval" in shown.text
    assert "1 action waits for a person." in shown.text
    assert f"{PAGES}/approvals/{action}" in shown.links()


async def test_who_decides_sees_all_of_it_however_long_it_is(board: Dashboard) -> None:
    long = {"to": ["ada@example.com"], "subject": "The subject", "text": "line\n" * 3990 + "The end"}
    _, (action,) = await asked_for(board, asks("send_email", **long))
    kept = await board.pool.fetchval("SELECT arguments FROM actions WHERE id = $1", action)
    for path in (f"/approvals/{action}", "/approvals"):
        page = await board.page(path)
        assert "The subject" in page.text
        assert kept["text"].endswith("The end")
        assert "The end" in page.text
    await board.press(f"/approvals/{action}/reject")


async def test_a_yes_has_it_done_and_stands_in_the_audit(board: Dashboard) -> None:
    _, (action,) = await asked_for(board, asks("send_email", **MAIL))
    answer = await board.press(f"/approvals/{action}/approve", comment="go on")
    assert answer.status_code == 303
    page = await board.page(answer.headers["location"].removeprefix(PAGES))
    page.sound()
    for words in ("Approved. A job does it now.", "the operator", "go on"):
        assert words in page.text
    assert page.actions() == []
    assert [one["data-topics"] for one in page.all("body")] != [""], "it is followed until it is done"
    assert ("the operator", "action.approve", str(action)) in await board.audited()
    job = await board.pool.fetchval("SELECT job_id FROM actions WHERE id = $1", action)
    assert f"{PAGES}/approvals/{action}" in (await board.page(f"/queue/orchestration-queue/{job}")).links()
    assert f"{PAGES}/approvals/{action}" in (await board.page("/approvals?show=decided")).links()


async def test_a_no_with_its_reason_ends_the_wait(board: Dashboard) -> None:
    run, (action,) = await asked_for(board, asks("send_email", **MAIL))
    await board.press(f"/approvals/{action}/reject", comment="not <b>before</b> the release")
    page = await board.page(f"/approvals/{action}")
    assert "not <b>before</b> the release" in page.text
    assert await status_of(board, action) == "rejected"
    assert await board.pool.fetchval("SELECT status FROM runs WHERE id = $1", run.id) == "completed"
    assert ("the operator", "action.reject", str(action)) in await board.audited()


async def test_who_comes_second_is_told_who_decided_and_when(board: Dashboard) -> None:
    _, (action,) = await asked_for(board, asks("send_email", **MAIL))
    verbs = ("approve", "approve", "reject", "approve", "reject")
    answers = await asyncio.gather(*(board.press(f"/approvals/{action}/{verb}") for verb in verbs))
    assert sorted(answer.status_code for answer in answers) == [303, 409, 409, 409, 409]
    again = await board.press(f"/approvals/{action}/approve")
    assert again.status_code == 409
    status = await status_of(board, action)
    assert f"The action is {status} already by the operator at 20" in again.text
    assert sum(subject == str(action) for _, _, subject in await board.audited()) == 1
    jobs = "SELECT count(*) FROM jobs WHERE args ->> 'actionId' = $1"
    assert await board.pool.fetchval(jobs, str(action)) == (status == "approved")


async def test_something_else_can_be_approved_instead(board: Dashboard) -> None:
    _, (action,) = await asked_for(board, asks("send_email", **MAIL))
    other = {"to": ["bob@example.com"], "subject": "Hello", "text": "Fine"}
    for wrong, status, words in (
        ("{", 400, "is not JSON"),
        ("[" * 5000, 400, "is not JSON"),
        ('{"to": []}', 422, "editedArguments"),
        ('{"to": ["bob"], "subject": "x", "text": "y"}', 422, "bare address"),
    ):
        answer = await board.press(f"/approvals/{action}/approve", arguments=wrong)
        assert (answer.status_code, words in answer.text) == (status, True), wrong[:40]
    assert (await board.press(f"/approvals/{action}/approve", comment="x" * 2001)).status_code == 400
    assert await status_of(board, action) == "pending"
    await board.press(f"/approvals/{action}/approve", arguments=json.dumps(other))
    page = await board.page(f"/approvals/{action}")
    assert "bob@example.com" in page.text
    assert "What the agent asked for" in page.text


async def test_what_nobody_changed_is_approved_as_it_was_asked_for(board: Dashboard) -> None:
    _, (action,) = await asked_for(board, asks("send_email", **MAIL))
    arguments = await board.pool.fetchval("SELECT arguments FROM actions WHERE id = $1", action)
    await board.press(f"/approvals/{action}/approve", arguments=json.dumps(arguments, indent=4))
    assert await board.pool.fetchval("SELECT proposed FROM actions WHERE id = $1", action) is None


async def test_viewers_may_look_at_the_inbox_and_decide_nothing(board: Dashboard) -> None:
    _, (action,) = await asked_for(board, asks("send_email", **MAIL))
    board.sign_in(Role.VIEWER)
    for path in ("/approvals", f"/approvals/{action}"):
        page = await board.page(path)
        page.sound()
        assert "ada@example.com" not in page.text
        assert CONTENT_MASK in page.text
        assert page.actions() == []
    answer = await board.http.get(f"{PAGES}/approvals/{action}", headers={"Accept": "application/json"})
    assert "ada@example.com" not in answer.text
    token = {"Authorization": f"Bearer {token_for(board.settings, Role.VIEWER)}"}
    for path in ("", f"/{action}"):
        answer = await board.http.get(f"/api/v1/orchestration/approvals{path}", headers=token)
        assert answer.status_code == 200
        assert "ada@example.com" not in answer.text
        assert '"contentHidden":true' in answer.text
    for verb in ("approve", "reject"):
        assert (await board.press(f"/approvals/{action}/{verb}")).status_code == 403
    assert await status_of(board, action) == "pending"


async def test_the_navigation_says_how_many_wait(board: Dashboard) -> None:
    await board.pool.execute("UPDATE actions SET status = 'rejected' WHERE status = 'pending'")
    await asked_for(board, asks("send_email", **MAIL), asks("send_email", **MAIL, rationale="again"))

    async def told() -> bool:
        return "Approvals 2" in (await board.page("/runs")).text

    await eventually(told, message="the navigation does not count")


async def test_the_inbox_goes_on_with_a_cursor(board: Dashboard) -> None:
    await board.pool.execute("UPDATE actions SET status = 'rejected' WHERE status = 'pending'")
    for _ in range(9):
        await asked_for(board, *(asks("send_email", **MAIL) for _ in range(3)))
    pending = {str(row["id"]) for row in await board.pool.fetch("SELECT id FROM actions WHERE status = 'pending'")}
    first = await board.page("/approvals")
    following = next(link for link in first.links() if "cursor=" in link)
    second = await board.page(following.removeprefix(PAGES))
    seen = [{link.rpartition("/")[2] for link in page.links() if "/approvals/" in link} for page in (first, second)]
    assert (len(seen[0]), len(seen[1]), seen[0] | seen[1]) == (25, 2, pending)


@pytest.mark.parametrize("path", ["42", str(uuid7())], ids=["no id", "an unknown one"])
async def test_an_action_that_is_not_there_is_a_page_too(board: Dashboard, path: str) -> None:
    (await board.page(f"/approvals/{path}", 404)).sound()
    assert (await board.press(f"/approvals/{path}/approve")).status_code == 404


async def test_a_run_is_cancelled_and_that_is_said(board: Dashboard) -> None:
    run = await started(board)
    page = await board.page(f"/runs/{run}")
    page.sound()
    assert f"{PAGES}/runs/{run}/cancel" in page.actions()
    assert f"{PAGES}/runs/{run}/retry" not in page.actions()
    answer = await board.press(f"/runs/{run}/cancel", reason="too dear")
    page = await board.page(answer.headers["location"].removeprefix(PAGES))
    for words in ("Cancelled.", "too dear"):
        assert words in page.text
    assert ("the operator", "run.cancel", run) in await board.audited()
    await board.pool.execute("UPDATE runs SET status = 'completed' WHERE id = $1::uuid", run)
    assert (await board.press(f"/runs/{run}/cancel")).status_code == 409


async def test_a_double_click_repeats_a_run_once(board: Dashboard) -> None:
    run = await started(board)
    await board.press(f"/runs/{run}/cancel")
    page = await board.page(f"/runs/{run}")
    key = next(field["value"] for field in page.all("input") if field.get("name") == "key")
    assert key is not None
    first, second = [await board.press(f"/runs/{run}/retry", key=key) for _ in range(2)]
    assert first.status_code == 303, first.text
    assert first.headers["location"] == second.headers["location"]
    new = first.headers["location"].removeprefix(f"{PAGES}/runs/").partition("?")[0]
    assert new != run
    repeated = await board.page(f"/runs/{new}")
    assert f"{PAGES}/runs/{run}" in repeated.links()
    assert f"{PAGES}/runs/{new}" in (await board.page(f"/runs/{run}")).links()
    assert sum(entry == ("the operator", "run.retry", run) for entry in await board.audited()) == 1


@asynccontextmanager
async def stream(board: Dashboard, topics: str) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
    """Called as a server calls it: the test's client would wait for the end of the answer."""
    app = board.http._transport.app  # type: ignore[attr-defined]
    cookie = "; ".join(f"{name}={value}" for name, value in board.http.cookies.items())
    path = f"{PAGES}/events"
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path}
    scope |= {"raw_path": path.encode(), "root_path": "", "query_string": f"topics={topics}".encode()}
    scope |= {"headers": [(b"host", b"localhost"), (b"cookie", cookie.encode())]}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    serving = asyncio.create_task(app(scope, receive, sent.put))
    try:
        async with asyncio.timeout(10):
            yield sent
    finally:
        gone.set()
        await serving


async def test_a_page_that_is_opened_late_hears_the_words_from_their_beginning(board: Dashboard) -> None:
    run = await started(board)
    page = await board.page(f"/runs/{run}")
    assert page.all("body")[0]["data-topics"] == f"run:{run}"
    project = await board.pool.fetchval("SELECT project_id FROM runs WHERE id = $1::uuid", run)
    teller = RunTeller(board.runtime.platform.publisher, UUID(run), project)
    step = uuid7()
    teller.tokens(step, "before ")
    await board.runtime.platform.publisher.written()
    async with stream(board, f"run:{run}") as sent:
        assert (await sent.get())["status"] == 200
        text = b""
        while b"before " not in text:
            text += (await sent.get()).get("body", b"")
        teller.tokens(step, "now")
        while b'"now"' not in text:
            text += (await sent.get()).get("body", b"")
    assert text.index(b"before ") < text.index(b'"now"')
    board.sign_in(Role.VIEWER)
    page = await board.page(f"/runs/{run}")
    assert page.all("body")[0]["data-topics"] == f"project:{project}"
