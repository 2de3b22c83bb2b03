"""What pages do to text before anybody reads it: masks, groups of errors, the search box, times."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gateway.infra.log import MASK, mask_text
from gateway.masking import CONTENT_MASK, DEEP_MASK, DEPTH_MAX, SHOWN_MAX, MaskLeft, masked, pretty, unmasked
from gateway.problem import Problem
from gateway.web.dashboard.failures import Failure, grouped, normalised
from gateway.web.dashboard.look import clipped, duration, moment, visible
from gateway.web.dashboard.search_box import parse_box

PEM = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "key",
    [
        *("password", "apiKey", "api_key", "X-Auth-Token", "clientSecret", "AUTHORIZATION", "privateKey", "cookies"),
        *("secretKey", "AWS_SECRET_ACCESS_KEY", "accessKey", "credentials", "jwt", "bearer", "tokens"),
    ],
)
def test_secrets_are_masked_by_their_key_at_any_depth(key: str) -> None:
    assert masked({"a": [{key: {"deep": 1}}]}, content=True) == {"a": [{key: MASK}]}


def test_numbers_of_tokens_are_no_secrets() -> None:
    usage = {"inputTokens": 5, "output_tokens": 7}
    assert masked(usage, content=False) == usage


def test_what_people_wrote_is_for_those_who_may_read_it() -> None:
    args = {"message": "hello", "userId": 7, "token": None}
    assert masked(args, content=True) == args
    assert masked(args, content=False) == {"message": CONTENT_MASK, "userId": 7, "token": None}


def test_masks_that_were_left_alone_stand_for_what_they_hide() -> None:
    original = {"password": "hunter2", "list": [{"token": "t"}], "n": 1}
    edited = masked(original, content=True) | {"n": 2}
    assert unmasked(edited, original) == original | {"n": 2}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://user:pass@word@db:5432/app", "postgres://user:•••@db:5432/app"),
        ("see https://ada:hunter2@host/x?a=1, please", "see https://ada:•••@host/x?a=1, please"),
        ("host=db user=ada password=hunter2 dbname=app", "host=db user=ada password=••• dbname=app"),
        ("https://host/hook?token=hunter2&n=1", "https://host/hook?token=•••&n=1"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer •••"),
        ("Basic YWRhOmh1bnRlcjI=", "Basic •••"),
        ("key sk-proj-hunter2hunter2hunter2", "key sk-•••"),
        ("ghp_hunter2hunter2hunter2 xoxb-1234567890-hunter2", "ghp_••• xoxb-•••"),
        (f"{PEM[0]}\nhunter2\n{PEM[1]}\n", f"{PEM[0]}•••{PEM[1]}\n"),
        ("smtp://ada@example.com:hunter2@mail.example", "smtp://ada@example.com:•••@mail.example"),
        ("postgres://user:hunter/2@db/app", "postgres://user:•••@db/app"),
        ("redis://h1:6379,redis://ada:hunter2@h2", "redis://h1:6379,redis://ada:•••@h2"),
        ("next=https%3A%2F%2Fada%3Ahunter2%40host%2F", "next=https%3A%2F%2Fada%3A•••%40host%2F"),
        ("next=%2Fhook%3Ftoken%3Dhunter2", "next=%2Fhook%3Ftoken%3D•••"),
        ("password='hunter 2' host=db", "password=••• host=db"),
        ('{"password": "hun\\"ter2", "n": 1}', '{"password": "•••", "n": 1}'),
        ('{"a": "{\\"api_key\\": \\"hunter2\\", \\"n\\": 1}"}', '{"a": "{\\"api_key\\": \\"•••\\", \\"n\\": 1}"}'),
        ("{'db_password': 'hunter2', 'n': 1}", "{'db_password': '•••', 'n': 1}"),
        ("Cookie: sid=hunter2; a=b\r\nHost: host", "Cookie: •••\r\nHost: host"),
        ("X-Api-Key: hunter2", "X-Api-Key: •••"),
        ("abc-eyJhbGciOi.eyJzdWIi.c2ln", "abc-•••"),
    ],
)
def test_secrets_within_texts_are_masked(text: str, shown: str) -> None:
    assert masked({"a": [text]}, content=True) == {"a": [shown]}
    assert unmasked({"a": [shown], "n": 2}, {"a": [text]}) == {"a": [text], "n": 2}


@pytest.mark.parametrize(
    "text",
    [
        "the basic understanding of it",
        "a task-force of risk-assessment-professionals-abroad",
        "https://host:8080/path and ada@example.com",
        "a = b, tokens=12",
        "https://host:3000/@ada and http://[::1]:80/@ada",
        "https://host?at=12:30&mail=ada@example.com",
        '{"n": 1, "tokens": 12, "password": null}',
        "Invalid password: too short",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert masked(text, content=True) == text


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000 + " ://@",
        "eyJ-" * 50_000,
        "a'" * 100_000 + " @",
        "://:" * 50_000 + " @",
        "cookie:" * 30_000,
        "password'" + " " * 200_000,
        'password\\":\\"' * 15_000,
    ],
    ids=["scheme", "token", "address", "authority", "header", "key", "quotes"],
)
def test_long_texts_are_looked_through_once(text: str) -> None:
    before = time.process_time()
    mask_text(text)
    assert time.process_time() - before < 5  # some of these once took minutes


@pytest.mark.parametrize(
    ("edited", "where"),
    [
        ({"new": MASK}, "new"),
        ({"dsn": "postgres://user:•••@elsewhere/app"}, "dsn"),
        ({"list": [{"token": MASK}, {"token": MASK}]}, "list.0.token"),
    ],
)
def test_a_mask_with_nothing_known_behind_it_is_refused(edited: Any, where: str) -> None:
    original = {"dsn": "postgres://user:hunter2@db/app", "list": [{"token": "a"}, {"token": "b"}, {"token": "c"}]}
    with pytest.raises(MaskLeft) as refused:
        unmasked(edited, original)
    assert refused.value.path == where


def test_masks_find_what_they_hide_in_a_list_that_was_changed() -> None:
    original = [{"n": 1, "token": "a"}, {"n": 2, "token": "b"}, "https://u:pw@host/"]
    shown = masked(original, content=True)
    assert unmasked([shown[2], shown[1]], original) == [original[2], original[1]]


def test_hidden_values_go_with_the_items_that_change_places() -> None:
    original = [{"n": 1, "token": "a"}, {"n": 2, "token": "b"}, {"n": 3, "token": "c"}]
    first, second, third = masked(original, content=True)
    assert unmasked([second, first, third], original) == [original[1], original[0], original[2]]
    assert unmasked([first, second | {"n": 9}, third], original) == [original[0], {"n": 9, "token": "b"}, original[2]]
    with pytest.raises(MaskLeft):  # the third one's place, but not the third one
        unmasked([first, third, second | {"n": 9}], original)
    alike = [{"token": "a"}, {"token": "b"}]
    assert unmasked(masked(alike, content=True), alike) == alike


def test_what_is_nested_deeper_than_functions_go_is_cut_and_kept_by_a_replay() -> None:
    deep: Any = {"password": "hunter2"}
    for level in range(2 * DEPTH_MAX):
        deep = {"a": deep} if level % 2 else [deep]
    shown = masked({"n": 1, "deep": deep}, content=True)
    assert DEEP_MASK in pretty(shown)
    assert "hunter2" not in pretty(shown)
    assert unmasked(shown | {"n": 2}, {"n": 1, "deep": deep}) == {"n": 2, "deep": deep}
    for _ in range(400):  # JSON may be so deep, a function may not call itself so often
        deep = [deep]
    assert DEEP_MASK in pretty(masked(deep, content=True))


def test_a_huge_document_is_shown_in_part() -> None:
    text = pretty({"a": "x" * 2_000_000})
    assert len(text) < SHOWN_MAX + 100
    assert text.endswith("more characters")


def test_numbers_of_any_size_stay_as_they_are() -> None:
    assert "9007199254740993" in pretty({"n": 9007199254740993})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("550 no mailbox ada@example.com", "550 no mailbox bob@example.org"),
        ("job 0198c1d2-0000-7000-8000-000000000001 gone", "job 0198c1d2-0000-7000-8000-000000000002 gone"),
        ("mail 01J9K3ZZ5T7Q8R2XW4V6B0N1MC lost", "mail 01J9K3ZZ5T7Q8R2XW4V6B0N1MD lost"),
        ("SMTP 451 at try 123", "SMTP 451 at try 512"),
        ("after 600 s, try 12345", "after 600 s, try 7"),
        ("GET https://a.example/x?y=1 failed\ntraceback 1", "GET https://a.example/z failed\ntraceback 2"),
    ],
)
def test_errors_that_differ_in_ids_are_one(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_reply_codes_tell_errors_apart() -> None:
    assert normalised("SMTP 550 no") != normalised("SMTP 451 no")


def test_groups_come_the_largest_first_and_can_be_searched_for() -> None:
    ids = [UUID(int=n) for n in range(5)]
    failures = [
        Failure(id=ids[n], queue="q", error=f"no mailbox u{n}@x.example", at=NOW + timedelta(hours=n)) for n in range(4)
    ]
    first, second = grouped([*failures, Failure(id=ids[4], queue="q", error="", at=NOW)])
    assert (first.count, first.part, first.first_at, first.last_at) == (4, "^no mailbox", NOW, NOW + timedelta(hours=3))
    assert first.samples == [ids[3], ids[2], ids[1]]
    assert (second.error, second.part) == ("(no message)", None)


@pytest.mark.parametrize(
    ("error", "part"),
    [
        ("refused: 550 5.2.2 Mailbox is full", "^refused: 550 * Mailbox is full$"),
        ('<img src="x">\u202e of 17.5, 1234', "^<img src=*x*>* of *,"),
        ("7 1234", None),
        ("x" * 400, f"^{'x' * 150}"),
        ("x" * 149 + "$" + "x" * 50, f"^{'x' * 149}"),
        ("No route\nTraceback", "^No route$"),
        (" $ are left \n", "$ are left"),
    ],
)
def test_a_group_is_found_by_what_its_errors_have_in_common(error: str, part: str | None) -> None:
    (group,) = grouped([Failure(id=UUID(int=1), queue="q", error=error, at=NOW)])
    assert group.part == part
    assert part is None or parse_box(f'error:"{part}"', content=False) == {"error": part}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("0198c1", {"q": "0198c1"}),
        ('to:ada@a.example error:"so full" 01', {"recipient": "ada@a.example", "error": "so full", "q": "01"}),
        ("ada@a.example failed", {"recipient": "ada@a.example", "q": "failed"}),
        ('"ada@a.example"', {"q": "ada@a.example"}),
        ("receipt:ada@a.example", {"q": "receipt:ada@a.example"}),
        ("tag:kind:receipt status:failed", {"tag": "kind:receipt", "state": "failed"}),
        ("args.userId:42", {"q": "args.userId:42"}),
        ("connection refused", {"q": "connection refused"}),
        ("key:receipt:54", {"q": "key:receipt:54"}),
        ('"', {"q": '"'}),
    ],
)  # fmt: skip
def test_the_search_box_understands(text: str, found: dict[str, str]) -> None:
    assert parse_box(text, content=True) == found


@pytest.mark.parametrize(
    "text", ["x" * 501, "to:a@b.c to:d@e.f", "to:a@b.c d@e.f", "args.password:a", "args.a.token:b"]
)
def test_the_search_box_refuses(text: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_box(text, content=True)
    assert refused.value.status == 400


def test_viewers_cannot_guess_what_is_hidden_from_them() -> None:
    with pytest.raises(Problem):
        parse_box("args.message:secret plan", content=False)
    assert parse_box("args.message:plan", content=True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a\u202eb", "a\\u202eb"), ("a\x00b", "a\\u0000b"), ("\u200bz", "\\u200bz"), ("é\n", "é\n"), (7, 7), (None, None)],
)
def test_nothing_is_hidden_in_text(value: Any, shown: Any) -> None:
    assert visible(value) == shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0.091, "91 ms"),
        (2.6, "2.6 s"),
        (41, "41 s"),
        (200, "3 m 20 s"),
        (3600, "1 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_times_say_the_exact_one_too() -> None:
    shown = str(moment(datetime.now(UTC) - timedelta(minutes=2)))
    assert "2 m ago" in shown
    assert 'datetime="20' in shown
    assert "in 1 h" in str(moment(datetime.now(UTC) + timedelta(hours=1)))


def test_long_text_is_one_line() -> None:
    assert clipped("a\nb  c") == "a b c"
    assert len(clipped("x" * 1_000_000)) == 120
