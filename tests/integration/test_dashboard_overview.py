"""The overview: what it says of queues, failures and outages, with how many statements, and in what time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

import pytest

from gateway.access import Role
from gateway.dev_servers import EmbeddedPostgres, EmbeddedValkey
from gateway.infra.migrate import migrate
from gateway.web.logins import create_login
from tests.support.eventually import eventually
from tests.support.pages import PAGES, Dashboard, dashboard, statements
from tests.support.proxy import Proxy


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Dashboard]:
    async with dashboard(database_url) as made:
        made.sign_in()
        yield made


async def test_queues_stand_there_with_numbers_and_why_they_wait(board: Dashboard) -> None:
    for _ in range(3):
        await board.submit()
    await board.submit(run_at=datetime.now(UTC) + timedelta(hours=1))
    page = await board.page()
    page.sound()
    assert "email-queue" in page.text
    assert "no live replica takes jobs of this queue" in page.text
    assert "No replica works on email-queue. 3 jobs wait, the oldest for" in page.text
    assert f"{PAGES}/queue/email-queue?status=waiting" in page.links()


async def test_a_paused_queue_says_until_when_and_why(board: Dashboard) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    await board.runtime.engine.pause("email-queue", until=until, reason="provider <b>429</b>")
    page = await board.page()
    assert f"email-queue is paused until {until:%Y-%m-%d %H:%M:%S} UTC" in page.text
    assert 'Reason: "provider <b>429</b>"' in page.text
    assert not page.all("b")


async def test_failures_are_grouped_by_what_they_have_in_common(board: Dashboard) -> None:
    for name in ("ada", "bob", "eve"):
        await board.fail(await board.submit(), f"SMTP 550 no mailbox for {name}@example.com, try {len(name) * 1234}")
    await board.fail(await board.submit(), "TimeoutError after 600 s")
    page = await board.page()
    assert "SMTP 550 no mailbox for <address>, try <n>" in page.text
    found = [link for link in page.links() if "q=error" in link]
    assert len(found) == 4, "the jobs of each group, and its retry"
    assert "no%20mailbox%20for" in found[0]
    assert found[1].startswith(f"{PAGES}/queue/email-queue/bulk?action=retry&status=failed&q=error")
    assert (await board.page(found[1].removeprefix(PAGES))).text.count("3 jobs match") == 1


async def test_bull_board_list_is_that_of_document_002(board: Dashboard) -> None:
    await board.submit()
    found = (await board.http.get("/admin/queues/api/queues")).json()
    assert list(found) == ["queues"]
    assert {"name": "email-queue", "counts": {"active": 0, "waiting": 1, "completed": 0, "failed": 0}} in found[
        "queues"
    ]


async def test_a_page_costs_few_statements_however_many_jobs(board: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        await board.fail(await board.submit(), f"error {number}")
    with statements(monkeypatch) as counted:
        await board.page()
    assert len(counted) == 6, counted  # one is for the navigation


async def test_with_redis_gone_it_renders_within_a_second_and_says_since_when(
    database_url: str, own_valkey: Callable[..., EmbeddedValkey]
) -> None:
    server = own_valkey()
    async with dashboard(database_url, redis_url=server.url) as board:
        board.sign_in(Role.VIEWER)

        async def undisturbed() -> bool:
            return board.runtime.mode == "queue" and "Redis does not answer" not in (await board.page()).text

        await eventually(undisturbed)
        server.kill()
        await eventually(lambda: board.runtime.mode == "direct")
        took = []
        for _ in range(3):  # the fastest: this machine may stand still for a second itself
            began = time.perf_counter()
            page = await board.page()
            took.append(time.perf_counter() - began)
        assert min(took) < 1
        assert "Redis does not answer since" in page.text
        assert "run and shown from PostgreSQL" in page.text
        assert "You can look but not change." in page.text


async def test_with_postgresql_gone_the_page_says_so(own_postgres: Callable[[], EmbeddedPostgres]) -> None:
    server = own_postgres()
    await migrate(server.dsn)
    async with dashboard(server.dsn) as board:
        code, _ = await create_login(board.pool, "ana", Role.ADMIN, "test")
        assert (await board.press("/login", token=code)).status_code == 303
        await board.page()
        server.kill()
        whose = await board.http.get(PAGES)
        assert whose.status_code == 503, "a session of the ledger cannot be checked, and is not ended by that"
        assert "set-cookie" not in whose.headers
        out = await board.press("/logout")
        assert (out.status_code, "Max-Age=0" in out.headers["set-cookie"]) == (303, True)
        board.sign_in()
        answer = await board.http.get(PAGES)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.headers["content-type"].startswith("text/html")
        assert "PostgreSQL does not answer" in answer.text
        assert "asyncpg" not in answer.text


async def test_a_silent_postgresql_is_said_to_be_long_before_its_statements_end(database_url: str) -> None:
    parts = urlsplit(database_url)
    login, at, _ = parts.netloc.rpartition("@")
    async with Proxy(parts.hostname or "", parts.port or 0) as proxy:
        far = urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{proxy.port}"))
        async with dashboard(far) as board:
            board.sign_in()
            await board.page()
            proxy.stall()
            began = time.perf_counter()
            assert (await board.http.get(PAGES)).status_code == 503
            assert time.perf_counter() - began < 15, "2 s, where a statement has 30"
            proxy.flow()
