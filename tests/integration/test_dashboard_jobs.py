"""Queues and jobs on pages: what is shown, what may be done, by whom, and that hostile data stays text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from gateway.access import Role
from gateway.infra.log import MASK
from gateway.jobs.registry import Task, TaskContext
from tests.support.eventually import eventually
from tests.support.pages import PAGES, Dashboard, dashboard, statements, token_for

pytestmark = pytest.mark.asyncio(loop_scope="module")
QUEUE = "/queue/email-queue"
HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "attribute": "\" onmouseover='alert(1)' x=\"",
    "turned": "abc\u202etxt.exe",
    "template": "{{ 9241 * 7 }} {% raw %}",
    "<b>key</b>": ["</pre><form action=/x method=post>", {"deep": "\u2028"}],
}


@pytest_asyncio.fixture(loop_scope="module")
async def board(database_url: str) -> AsyncIterator[Dashboard]:
    async with dashboard(database_url) as made:
        made.sign_in()
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(shared_database_url: str) -> AsyncIterator[Dashboard]:
    async with dashboard(shared_database_url) as made:
        yield made


@pytest.fixture
def shared(gateway: Dashboard) -> Dashboard:
    """For tests that look at jobs of their own, and count none."""
    gateway.http.cookies.clear()
    gateway.sign_in()
    return gateway


async def test_a_queue_has_a_tab_for_each_state_and_lists_what_is_in_it(board: Dashboard) -> None:
    failed, waiting = await board.submit(), await board.submit()
    await board.fail(failed)
    page = await board.page(f"{QUEUE}?status=failed")
    page.sound()
    for words in ("All 2", "Waiting 1", "Failed 1", "Cancelled 0", "SMTP 550 no such user", "email.send"):
        assert words in page.text
    assert f"{PAGES}{QUEUE}/{failed}" in page.links()
    assert f"{PAGES}{QUEUE}/{waiting}" not in page.links()
    assert f"{PAGES}{QUEUE}/{waiting}" in (await board.page("/queue/email")).links()


async def test_lists_go_on_with_a_cursor_and_keep_their_filter(board: Dashboard) -> None:
    ids = [await board.submit() for _ in range(51)]
    first = await board.page(f"{QUEUE}?status=waiting")
    older = next(link for link in first.links() if "cursor=" in link)
    assert "status=waiting" in older
    second = await board.page(older.removeprefix(PAGES))
    assert f"{PAGES}{QUEUE}/{ids[0]}" in second.links()
    assert sum(f"{PAGES}{QUEUE}/" in link for link in second.links()) == 1


@pytest.mark.parametrize("status", ["latest", "paused", "prioritized", "waiting-children", "active", "completed"])
async def test_links_of_bull_board_lead_to_pages(shared: Dashboard, status: str) -> None:
    job = await shared.submit()
    await shared.page(f"{QUEUE}?status={status}&page=2")
    await shared.page(f"{QUEUE}/{job}?status={status}")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("error:no", 1),
        ('error:"no such user"', 1),
        ("args.n:7", 1),
        ("nothing like it", 0),
        ("args.n:8 error:no", 0),
    ],
)
async def test_the_box_finds_jobs(board: Dashboard, query: str, found: int) -> None:
    await board.fail(await board.submit({"n": "7"}))
    await board.fail(await board.submit({"n": "9"}), "other")
    page = await board.page(f"{QUEUE}?status=failed&q={quote(query)}")
    page.sound()
    assert sum(f"{PAGES}{QUEUE}/" in link for link in page.links()) == found


async def test_what_cannot_be_understood_is_said_beside_the_box(shared: Dashboard) -> None:
    for query in ("to:nobody", "from:yesterday", "id:xyz", "args.password:x", "queue:other", "x" * 501):
        page = await shared.page(f"{QUEUE}?q={quote(query)}")
        assert [p for p in page.all("p") if p.get("role") == "alert"], query
    assert 'status "fialed" is not a state' in (await shared.page(f"{QUEUE}?status=fialed", 400)).text


NO_JOB = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("path", ["/queue/nothing", f"{QUEUE}/42", f"{QUEUE}/{NO_JOB}", "/operations/x"])
async def test_what_is_not_there_is_a_page_too(shared: Dashboard, path: str) -> None:
    page = await shared.page(path, 404)
    page.sound()
    assert "Not found" in page.text


async def test_a_job_of_another_queue_is_found_where_it_is(shared: Dashboard) -> None:
    job = await shared.submit()
    answer = await shared.http.get(f"{PAGES}/queue/orchestration-queue/{job}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PAGES}{QUEUE}/{job}")


async def test_a_job_shows_its_way_its_errors_and_its_argument_masked(shared: Dashboard) -> None:
    args = {"emailId": "m1", "password": "hunter2", "nested": [{"apiKey": "k"}], "message": "dear ada"}
    job = await shared.submit(args, tags=("kind:receipt",), group="acme", dedupe_key="receipt:54")
    errors = [{"attempt": 1, "kind": "error", "error": "boom", "at": "2026-01-01T00:00:00Z", "worker": "w-1"}]
    await shared.fail(job)
    await shared.pool.execute("UPDATE jobs SET errors = $2 WHERE id = $1::uuid", job, errors)
    page = await shared.page(f"{QUEUE}/{job}")
    page.sound()
    for words in ("accepted", "attempt 1 failed", "boom", "w-1", "receipt:54", "acme", "kind:receipt", MASK):
        assert words in page.text
    assert "dear ada" in page.text
    assert "hunter2" not in page.text
    shared.sign_in(Role.VIEWER)
    page = await shared.page(f"{QUEUE}/{job}")
    assert "dear ada" not in page.text
    assert not page.actions()
    assert (
        "hunter2" not in (await shared.http.get(f"{PAGES}{QUEUE}/{job}", headers={"Accept": "application/json"})).text
    )


async def test_the_json_api_hides_from_viewers_what_the_page_hides(shared: Dashboard) -> None:
    job = await shared.submit({"password": "hunter2", "message": "dear ada", "n": "7"})
    await shared.pool.execute("UPDATE jobs SET result = $2 WHERE id = $1::uuid", job, {"output": "said", "n": 1})
    shared.http.cookies.clear()
    for role, hidden in ((Role.VIEWER, True), (Role.OPERATOR, False)):
        caller = {"Authorization": f"Bearer {token_for(shared.settings, role)}"}
        text = (await shared.http.get(f"/api/v1/admin/jobs/{job}", headers=caller)).text
        assert job in text
        for words in ("hunter2", "dear ada", "said"):
            assert (words not in text) is hidden, words
        for path in ("/api/v1/admin/jobs", "/api/v1/admin/queues/email/jobs"):
            for asked, refused in (
                ("args.password:hunter2", hidden),
                ("args.message:dear ada", hidden),
                ("args.n:7", 0),
            ):
                found = await shared.http.get(path, params={"q": asked}, headers=caller)
                assert (found.status_code, job in found.text) == ((400, False) if refused else (200, True)), asked


async def test_the_way_of_a_job_has_its_waits_and_runs(shared: Dashboard) -> None:
    job = await shared.submit()
    at = datetime.now(UTC) - timedelta(hours=3)

    def ended(number: int, kind: str, start_s: float, end_s: float) -> dict[str, Any]:
        start, end = at + timedelta(seconds=start_s), at + timedelta(seconds=end_s)
        told = {"attempt": number, "kind": kind, "error": "no", "worker": "w-1"}
        return told | {"at": end.isoformat(), "startedAt": start.isoformat()}

    await shared.pool.execute(
        "UPDATE jobs SET state = 'failed', attempts = 2, error = 'no', created_at = $2, run_at = $3, claimed_at = $4, "
        "finished_at = $5, errors = $6, request_id = '<b>req', traceparent = '00-1-2-01' WHERE id = $1::uuid",
        job,
        *(at + timedelta(seconds=seconds) for seconds in (0, 62.691, 63, 63.05)),
        [ended(1, "error", 2.6, 2.691), ended(2, "fail", 63, 63.05)],
    )
    page = await shared.page(f"{QUEUE}/{job}")
    page.sound()
    told = page.text
    words = ["accepted", "waited 2.6 s attempt 1 started", "ran 91 ms attempt 1 failed"]
    words += ["back-off 1 m attempt 2 started", "ran 50 ms attempt 2 failed for good", "at once failed"]
    assert [told.find(each) for each in words] == sorted(told.find(each) for each in words)
    assert all(each in told for each in [*words, "The error is permanent: 1 further attempt was not made."])
    assert "Kept until" in told
    assert "<b>req" in told
    assert not page.all("b")
    assert {"request-id", "trace"} <= {button.get("data-copy") for button in page.all("button")}


async def test_the_last_attempt_was_ready_before_it_started(shared: Dashboard) -> None:
    job = await shared.submit()
    at = datetime.now(UTC) - timedelta(hours=3)
    await shared.pool.execute(
        "UPDATE jobs SET state = 'completed', attempts = 1, created_at = $2, run_at = $3, claimed_at = $4, "
        "finished_at = $5 WHERE id = $1::uuid",
        job,
        *(at + timedelta(seconds=seconds) for seconds in (0, 3600, 3602, 3603)),
    )
    told = (await shared.page(f"{QUEUE}/{job}")).text
    for words in ("scheduled 1 h ready", "waited 2 s attempt 1 started", "ran 1 s completed", "Kept until"):
        assert words in told
    assert "further attempt" not in told


async def test_a_waiting_job_says_why(shared: Dashboard) -> None:
    job = await shared.submit()
    assert "no live replica takes jobs of this queue" in (await shared.page(f"{QUEUE}/{job}")).text


async def test_hostile_data_is_text(board: Dashboard) -> None:
    plain = await board.page(f"{QUEUE}/{await board.submit({'n': 1})}")
    job = await board.submit(HOSTILE, group='"><b>group', tags=("'><i>tag",), dedupe_key="</dd><script>")
    await board.fail(job, "<script>alert('error')</script>\u202e")
    await board.pool.execute(
        "UPDATE jobs SET result = $2, worker = '<u>w', task = '<h1>task' WHERE id = $1::uuid", job, HOSTILE
    )
    for path in ("", QUEUE, f"{QUEUE}?status=failed&q={quote('error:<script>')}", f"{QUEUE}/{job}"):
        page = await board.page(path)
        page.sound()
        assert len(page.all("script")) == len(plain.all("script"))
        assert not [tag for tag in ("img", "b", "i", "u") if page.all(tag)], path
        assert "\u202e" not in page.text
        assert "64687" not in page.text
    assert "<script>alert(1)</script>" in (await board.page(f"{QUEUE}/{job}")).text


async def test_a_huge_argument_is_shown_in_part(board: Dashboard) -> None:
    job = await board.submit({"text": "x" * 3_000_000})
    answer = await board.http.get(f"{PAGES}{QUEUE}/{job}")
    assert len(answer.text) < 60_000
    assert "more characters" in answer.text


async def test_what_operators_do_to_a_job(board: Dashboard) -> None:
    board.sign_in(Role.OPERATOR)
    job = await board.submit(run_at=datetime.now(UTC) + timedelta(hours=1))
    for action, before, after in (
        ("promote", None, "waiting"),
        ("cancel", None, "cancelled"),
        ("retry", "failed", "waiting"),
    ):
        if before:
            await board.fail(job)
        page = await board.page(f"{QUEUE}/{job}")
        assert f"{PAGES}{QUEUE}/{job}/{action}" in page.actions()
        answer = await board.press(f"{QUEUE}/{job}/{action}")
        assert answer.headers["location"] == f"{PAGES}{QUEUE}/{job}?done={action}"
        assert await board.state_of(job) == after
        assert (await board.page(f"{QUEUE}/{job}?done={action}")).all("p")
    assert [action for _, action, _ in await board.audited()] == ["job.promote", "job.cancel", "job.retry"]


async def test_what_its_state_forbids_is_said(shared: Dashboard) -> None:
    before = await shared.audited()
    job = await shared.submit()
    answer = await shared.press(f"{QUEUE}/{job}/retry")
    assert answer.status_code == 409
    assert "only a failed job can be retried" in answer.text
    assert await shared.audited() == before


async def test_replay_takes_an_edited_argument_and_keeps_what_is_masked(board: Dashboard) -> None:
    async def rest(_args: dict[str, Any], _context: TaskContext) -> None:
        """Nobody works here."""

    board.runtime.engine.registry.add_task(Task("test.rest", "email-queue", dict, rest))
    dsn = "postgres://ada:hunter2@db/app"
    job = await board.submit({"n": 1, "token": "t-1", "dsn": dsn}, task="test.rest")
    await board.fail(job)
    page = await board.page(f"{QUEUE}/{job}")
    assert f"{PAGES}{QUEUE}/{job}/replay" in page.actions()
    assert "hunter2" not in page.text
    shown = f"postgres://ada:{MASK}@db/app"
    assert shown in page.text
    changed = await board.press(f"{QUEUE}/{job}/replay", args=json.dumps({"dsn": shown.replace("db", "elsewhere")}))
    assert (changed.status_code, f"args.dsn has {MASK} where nothing is hidden" in changed.text) == (400, True)
    refused = await board.press(f"{QUEUE}/{job}/replay", args="[1]")
    assert (refused.status_code, "args is not an object in JSON" in refused.text) == (400, True)
    edited = json.dumps({"n": 2, "token": MASK, "dsn": shown})
    answer = await board.press(f"{QUEUE}/{job}/replay", args=edited)
    new = answer.headers["location"].removeprefix(f"{PAGES}{QUEUE}/").partition("?")[0]
    assert await board.pool.fetchval("SELECT args FROM jobs WHERE id = $1::uuid", new) == {
        "n": 2,
        "token": "t-1",
        "dsn": dsn,
    }
    assert f"{PAGES}{QUEUE}/{job}" in (await board.page(f"{QUEUE}/{new}")).links()
    assert await board.audited() == [("the admin", "job.replay", job)]


async def test_who_cannot_replay_a_job_is_told_why_instead(board: Dashboard) -> None:
    for task, words in (("email.send", "a mail's job only names the mail"), ("gone.task", "has no task gone.task")):
        job = await board.submit(task=task)
        await board.fail(job)
        page = await board.page(f"{QUEUE}/{job}")
        assert f"{PAGES}{QUEUE}/{job}/replay" not in page.actions()
        assert words in page.text
    board.sign_in(Role.VIEWER)
    assert words not in (await board.page(f"{QUEUE}/{job}")).text


async def test_deleting_is_for_administrators(board: Dashboard) -> None:
    job = await board.submit()
    board.sign_in(Role.OPERATOR)
    assert (await board.press(f"{QUEUE}/{job}/delete")).status_code == 403
    board.sign_in()
    assert (await board.press(f"{QUEUE}/{job}/delete")).headers["location"] == f"{PAGES}{QUEUE}?done=delete"
    assert await board.state_of(job) is None
    assert await board.audited() == [("the admin", "job.delete", job)]


VERBS = (
    *(f"{QUEUE}/{{job}}/{verb}" for verb in ("retry", "cancel", "promote", "delete", "replay")),
    *(f"{QUEUE}/{verb}" for verb in ("pause", "resume", "limits", "bulk", "ticked", "clean")),
)


@pytest.mark.parametrize("path", VERBS)
async def test_viewers_change_nothing(shared: Dashboard, path: str) -> None:
    before = await shared.audited()
    job = await shared.submit()
    await shared.fail(job)
    shared.sign_in(Role.VIEWER)
    fields = {"action": "retry", "status": "failed", "args": "{}"}
    answer = await shared.press(path.format(job=job), **fields)
    assert answer.status_code == 403
    assert "You may not do this" in answer.text
    assert await shared.state_of(job) == "failed"
    assert await shared.audited() == before
    assert not (await shared.page(QUEUE)).actions()


@pytest.mark.parametrize("path", VERBS)
async def test_forms_of_other_sites_change_nothing(shared: Dashboard, path: str) -> None:
    before = await shared.audited()
    job = await shared.submit()
    target = PAGES + path.format(job=job)
    for headers in ({}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}):
        answer = await shared.http.post(target, data={"action": "cancel", "status": "waiting"}, headers=headers)
        assert answer.status_code == 403
    assert await shared.state_of(job) == "waiting"
    assert await shared.audited() == before


async def test_pause_until_and_resume(board: Dashboard) -> None:
    until = (datetime.now(UTC) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M")
    await board.press(f"{QUEUE}/pause", until=until, reason="provider 429")
    page = await board.page(QUEUE)
    assert "email-queue is paused until" in page.text
    assert 'Reason: "provider 429". Nothing waits.' in page.text
    assert f"{PAGES}{QUEUE}/resume" in page.actions()
    await board.press(f"{QUEUE}/resume")
    assert "is paused" not in (await board.page(QUEUE)).text
    assert [action for _, action, _ in await board.audited()] == ["queue.pause", "queue.resume"]
    for wrong in ("yesterday", "2001-01-01T00:00"):
        assert (await board.press(f"{QUEUE}/pause", until=wrong)).status_code == 400


async def test_limits_are_changed_and_put_back(board: Dashboard) -> None:
    fields = {"concurrency": "7", "rateMax": "3", "rateDurationMs": "1000", "attempts": "4", "backoffMs": "500"}
    assert (await board.press(f"{QUEUE}/limits", **fields)).status_code == 303
    assert "7 at once per replica · 3 per 1 s over all replicas · 4 attempts" in (await board.page(QUEUE)).text
    assert (await board.press(f"{QUEUE}/limits", rateMax="3")).status_code == 400
    assert (await board.press(f"{QUEUE}/limits", concurrency="0")).status_code == 400
    await board.press(f"{QUEUE}/limits")
    assert "7 at once" not in (await board.page(QUEUE)).text
    assert [action for _, action, _ in await board.audited()] == ["queue.limits"] * 2


async def test_all_that_match_with_their_number_first(board: Dashboard) -> None:
    for number in range(3):
        await board.fail(await board.submit(), "boom" if number else "other")
    query = f"status=failed&q={quote('error:boom')}"
    page = await board.page(f"{QUEUE}/bulk?action=retry&{query}")
    page.sound()
    assert "2 jobs match" in page.text
    assert not await board.audited()
    fields = {"action": "retry", "status": "failed", "q": "error:boom", "count": "2"}
    started = await board.press(f"{QUEUE}/bulk", **fields)
    assert started.status_code == 303
    path = started.headers["location"].removeprefix(PAGES)

    async def done() -> bool:
        text = (await board.page(path)).text
        return "completed , 2 of 2 done" in text

    await eventually(done)
    (await board.page(path)).sound()
    assert path.removeprefix("/") in " ".join((await board.page("/operations")).links())
    assert await board.pool.fetchval("SELECT count(*) FROM jobs WHERE state = 'waiting'") == 2
    assert [action for _, action, _ in await board.audited()] == ["queue.bulk"]


async def test_many_are_confirmed_by_their_number(board: Dashboard) -> None:
    await board.pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts, finished_at) "
        "SELECT gen_random_uuid(), 'email-queue', 'email.send', 'failed', '{}'::jsonb, 3, now() "
        "FROM generate_series(1, 101)"
    )
    fields = {"action": "delete", "status": "failed", "count": "101"}
    assert (await board.press(f"{QUEUE}/bulk", **fields)).status_code == 400
    for shown, status in (("x", 400), ("100", 409), ("5", 409)):  # 101 is more than was shown
        answer = await board.press(f"{QUEUE}/bulk", **fields | {"count": shown}, typed=shown)
        assert answer.status_code == status
    assert not await board.audited()
    assert (await board.press(f"{QUEUE}/bulk", **fields, typed="101")).status_code == 303


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"action": "delete"}, 422),
        ({"action": "burn", "status": "failed"}, 400),
        ({"action": "retry", "status": "completed"}, 400),
        ({"action": "retry", "q": "to:x"}, 400),
    ],
)
async def test_work_on_many_needs_a_sound_filter(shared: Dashboard, fields: dict[str, Any], status: int) -> None:
    before = await shared.audited()
    assert (await shared.press(f"{QUEUE}/bulk", **fields)).status_code == status
    assert await shared.audited() == before


async def test_pages_cost_few_statements(board: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [await board.submit() for _ in range(20)]
    for path, most in ((QUEUE, 12), (f"{QUEUE}?status=failed&q=error:x", 12), (f"{QUEUE}/{ids[0]}", 10)):
        with statements(monkeypatch) as counted:
            await board.page(path)
        assert len(counted) <= most + 1, (path, counted)  # one is for the navigation
