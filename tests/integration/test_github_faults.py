"""What GitHub may answer instead: limits, refusals, trouble. What of it is waited for, tried again, or final."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest

from gateway.services.orchestration.github import GitHubBusy, GitHubFailed, GitHubRefused
from gateway.services.orchestration.github import client as client_module
from tests.support.github_app import REPOSITORY, TOKEN, Pool, a_week, end_of_rest, github
from tests.support.github_data import Act, FakeRepository, Reply
from tests.support.github_server import GitHubServer, github_server


@pytest.fixture
async def hub() -> AsyncIterator[GitHubServer]:
    async with github_server() as server:
        yield server


@pytest.fixture
def app(hub: GitHubServer) -> FakeRepository:
    return hub.add(REPOSITORY)


LIMITS = [
    (
        Reply(403, {"message": "You have exceeded a secondary rate limit."}, {"Retry-After": "37"}),
        37,
        "secondary_limit",
    ),
    (Reply(429, {"message": "Slow down"}, {"Retry-After": "5"}), 5, "secondary_limit"),
    (Reply(403, {"message": "You have exceeded a secondary rate limit."}), 60, "secondary_limit"),
    (Reply(429), 60, "secondary_limit"),
    (Reply(429, None, {"Retry-After": "99999999"}), 3600, "secondary_limit"),
    (Reply(429, None, {"Retry-After": "soon"}), 60, "secondary_limit"),
    (Reply(403, {"message": "API rate limit exceeded"}, {"X-RateLimit-Remaining": "0"}), 1801, "rate_limited"),
]


@pytest.mark.parametrize(("reply", "after_s", "kind"), LIMITS)
async def test_a_limit_says_when_to_come_again_and_no_replica_asks_before(
    hub: GitHubServer, app: FakeRepository, pool: Pool, reply: Reply, after_s: float, kind: str
) -> None:
    a_week(app)
    hub.rule = lambda call: reply if call.path.endswith("/commits") else None
    with pytest.raises(GitHubBusy) as raised:
        await github(hub, pool).analyse(REPOSITORY)
    assert raised.value.kind == kind
    assert raised.value.after_s == pytest.approx(after_s, abs=3)
    hub.rule = None
    asked = len(hub.calls)
    with pytest.raises(GitHubBusy) as again:
        await github(hub, pool).analyse(REPOSITORY)
    assert len(hub.calls) == asked
    assert again.value.after_s == pytest.approx(after_s, abs=3)
    await end_of_rest(pool)
    assert (await github(hub, pool).analyse(REPOSITORY)).commits.total == 3


async def test_the_last_call_of_an_hour_is_answered_and_the_next_is_not_made(
    hub: GitHubServer, app: FakeRepository, pool: Pool
) -> None:
    hub.remaining = 1
    with pytest.raises(GitHubBusy, match=r"rate limit") as raised:
        await github(hub, pool).analyse(REPOSITORY)
    assert [call.status for call in hub.calls] == [200]
    assert raised.value.after_s == pytest.approx(1800, abs=5)


async def test_a_limit_of_one_token_is_not_that_of_another(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    hub.rule = lambda call: Reply(429) if call.token == TOKEN else None
    with pytest.raises(GitHubBusy):
        await github(hub, pool).analyse(REPOSITORY)
    await github(hub, pool, github_token="ghp_another").analyse(REPOSITORY)


async def test_what_one_token_saw_is_not_shown_to_another(hub: GitHubServer, pool: Pool) -> None:
    hub.add("octo/secret", private=True)
    await github(hub, pool).analyse("octo/secret")
    with pytest.raises(GitHubRefused, match="GITHUB_TOKEN is not set"):
        await github(hub, pool, github_token=None).analyse("octo/secret")


async def test_the_reset_is_read_by_githubs_clock(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    then = time.time() + 86_400  # its clock, or ours, is a day off
    headers = {
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(then) + 40),
        "Date": formatdate(then, usegmt=True),
    }
    hub.rule = lambda _call: Reply(403, {"message": "API rate limit exceeded"}, headers)
    with pytest.raises(GitHubBusy) as raised:
        await github(hub, pool).analyse(REPOSITORY)
    assert raised.value.after_s == pytest.approx(41, abs=2)


async def test_a_repository_that_is_not_there_is_named_with_the_token(hub: GitHubServer, pool: Pool) -> None:
    with pytest.raises(GitHubRefused, match=r"octo/none.*GITHUB_TOKEN may not see it") as raised:
        await github(hub, pool).analyse("octo/none")
    assert raised.value.kind == "not_found"


async def test_a_wrong_token_is_named_but_not_told(hub: GitHubServer, app: FakeRepository, pool: Pool) -> None:
    hub.token = "another"
    with pytest.raises(GitHubRefused, match=r"GITHUB_TOKEN.*octo/app.*Bad credentials") as raised:
        await github(hub, pool).analyse(REPOSITORY)
    assert raised.value.kind == "auth"
    assert TOKEN not in str(raised.value)
    assert TOKEN not in str(await pool.fetch("SELECT * FROM github_pages"))


@pytest.mark.parametrize(
    "name", ["app", "octo/app/pulls", "../..", "octo/..", "octo/a b", "https://github.com/octo/app"]
)
async def test_what_is_no_repository_is_not_asked_for(hub: GitHubServer, pool: Pool, name: str) -> None:
    with pytest.raises(GitHubRefused, match="write it as owner/name"):
        await github(hub, pool).analyse(name)
    assert hub.calls == []


BROKEN: list[tuple[Reply | Act, str]] = [
    (Reply(500, {"message": "Server Error"}), "unavailable"),
    (Reply(502, b"<html>Bad gateway</html>"), "unavailable"),
    (Act.CUT, "unavailable"),
    (Act.CUT_IN_BODY, "unavailable"),
    (Act.GARBAGE, "bad_answer"),
    (Reply(200, {"message": "not a list"}), "bad_answer"),
    (Reply(200, [{"number": "seven"}]), "bad_answer"),
    (Reply(200, [], {"Link": '<https://elsewhere.example/pulls?page=2>; rel="next"'}), "bad_answer"),
    (Reply(200, b"[" * 100_000), "bad_answer"),
    (Reply(200, [], {"Link": '<http://[broken/pulls?page=2>; rel="next"'}), "bad_answer"),
]


@pytest.mark.parametrize(("answer", "kind"), BROKEN)
async def test_what_may_work_next_time_is_a_failure_and_nothing_of_it_is_kept(
    hub: GitHubServer, app: FakeRepository, pool: Pool, answer: Reply | Act, kind: str
) -> None:
    hub.rule = lambda call: answer if call.path.endswith("/pulls") else None
    with pytest.raises(GitHubFailed) as raised:
        await github(hub, pool).analyse(REPOSITORY)
    assert raised.value.kind == kind
    assert all("pulls" not in row["kind"] for row in await pool.fetch("SELECT kind FROM github_pages"))
    hub.rule = None
    assert (await github(hub, pool).analyse(REPOSITORY)).incomplete == []


async def test_an_answer_that_only_drips_ends_in_time(
    hub: GitHubServer, app: FakeRepository, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REQUEST_S", 0.3)
    hub.rule = lambda call: Act.DRIP if call.path.endswith("/pulls") else None
    with pytest.raises(GitHubFailed) as raised:
        await github(hub, pool).analyse(REPOSITORY)
    assert raised.value.kind == "timeout"


async def test_an_answer_without_end_is_not_read_to_the_end(
    hub: GitHubServer, app: FakeRepository, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_BYTES", 10_000)
    hub.rule = lambda call: Reply(200, b" " * 20_000) if call.path.endswith("/pulls") else None
    with pytest.raises(GitHubRefused, match="10000 bytes"):
        await github(hub, pool).analyse(REPOSITORY)


async def test_a_closed_port_is_a_failure(hub: GitHubServer, pool: Pool) -> None:
    with pytest.raises(GitHubFailed, match="could not be reached") as raised:
        await github(hub, pool, github_api_url="http://127.0.0.1:1").analyse(REPOSITORY)
    assert raised.value.kind == "unavailable"


async def test_commits_that_cannot_be_read_are_told_and_end_the_asking(
    hub: GitHubServer, app: FakeRepository, pool: Pool
) -> None:
    for number in range(40):
        app.add_commit({f"src/{number}.py": (1, 1)})
    hub.rule = lambda call: Reply(500) if call.path.rsplit("/", 1)[1] in app.files else None
    analysis = await github(hub, pool).analyse(REPOSITORY)
    assert analysis.incomplete == ["files of 40 commits could not be read"]
    assert hub.statuses().count(500) < 10


async def test_a_renamed_repository_is_followed_within_the_api_only(
    hub: GitHubServer, app: FakeRepository, pool: Pool
) -> None:
    a_week(app)
    hub.renamed["octo/old"] = REPOSITORY
    assert (await github(hub, pool).analyse("octo/old")).pull_requests.open == 2
    hub.rule = lambda _call: Reply(301, None, {"Location": "https://elsewhere.example/repos/octo/app"})
    with pytest.raises(GitHubRefused, match="renamed"):
        await github(hub, pool).analyse("octo/gone")
    hub.rule = lambda call: Reply(301, None, {"Location": call.path})
    with pytest.raises(GitHubRefused, match="without end"):
        await github(hub, pool).analyse("octo/loop")
