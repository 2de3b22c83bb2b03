"""Search over all queues, replicas, schedules, the trail, and the stream of news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from gateway.access import Role
from gateway.jobs.events import BrokerChanged
from gateway.jobs.records import Replica
from gateway.jobs.registry import Task, TaskContext
from gateway.jobs.schedule import NewSchedule
from tests.support.pages import PAGES, Dashboard, dashboard, statements

NAME = '"><b>r-1'


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Dashboard]:
    async with dashboard(database_url) as made:
        made.sign_in()
        yield made


async def beat(board: Dashboard, name: str, **others: Any) -> None:
    row = await board.pool.fetchrow("SELECT now() AS now")
    assert row is not None
    fields: dict[str, Any] = {
        "id": name,
        "role": "worker",
        "version": "9.9.9",
        "host": "<i>host",
        "pid": 7,
        "mode": "direct",
        "slots": {"email-queue": {"slots": 5, "busy": 2}},
        "draining": False,
        "started_at": row["now"],
        "seen_at": row["now"],
    }
    await board.runtime.records.beat(Replica(**(fields | others)))


async def test_jobs_of_all_queues_are_found(board: Dashboard) -> None:
    mine = await board.submit({"n": "7"})
    other = await board.submit(queue="orchestration-queue", task="orchestration.run")
    page = await board.page("/jobs")
    page.sound()
    assert f"{PAGES}/queue/email-queue/{mine}" in page.links()
    assert f"{PAGES}/queue/orchestration-queue/{other}" in page.links()
    page = await board.page(f"/jobs?q={quote('queue:orchestration')}")
    assert f"{PAGES}/queue/email-queue/{mine}" not in page.links()
    assert f"{PAGES}/queue/orchestration-queue/{other}" in page.links()
    assert f"{PAGES}/queue/email-queue/{mine}" in (await board.page(f"/jobs?q={mine[:13]}")).links()
    assert "unknown queue" in (await board.page("/jobs?q=queue:nothing")).text


async def test_a_row_of_an_open_page_gets_the_numbers_of_its_own_replica(board: Dashboard) -> None:
    """Scripts look for cells by their names: places change when an old replica leaves the list."""
    at = datetime.now(UTC)
    for age, name in enumerate(("young", "old")):
        await beat(board, name, started_at=at - timedelta(hours=age))
    named = {f"{cell}-young" for cell in ("state", "busy", "memory", "loop", "seen", "mode", "acts")} | {"r-young"}
    for gone in (False, True):
        if gone:
            await board.pool.execute("DELETE FROM replicas WHERE id = 'old'")
        page = await board.page("/replicas")
        ids = {str(cell.get("id")) for tag in ("tr", "td") for cell in page.all(tag)}
        assert named <= ids
        assert ("state-old" in ids) is not gone


async def test_replicas_are_shown_and_drained(board: Dashboard) -> None:
    await beat(board, NAME)
    await board.pool.execute(
        "INSERT INTO replicas (id, role, version, host, pid, mode, slots, seen_at) "
        "VALUES ('quiet', 'api', '1', 'h', 1, 'direct', '{}', now() - interval '1 minute')"
    )
    page = await board.page("/replicas")
    page.sound()
    assert not page.all("b")
    assert NAME in page.text
    assert "email-queue 2/5" in page.text
    assert "silent" in page.text
    drain = f"/replicas/{quote(NAME, safe='')}/drain"
    assert PAGES + drain in page.actions()
    assert (await board.press(drain)).status_code == 303
    assert "draining" in (await board.page("/replicas")).text
    assert await board.audited() == [("the admin", "worker.drain", NAME)]
    assert (await board.press("/replicas/nobody/drain")).status_code == 404
    for within_s, status in (("0", 400), ("x", 400), ("120", 303)):
        assert (await board.press(drain, withinS=within_s)).status_code == status
    assert await board.pool.fetchval("SELECT drain_by > now() FROM replicas WHERE id = $1", NAME)


async def test_replicas_that_do_not_fit_together_are_told_with_what_to_do(board: Dashboard) -> None:
    await beat(board, "w-1", vitals={"rssBytes": 104857600.0, "loopLagS": 0.002}, version="1.0")
    await beat(board, "a-1", role="all", version="<b>2.0", mode="queue")
    told = (await board.page("/replicas")).text
    assert "email-queue: 10 slots; the limit of 10 per 1 s holds over all replicas." in told
    await board.submit()
    await board.pool.execute(
        "UPDATE jobs SET state = 'active', worker = 'gone', claimed_at = now(), lease_until = now() + interval '1 hour'"
    )
    await beat(board, "gone")
    await board.pool.execute("UPDATE replicas SET seen_at = now() - interval '1 minute' WHERE id = 'gone'")
    page = await board.page("/replicas")
    page.sound()
    for words in (
        "set DISABLE_BACKGROUND_WORKERS=true",
        "Versions are mixed.",
        "Modes are mixed.",
        "100 MB",
        "2 ms",
        "holds 1 job until the lease ends",
    ):
        assert words in page.text
    assert not page.all("b")
    await board.pool.execute(
        "UPDATE jobs SET state = 'completed', finished_at = claimed_at + interval '100 ms', lease_until = NULL"
    )
    told = (await board.page("/replicas")).text
    assert "the limit of 10 per 1 s needs about 1 with jobs of 100 ms: more replicas do not make it faster" in told


async def test_the_page_of_a_queue_says_who_goes_by_its_limits(board: Dashboard) -> None:
    queue = "/queue/email-queue"
    await beat(board, "w-1", slots={"email-queue": {"slots": 5, "busy": 0, "limits": 0}})
    assert "by these limits" not in (await board.page(queue)).text
    await board.press(f"{queue}/limits", attempts="4")
    told = (await board.page(queue)).text
    assert "0 of 1 replica goes by these limits; not yet, or of a version that does not tell: w-1" in told
    revision = board.runtime.engine.registry.queue("email-queue").revision
    await beat(board, "w-1", slots={"email-queue": {"slots": 5, "busy": 0, "limits": revision}})
    told = (await board.page(queue)).text
    assert "The replica that takes its jobs goes by these limits, which differ from the settings." in told
    assert "the queue is empty. No replica drains." in told
    job = await board.submit()
    await board.pool.execute("UPDATE jobs SET state = 'active', worker = 'w-1' WHERE id = $1::uuid", job)
    await beat(board, "w-1", slots={"email-queue": {"slots": 5, "busy": 1, "limits": revision}})
    assert "1 still runs on w-1" in (await board.page(queue)).text


async def test_maintenance_shows_each_duty_with_its_runs(board: Dashboard) -> None:
    duty = board.runtime.maintenance.duties[0].name
    await board.pool.execute(
        "INSERT INTO maintenance_runs (duty, tick, replica, finished_at, rows, error) "
        "SELECT $1, '2001-01-01'::timestamptz + n * interval '1 day', '<b>r', now(), 7, "
        "CASE WHEN n = 51 THEN '<i>boom' END FROM generate_series(1, 51) AS n",
        duty,
    )
    board.sign_in(Role.VIEWER)
    page = await board.page("/maintenance")
    page.sound()
    assert "<i>boom" in page.text
    assert "7 rows in" in page.text
    assert not page.all("b")
    older = next(link for link in page.links() if "cursor=" in link)
    (await board.page(older.removeprefix(PAGES))).sound()
    assert f"Runs of {duty}" in (await board.page(f"/maintenance?duty={duty}")).text


async def test_schedules_are_paused_resumed_and_run(board: Dashboard) -> None:
    async def rest(_args: dict[str, Any], _context: TaskContext) -> None:
        """Nobody works here."""

    board.runtime.engine.registry.add_task(Task("test.beat", "email-queue", dict, rest))
    await board.runtime.platform.schedules.create(NewSchedule(name="nightly", task="test.beat", every_s=3600))
    page = await board.page("/schedules")
    page.sound()
    assert "nightly" in page.text
    for action in ("pause", "resume", "run"):
        answer = await board.press(f"/schedules/nightly/{action}")
        assert answer.headers["location"] == f"{PAGES}/schedules?done=schedule-{action}", answer.text
    assert [action for _, action, _ in await board.audited()] == [
        "schedule.pause",
        "schedule.resume",
        "schedule.run",
    ]
    assert (await board.press("/schedules/nothing/run")).status_code == 404


async def test_the_trail_is_for_administrators(board: Dashboard) -> None:
    for number in range(51):
        await board.pool.execute(
            "INSERT INTO admin_audit (actor, action, subject, detail) VALUES ($1, 'queue.pause', $2, $3)",
            "<b>ann",
            f"subject-{number}",
            {"reason": "<script>", "token": "hunter2"},
        )
    page = await board.page("/audit")
    page.sound()
    assert "subject-50" in page.text
    assert "hunter2" not in page.text
    assert "hunter2" not in (await board.http.get(f"{PAGES}/audit", headers={"Accept": "application/json"})).text
    assert not page.all("b")
    older = next(link for link in page.links() if "cursor=" in link)
    assert "subject-0" in (await board.page(older.removeprefix(PAGES))).text
    for role in (Role.VIEWER, Role.OPERATOR):
        board.sign_in(role)
        await board.page("/audit", 403)
        assert f"{PAGES}/audit" not in (await board.page("/jobs")).links()


@pytest.mark.parametrize("path", ["/replicas/x/drain", "/schedules/x/pause", "/schedules/x/resume", "/schedules/x/run"])
async def test_viewers_and_other_sites_change_nothing(board: Dashboard, path: str) -> None:
    assert (await board.http.post(PAGES + path, headers={"Origin": "null"})).status_code == 403
    board.sign_in(Role.VIEWER)
    assert (await board.press(path)).status_code == 403
    assert not await board.audited()


WRONG = ("/maintenance?duty=x", "/maintenance?cursor=x", "/audit?cursor=x", "/audit?nothing=1", "/jobs?q=a&q=b")


@pytest.mark.parametrize("path", [*WRONG, "/schedules?cursor=%00"])
async def test_wrong_addresses_are_pages(board: Dashboard, path: str) -> None:
    (await board.page(path, 400)).sound()


async def test_the_stream_asks_who_listens(board: Dashboard) -> None:
    assert (await board.http.get(f"{PAGES}/events?topics=queue:nothing")).status_code == 403
    assert (await board.http.get(f"{PAGES}/events?topics=")).status_code == 400
    board.http.cookies.clear()
    assert (await board.http.get(f"{PAGES}/events?topics=queue:email-queue")).status_code == 303


async def test_an_address_without_a_page_is_told_on_one(board: Dashboard) -> None:
    for path in ("/nothing/here", "/inbox", "/api/nothing"):
        page = await board.page(path, 404)
        page.sound()
        assert f"There is no page at {path}" in page.text
    board.http.cookies.clear()
    assert (await board.http.get(f"{PAGES}/nothing")).status_code == 303


async def test_pages_cost_few_statements(board: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    mosts = {"/jobs": 3, "/jobs?q=error:x": 3, "/replicas": 1, "/maintenance": 2, "/schedules": 1, "/audit": 1}
    for path, most in mosts.items():
        with statements(monkeypatch) as counted:
            await board.page(path)
        assert len(counted) <= most + 1, (path, counted)  # one is for the navigation


async def test_the_stream_tells_what_ends_until_the_reader_leaves(board: Dashboard) -> None:
    """Called as a server calls it: the test's client would wait for the end of the answer."""
    app = board.http._transport.app  # type: ignore[attr-defined]
    cookie = "; ".join(f"{name}={value}" for name, value in board.http.cookies.items())
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"{PAGES}/events",
        "raw_path": f"{PAGES}/events".encode(),
        "root_path": "",
        "query_string": b"topics=queue:email-queue",
        "headers": [(b"host", b"localhost"), (b"cookie", cookie.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    serving = asyncio.create_task(app(scope, receive, sent.put))
    async with asyncio.timeout(10):
        start = await sent.get()
        headers = dict(start["headers"])
        assert (start["status"], headers[b"content-type"].partition(b";")[0]) == (200, b"text/event-stream")
        text = b""
        while b"id: " not in text:
            text += (await sent.get()).get("body", b"")
        board.runtime.events.publish(BrokerChanged(mode="queue", reason="a test"))
        while b"queue:mode" not in text:
            text += (await sent.get()).get("body", b"")
        gone.set()
        await serving


async def test_every_page_answers_its_data_as_json(board: Dashboard) -> None:
    """Those that need no id in their address are found among the routes, so that none is forgotten."""
    app = board.http._transport.app  # type: ignore[attr-defined]
    while not hasattr(app, "routes"):
        app = app.app
    ours = [route.path for route in app.routes if route.path.startswith(PAGES) and "{" not in route.path]
    found = {path for path in ours if "GET" in next(r for r in app.routes if r.path == path).methods}
    found -= {f"{PAGES}/{name}" for name in ("events", "login", "api/queues")}
    assert {f"{PAGES}/{name}" for name in ("jobs", "replicas", "maintenance", "metrics", "emails", "runs")} < found
    job = await board.submit()
    queue = f"{PAGES}/queue/email-queue"
    found |= {queue, f"{queue}/{job}", f"{queue}/bulk?action=cancel&status=waiting", f"{queue}/clean?hours=1"}
    for path in sorted(found):
        answer = await board.http.get(path, headers={"Accept": "application/json"})
        assert answer.status_code == 200, (path, answer.text)
        assert answer.json()["success"] is True, path
