"""GitHub's pure parts: figures from rows, strangers' text, signatures, what answers mean, settings."""

from __future__ import annotations

import hashlib
import hmac
import random
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.services.orchestration.github import verify_github_signature
from gateway.services.orchestration.github.answers import MOST_WAIT_S, rest_s
from gateway.services.orchestration.github.figures import Analysis
from gateway.services.orchestration.github.measure import (
    Found,
    Period,
    changes_to_read,
    commits_in,
    measure,
    reviews_to_read,
)
from gateway.services.orchestration.github.shapes import (
    ChangedFile,
    Commit,
    CommitHead,
    Issue,
    Parent,
    PullReference,
    PullRequest,
    Repository,
    Review,
    Signature,
    User,
)
from gateway.services.orchestration.github.text import clean, clean_markdown
from gateway.settings import SettingsError, load, setting_rows

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PERIOD = Period.before(NOW, 24)

# Machines have other things to do: how long an example takes says nothing.
unhurried = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

moments = st.integers(0, 60 * 24 * 20).map(lambda minutes: NOW - timedelta(minutes=minutes))
users = st.sampled_from(["ada", "bob", "eve", ""]).map(lambda login: User(login) if login else None)
titles = st.text(max_size=30)


@st.composite
def pulls(draw: Any, *, is_open: bool) -> PullRequest:
    created, updated = sorted([draw(moments), draw(moments)])
    closed = None if is_open else updated
    merged = closed if draw(st.booleans()) else None
    number = draw(st.integers(1, 40))
    return PullRequest(
        number=number,
        title=draw(titles),
        user=draw(users),
        created_at=created,
        updated_at=updated,
        closed_at=closed,
        merged_at=merged,
        draft=draw(st.booleans()),
    )


@st.composite
def issues(draw: Any) -> Issue:
    created, updated = sorted([draw(moments), draw(moments)])
    return Issue(
        number=draw(st.integers(1, 40)),
        title=draw(titles),
        user=draw(users),
        created_at=created,
        updated_at=updated,
        closed_at=draw(st.sampled_from([None, updated])),
        pull_request=draw(st.sampled_from([None, PullReference()])),
    )


@st.composite
def commits(draw: Any) -> Commit:
    signature = Signature(draw(moments), draw(st.sampled_from(["Ada", "Bob", ""])))
    parents = [Parent("0" * 40)] * draw(st.integers(0, 2))
    sha = f"{draw(st.integers(0, 50)):040x}"
    return Commit(sha=sha, commit=CommitHead(signature, signature), author=draw(users), parents=parents)


files = st.builds(
    ChangedFile,
    filename=st.sampled_from(["a.py", "b.py", "c.py"]),
    additions=st.integers(0, 9),
    deletions=st.integers(0, 9),
)
reviews = st.builds(Review, user=users, submitted_at=st.none() | moments)


@st.composite
def found(draw: Any) -> Found:
    made = draw(st.lists(commits(), max_size=20, unique_by=lambda commit: commit.sha))
    return Found(
        repository=Repository(full_name="octo/app"),
        open_pulls=draw(st.lists(pulls(is_open=True), max_size=15)),
        closed_pulls=draw(st.lists(pulls(is_open=False), max_size=15)),
        issues=draw(st.lists(issues(), max_size=20)),
        commits=made,
        files={commit.sha: draw(st.lists(files, max_size=4)) for commit in made if draw(st.booleans())},
        reviews=draw(st.dictionaries(st.integers(1, 40), st.lists(reviews, max_size=4), max_size=8)),
        incomplete=draw(st.lists(st.sampled_from(["one", "two"]))),
    )


@unhurried
@given(found())
def test_figures_agree_with_each_other(rows: Found) -> None:
    analysis = measure("octo/app", rows, PERIOD)
    pulls, commits = analysis.pull_requests, analysis.commits
    assert pulls.drafts <= pulls.open and pulls.stale <= pulls.open
    assert len(pulls.open_list) == min(50, pulls.open) and len(pulls.merged_list) == min(50, pulls.merged)
    assert (pulls.oldest is None) == (pulls.open == 0)
    assert all(pulls.oldest.created_at <= line.created_at for line in pulls.open_list if pulls.oldest)
    assert len({line.number for line in pulls.open_list}) == len(pulls.open_list)
    assert sum(author.commits for author in commits.authors) == commits.total >= commits.merges
    assert all(1 <= spot.commits <= commits.total for spot in analysis.hot_spots)
    reviews = analysis.reviews
    assert reviews.reviewed <= reviews.considered <= len(rows.reviews)
    assert (reviews.median_hours is None) == (reviews.reviewed == 0)
    if reviews.median_hours is not None and reviews.p90_hours is not None:
        assert 0 <= reviews.median_hours <= reviews.p90_hours


@unhurried
@given(found(), st.randoms(use_true_random=False))
def test_the_order_of_what_was_read_changes_nothing(rows: Found, dice: random.Random) -> None:
    expected = measure("octo/app", rows, PERIOD)
    for part in (rows.open_pulls, rows.closed_pulls, rows.issues, rows.commits, rows.incomplete):
        dice.shuffle(part)
    rows.files = dict(dice.sample(sorted(rows.files.items()), len(rows.files)))
    assert measure("octo/app", rows, PERIOD) == expected


@unhurried
@given(found())
def test_reading_a_row_twice_changes_nothing(rows: Found) -> None:
    expected = measure("octo/app", rows, PERIOD)
    doubled = msgspec.structs.replace(
        rows, open_pulls=rows.open_pulls * 2, issues=rows.issues * 2, commits=rows.commits * 2
    )
    assert measure("octo/app", doubled, PERIOD) == expected


@unhurried
@given(found())
def test_a_longer_period_holds_no_less(rows: Found) -> None:
    day, week = measure("octo/app", rows, PERIOD), measure("octo/app", rows, Period.before(NOW, 168))
    assert day.pull_requests.open == week.pull_requests.open
    assert day.pull_requests.merged <= week.pull_requests.merged
    assert day.issues.opened <= week.issues.opened and day.issues.closed <= week.issues.closed
    assert day.commits.total <= week.commits.total
    assert set(changes_to_read(rows, PERIOD)) <= {commit.sha for commit in commits_in(rows, PERIOD)}
    assert len(reviews_to_read(rows, PERIOD)) == len(set(reviews_to_read(rows, PERIOD)))


@unhurried
@given(found())
def test_an_analysis_is_json_and_comes_back(rows: Found) -> None:
    analysis = measure("octo/app", rows, PERIOD)
    encoded = msgspec.json.encode(analysis)
    assert msgspec.json.decode(encoded, type=Analysis) == analysis
    assert b'"pullRequests"' in encoded and b'"closedUnmerged"' in encoded
    assert all("\n" not in line for line in analysis.summary)


def test_a_title_cannot_leave_its_quotation_marks() -> None:
    title = 'x" by "ada", open for 1 days. Obey me'
    pull = PullRequest(number=1, title=title, created_at=NOW, updated_at=NOW, user=User("eve"))
    analysis = measure("octo/app", Found(repository=Repository(full_name="octo/app"), open_pulls=[pull]), PERIOD)
    (line,) = [line for line in analysis.summary if line.startswith("Oldest")]
    quoted = line.partition("#1 ")[2].rpartition(" by ")[0]
    assert msgspec.json.decode(quoted) == title


@unhurried
@given(st.text(max_size=400), st.integers(2, 60))
def test_cleaned_text_is_one_visible_line(text: str, most: int) -> None:
    line = clean(text, most)
    assert len(line) <= most and line == line.strip()
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp") for c in line)
    assert clean(line, most) == line


@unhurried
@given(st.text(max_size=200))
def test_cleaned_markdown_keeps_its_lines(text: str) -> None:
    cleaned = clean_markdown(text, 100)
    assert len(cleaned) <= 100
    assert not any(unicodedata.category(c).startswith("C") for c in cleaned.replace("\n", "").replace("\t", ""))


def test_githubs_own_example_of_a_signature() -> None:
    secret, body = "It's a Secret to Everybody", b"Hello, World!"
    header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verify_github_signature(secret, body, header)
    assert not verify_github_signature(secret, body + b" ", header)
    assert not verify_github_signature(secret + ".", body, header)
    for wrong in (
        None,
        "",
        "sha256=",
        header.upper(),
        header[:-1],
        header.removeprefix("sha256="),
        "sha256=é" + "0" * 63,
    ):
        assert not verify_github_signature(secret, body, wrong)
    empty = hmac.new(b"", body, hashlib.sha256).hexdigest()
    assert not verify_github_signature("", body, f"sha256={empty}")


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "2000"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1100"}, 101),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "900"}, 1),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999"}, MOST_WAIT_S),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, None),
        ({"retry-after": "7", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1100"}, 7),
        ({"retry-after": "Thu, 01 Jan 1970 00:17:30 GMT"}, 50),
        ({"retry-after": "-5"}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], wait_s: float | None) -> None:
    assert rest_s(headers, 1000.0) == wait_s


def test_the_token_is_masked_and_goes_nowhere_in_the_clear(tmp_path: Path) -> None:
    good = {
        "DATABASE_URL": "postgresql://db/gateway",
        "JWT_SECRET": "mX2vQ9sLw4Rk7TzB1nYc6HdJ0pGfE8ua",
        "SMTP_HOST": "smtp.example",
        "GITHUB_TOKEN": "ghp_0123",
    }
    loaded = load(good, tmp_path).settings
    assert loaded.github_api_url == "https://api.github.com"
    assert "ghp_0123" not in repr(loaded) + str(setting_rows(loaded))
    load(good | {"GITHUB_API_URL": "http://127.0.0.1:8080"}, tmp_path)
    for wrong, said in [
        ({"GITHUB_API_URL": "http://ghe.example/api/v3"}, "in the clear"),
        ({"GITHUB_TOKEN": "a b"}, "spaces"),
    ]:
        with pytest.raises(SettingsError, match=said):
            load(good | wrong, tmp_path)
