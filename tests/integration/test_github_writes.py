"""Comments and issues: each once, whatever happens in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.services.orchestration.github import GitHubBusy, GitHubFailed, GitHubRefused
from gateway.services.orchestration.github import writes as writes_module
from gateway.services.orchestration.github.writes import Gate, mark_of
from tests.support.github_app import REPOSITORY, Pool, end_of_rest, github
from tests.support.github_data import Act, Call, FakeRepository, Reply, ago
from tests.support.github_server import GitHubServer, github_server


@pytest.fixture
async def hub() -> AsyncIterator[GitHubServer]:
    async with github_server() as server:
        yield server


@pytest.fixture
def app(hub: GitHubServer) -> FakeRepository:
    return hub.add(REPOSITORY)


def posts(call: Call) -> bool:
    return call.method == "POST"


async def test_a_comment_is_written_once_for_each_key(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    number = app.add_issue()
    first = await github(hub, pool).comment(REPOSITORY, number, "Looks good", "action-1")
    again = await github(hub, pool).comment(REPOSITORY, number, "Looks good", "action-1")
    other = await github(hub, pool).comment(REPOSITORY, number, "Looks good", "action-2")
    assert first == again != other
    assert first.startswith(f"https://github.example/octo/app/issues/{number}#issuecomment-")
    assert [row["body"] for row in app.comments[number]] == [
        f"Looks good\n\n{mark_of('action-1')}",
        f"Looks good\n\n{mark_of('action-2')}",
    ]


async def test_an_issue_is_opened_once_for_each_key(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    first = await github(hub, pool).open_issue(REPOSITORY, "Flaky\n test", "Why:\n- a\n- b", "action-1")
    again = await github(hub, pool).open_issue(REPOSITORY, "Flaky test", "Why", "action-1")
    assert first == again == "https://github.example/octo/app/issues/1"
    assert [row["title"] for row in app.issues] == ["Flaky test"]
    assert app.issues[0]["body"] == f"Why:\n- a\n- b\n\n{mark_of('action-1')}"


@pytest.mark.parametrize("act", [Act.DO_AND_CUT, Act.CUT, Reply(502)])
async def test_a_lost_answer_is_looked_up_and_not_written_twice(
    hub: GitHubServer, app: FakeRepository, pool: Pool, act: Act | Reply
) -> None:
    number = app.add_issue()
    hub.rule = lambda call: act if posts(call) else None
    with pytest.raises(GitHubFailed):
        await github(hub, pool).comment(REPOSITORY, number, "Once", "action-1")
    with pytest.raises(GitHubFailed):
        await github(hub, pool).open_issue(REPOSITORY, "Once", "Once", "action-2")
    if act is not Act.DO_AND_CUT:
        hub.rule = None
    # Where it was done, the next call must not even try: the rule would cut it again.
    await github(hub, pool).comment(REPOSITORY, number, "Once", "action-1")
    await github(hub, pool).open_issue(REPOSITORY, "Once", "Once", "action-2")
    assert len(app.comments[number]) == 1 and len(app.issues) == 2


async def test_the_same_at_the_same_time_is_written_once(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    number, one = app.add_issue(), github(hub, pool)
    urls = await asyncio.gather(*(one.comment(REPOSITORY, number, "Once", "action-1") for _ in range(4)))
    assert len(set(urls)) == 1 and len(hub.writes()) == 1


async def test_a_mark_on_a_later_page_is_found(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    number = app.add_issue()
    for each in range(250):
        app.add_comment(number, f"Comment {each}")
    written = app.add_comment(number, f"Ours\n\n{mark_of('action-1')}")
    assert await github(hub, pool).comment(REPOSITORY, number, "Ours", "action-1") == written["html_url"]
    assert hub.writes() == []


async def test_what_is_older_than_the_action_is_not_looked_through(
    hub: GitHubServer, app: FakeRepository, pool: Pool
) -> None:
    number = app.add_issue(created=ago(days=9))
    for each in range(350):
        app.add_comment(number, f"Comment {each}", created=ago(days=2))
        app.add_issue(created=ago(days=2))
    await github(hub, pool).comment(REPOSITORY, number, "Now", "action-1", since=ago(minutes=1))
    await github(hub, pool).open_issue(REPOSITORY, "Now", "Now", "action-2", since=ago(minutes=1))
    assert [call.method for call in hub.calls] == ["GET", "POST", "GET", "POST"]
    assert "since" in hub.calls[0].query


async def test_too_much_to_look_through_is_not_written_on_a_guess(
    hub: GitHubServer, app: FakeRepository, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes_module, "_PAGES_MAX", 2)
    number = app.add_issue()
    for each in range(250):
        app.add_comment(number, f"Comment {each}")
    with pytest.raises(GitHubRefused, match="more than 2 pages"):
        await github(hub, pool).comment(REPOSITORY, number, "Once", "action-1")
    assert hub.writes() == []


async def test_a_limit_on_a_write_says_when_to_come_again(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    number = app.add_issue()
    said = {"message": "You have exceeded a secondary rate limit and have been temporarily blocked"}
    hub.rule = lambda call: Reply(403, said, {"Retry-After": "12"}) if posts(call) else None
    with pytest.raises(GitHubBusy) as raised:
        await github(hub, pool).comment(REPOSITORY, number, "Hello", "action-1")
    assert raised.value.after_s == 12
    asked = len(hub.calls)
    with pytest.raises(GitHubBusy):
        await github(hub, pool).open_issue(REPOSITORY, "Hello", "Hello", "action-2")
    assert len(hub.calls) == asked
    hub.rule = None
    await end_of_rest(pool)
    await github(hub, pool).comment(REPOSITORY, number, "Hello", "action-1")
    assert len(app.comments[number]) == 1


async def test_refusals_name_the_repository_and_the_token(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    number = app.add_issue()
    with pytest.raises(GitHubRefused, match=r"issue 99 of octo/app.*GITHUB_TOKEN") as raised:
        await github(hub, pool).comment(REPOSITORY, 99, "Hello", "action-1")
    assert raised.value.kind == "not_found"
    app.writable = False
    with pytest.raises(GitHubRefused, match=r"octo/app.*not accessible.*GITHUB_TOKEN may not write") as raised:
        await github(hub, pool).comment(REPOSITORY, number, "Hello", "action-1")
    assert raised.value.kind == "forbidden"
    with pytest.raises(GitHubRefused, match=r"GITHUB_TOKEN is not set.*octo/app") as raised:
        await github(hub, pool, github_token=None).comment(REPOSITORY, number, "Hello", "action-1")
    assert raised.value.kind == "not_configured"
    app.writable, app.has_issues = True, False
    with pytest.raises(GitHubRefused, match="Issues are disabled") as raised:
        await github(hub, pool).open_issue(REPOSITORY, "Hello", "Hello", "action-1")
    assert raised.value.kind == "gone"
    hub.rule = lambda call: Reply(422, {"message": "Validation Failed"}) if posts(call) else None
    with pytest.raises(GitHubRefused, match="Validation Failed") as raised:
        await github(hub, pool).comment(REPOSITORY, number, "Hello", "action-1")
    assert raised.value.kind == "invalid"


async def test_an_empty_text_is_not_written(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    with pytest.raises(GitHubRefused, match="empty"):
        await github(hub, pool).comment(REPOSITORY, app.add_issue(), " \n\x00", "action-1")
    with pytest.raises(GitHubRefused, match="title"):
        await github(hub, pool).open_issue(REPOSITORY, "\u200b", "Text", "action-1")
    assert hub.writes() == []


async def test_a_long_text_is_cut_and_keeps_its_mark(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    number = app.add_issue()
    await github(hub, pool).comment(REPOSITORY, number, "x" * 100_000, "action-1")
    await github(hub, pool).comment(REPOSITORY, number, "x" * 100_000, "action-1")
    (written,) = app.comments[number]
    assert len(written["body"]) < 65_536 and written["body"].endswith(mark_of("action-1"))


async def test_writes_keep_their_distance() -> None:
    gate = Gate(0.1)
    async with gate:
        began = time.monotonic()
        gate.wrote()
    async with gate:
        assert time.monotonic() - began >= 0.09


def test_no_key_can_end_the_mark() -> None:
    assert mark_of("--> <b>") == mark_of("--> <b>") != mark_of("a")
    assert mark_of("--> <b>").count("-->") == 1
