"""Reading e-mails from strangers: what is accepted, and how everything wrong is named."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.problem import Problem
from gateway.services.email.addresses import parse_address
from gateway.services.email.batch import read_batch
from gateway.services.email.drafts import ATTACHMENT_BYTES_MAX, MAIL_FIELDS, read_draft, read_resend, read_scheduled_at
from gateway.services.email.fields import Problems, decode_json, iso_instant, snake_case
from gateway.services.email.listing import PARAMETERS, read_filter, read_include
from gateway.services.email.openapi import MAIL, QUERY
from gateway.services.email.schemas import Draft, EmailJobData, EmailJobResult

SHOP = parse_address("Shop <shop@shop.example>")
INJECTIONS = ("a\r\nBcc: x@example.com", "a\nb", "a\rb", "a\x00b")


def mail(**fields: Any) -> dict[str, Any]:
    return {"to": "ada@example.com", "subject": "Hello", "text": "It works", **fields}


def read(raw: Any) -> Draft:
    problems = Problems()
    draft = read_draft(raw, SHOP, problems)
    assert draft is not None, problems.details()
    return draft


def refused(raw: Any) -> Problem:
    problems = Problems()
    assert read_draft(raw, SHOP, problems) is None
    return problems.as_problem()


def fields_of(raw: Any) -> list[str]:
    return [detail["field"] for detail in refused(raw).details]


def file(content: bytes = b"hi", **fields: Any) -> dict[str, Any]:
    return {"filename": "a.txt", "content": base64.b64encode(content).decode(), **fields}


def test_the_smallest_mail_has_the_default_sender_and_priority() -> None:
    draft = read({"to": "ada@example.com", "html": "<p>hi</p>"})
    assert (draft.sender.header, draft.priority, draft.subject) == ("Shop <shop@shop.example>", 0, "")
    assert [address.addr for address in draft.to] == ["ada@example.com"]


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert read(mail(priority=5.0)).priority == 5
    assert refused(mail(priority=5.5)).details[0]["message"] == "must be a whole number, not 5.5"


def test_white_space_around_a_header_is_dropped() -> None:
    assert read(mail(headers={"X-Note": " grüße ", "References": "<a@b> "})).headers == {
        "X-Note": "grüße",
        "References": "<a@b>",
    }


def test_every_field_arrives() -> None:
    draft = read(
        mail(
            **{"from": "Bob <bob@shop.example>"},
            to=["a@example.com", "B <b@example.com>"],
            cc="c@example.com",
            bcc=["d@example.com"],
            replyTo="r@example.com",
            html="<p>hi</p>",
            attachments=[file(b"\x00\xff", contentType="image/png", contentId="<logo>")],
            headers={"X-Order": "17"},
            tags=[{"name": "plan", "value": "pro"}],
            metadata={"order": {"id": 17}},
            priority=10,
            category="receipt",
            stream="transactional",
            scheduledAt="2026-12-25T10:00:00+01:00",
            referenceType="order",
            referenceId="17",
            test="bounced",
        )
    )
    assert draft.sender.name == "Bob"
    assert [address.addr for address in draft.to] == ["a@example.com", "b@example.com"]
    assert (draft.cc[0].addr, draft.bcc[0].addr, draft.reply_to[0].addr) == (
        "c@example.com",
        "d@example.com",
        "r@example.com",
    )
    assert (draft.attachments[0].content, draft.attachments[0].content_id) == (b"\x00\xff", "logo")
    assert (draft.headers, draft.metadata) == ({"X-Order": "17"}, {"order": {"id": 17}})
    assert draft.tags == [{"name": "plan", "value": "pro"}]
    assert (draft.priority, draft.category, draft.stream) == (10, "receipt", "transactional")
    assert draft.scheduled_at == datetime(2026, 12, 25, 9, tzinfo=UTC)
    assert (draft.reference_type, draft.reference_id, draft.simulate) == ("order", "17", "bounced")


def test_the_hosted_services_spellings_are_accepted() -> None:
    draft = read(
        mail(
            reply_to="r@example.com",
            scheduled_at="2026-12-25T09:00:00Z",
            reference_type="order",
            attachments=[file(content_type="text/csv", content_id="x")],
        )
    )
    assert draft.reply_to[0].addr == "r@example.com"
    assert draft.scheduled_at == datetime(2026, 12, 25, 9, tzinfo=UTC)
    assert (draft.reference_type, draft.attachments[0].content_type) == ("order", "text/csv")


def test_both_spellings_of_one_field_are_a_problem() -> None:
    assert fields_of(mail(replyTo="r@example.com", reply_to="s@example.com")) == ["replyTo"]


def test_all_problems_are_named_at_once() -> None:
    problem = refused(
        {"to": ["ok@example.com", "nobody", 5], "cc": "x@", "subjet": "a", "priority": 11, "scheduledAt": "tomorrow"}
    )
    assert (problem.status, problem.code) == (400, "validation_error")
    assert {detail["field"] for detail in problem.details} == {
        "to[1]",
        "to[2]",
        "cc",
        "subjet",
        "priority",
        "scheduledAt",
        "text",
    }
    assert problem.message.startswith("7 fields need attention")


def test_an_unknown_field_is_answered_with_the_nearest_known_one() -> None:
    assert refused(mail(subjet="x")).details == [
        {"field": "subjet", "message": 'unknown field; did you mean "subject"?'}
    ]
    assert "known fields are from, to" in refused(mail(zzz=1)).details[0]["message"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"to": None}, "to"),
        ({"to": []}, "to"),
        ({"to": ""}, "to"),
        ({"to": 5}, "to"),
        ({"to": {"email": "a@example.com"}}, "to"),
        ({"to": [f"a{n}@example.com" for n in range(51)]}, "to"),
        ({"cc": [f"a{n}@example.com" for n in range(51)]}, "cc"),
        ({"from": "nobody"}, "from"),
        ({"from": ["a@example.com"]}, "from"),
        ({"subject": 5}, "subject"),
        ({"subject": "x" * 999}, "subject"),
        ({"html": 5}, "html"),
        ({"text": ["x"]}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"html": "a\x00b"}, "html"),
        ({"priority": 11}, "priority"),
        ({"priority": -1}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"priority": 5.5}, "priority"),
        ({"headers": ["x"]}, "headers"),
        ({"headers": {"X-A": 5}}, "headers.X-A"),
        ({"headers": {"Bcc": "x@example.com"}}, "headers.Bcc"),
        ({"headers": {"content-type": "text/html"}}, "headers.content-type"),
        ({"headers": {f"X-{n}": "v" for n in range(51)}}, "headers"),
        ({"tags": {"a": "b"}}, "tags"),
        ({"tags": ["a"]}, "tags[0]"),
        ({"tags": [{"value": "x"}]}, "tags[0].name"),
        ({"tags": [{"name": "a", "valeu": "x"}]}, "tags[0].valeu"),
        ({"tags": [{"name": "a"}] * 51}, "tags"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": "x" * 70_000}}, "metadata"),
        ({"metadata": {"a": ["\x00"]}}, "metadata"),
        ({"metadata": {"a\x00": 1}}, "metadata"),
        ({"scheduledAt": "2026-12-25T09:00:00"}, "scheduledAt"),
        ({"scheduledAt": "2026-12-25"}, "scheduledAt"),
        ({"scheduledAt": 1735117200}, "scheduledAt"),
        ({"scheduledAt": "0001-01-01T00:00:00+14:00"}, "scheduledAt"),
        ({"test": "exploded"}, "test"),
        ({"attachments": [file()] * 11}, "attachments"),
        ({"attachments": ["x"]}, "attachments[0]"),
        ({"attachments": [{"filename": "a.txt", "content": "not base64!"}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a.txt", "content": "aGk"}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a.txt", "content": "aGk=\n"}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a.txt", "content": "aGk=aGk="}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a.txt"}]}, "attachments[0].content"),
        ({"attachments": [{"content": "aGk="}]}, "attachments[0].filename"),
        ({"attachments": [file(filename="../../etc/passwd")]}, "attachments[0].filename"),
        ({"attachments": [file(contentType="nonsense")]}, "attachments[0].contentType"),
        ({"attachments": [file(contentType="multipart/mixed")]}, "attachments[0].contentType"),
        ({"attachments": [file(contentId="a b")]}, "attachments[0].contentId"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    problem = refused(mail(**changes))
    assert (problem.status, problem.code) == (400, "validation_error")
    assert [detail["field"] for detail in problem.details] == [field]


@pytest.mark.parametrize("value", INJECTIONS)
@pytest.mark.parametrize(
    "place",
    ["from", "to", "cc", "bcc", "replyTo", "subject", "category", "stream", "referenceType", "referenceId"],
)
def test_no_line_break_reaches_a_header(place: str, value: str) -> None:
    address = place in {"from", "to", "cc", "bcc", "replyTo"}
    assert fields_of(mail(**{place: f"{value} <a@example.com>" if address else value})) == [place]


@pytest.mark.parametrize("value", INJECTIONS)
def test_no_line_break_reaches_a_header_through_nested_fields(value: str) -> None:
    assert len(fields_of(mail(headers={"X-A": value}))) == 1
    assert len(fields_of(mail(headers={f"X-{value}": "a"}))) == 1
    assert fields_of(mail(tags=[{"name": value, "value": value}])) == ["tags[0].name", "tags[0].value"]
    for name in ("filename", "contentType", "contentId"):
        assert fields_of(mail(attachments=[file(**{name: value})])) == [f"attachments[0].{name}"]


def test_a_mail_without_content_is_422() -> None:
    for raw in ({"to": "a@example.com"}, mail(text=""), mail(text=None, html="")):
        problem = refused(raw)
        assert (problem.status, problem.code) == (422, "missing_content")


@pytest.mark.parametrize("field", ["template", "template_id", "tracking"])
def test_what_comes_later_is_refused_and_not_ignored(field: str) -> None:
    problem = refused({"to": "a@example.com", field: {"slug": "welcome"}, "text": "x"})
    assert (problem.status, problem.code) == (422, "unsupported_field")
    assert "not supported by this version" in problem.message


def test_attachments_by_address_are_refused() -> None:
    problem = refused(mail(attachments=[{"filename": "a", "url": "http://169.254.169.254/"}]))
    assert (problem.status, [detail["field"] for detail in problem.details]) == (422, ["attachments[0].url"])


def test_attachments_over_10_mb_are_413() -> None:
    half = ATTACHMENT_BYTES_MAX // 2
    assert len(read(mail(attachments=[file(b"a" * half), file(b"b" * half)])).attachments) == 2
    problem = refused(mail(attachments=[file(b"a" * half), file(b"b" * (half + 1))]))
    assert (problem.status, problem.code) == (413, "attachments_too_large")
    assert problem.details[0]["field"] == "attachments"


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert read(mail(metadata={"path": "C:\\u0000"})).metadata == {"path": "C:\\u0000"}


def test_without_a_default_sender_from_is_required() -> None:
    problems = Problems()
    assert read_draft(mail(), None, problems) is None
    assert [problem.field for problem in problems.found] == ["from"]


@pytest.mark.parametrize("raw", [[], "x", 5, None, True])
def test_a_mail_is_an_object(raw: Any) -> None:
    assert "JSON object" in refused(raw).message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["to", "html", "headers", "tags", "attachments", "filename", "name"]) | st.text(),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_whatever_comes_is_answered_and_never_raises(raw: Any) -> None:
    problems = Problems()
    draft = read_draft(raw, SHOP, problems)
    assert (draft is None) == bool(problems.found)


def test_bodies_that_are_no_json_are_400() -> None:
    for body in (b"", b"  ", b"{", b"\xff\xfe", b"{'a': 1}", b"[" * 100_000, b'{"a": "\\ud800"}'):
        with pytest.raises(Problem) as caught:
            decode_json(body)
        assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_a_strict_batch_with_a_bad_mail_is_refused_with_all_errors() -> None:
    with pytest.raises(Problem) as caught:
        read_batch([mail(), mail(to="nobody"), {"to": "a@example.com"}], "strict", SHOP)
    assert caught.value.status == 422
    assert [(error["index"], error["code"]) for error in caught.value.details] == [
        (1, "validation_error"),
        (2, "missing_content"),
    ]


def test_a_permissive_batch_keeps_the_good_mails() -> None:
    batch = read_batch([mail(subject="1"), mail(to="nobody"), mail(subject="3")], "permissive", SHOP)
    assert [draft.subject for draft in batch.drafts] == ["1", "3"]
    assert [error["index"] for error in batch.errors] == [1]


@pytest.mark.parametrize(
    ("raw", "validation", "status"),
    [({}, "strict", 400), ([], "strict", 422), ([mail()] * 101, "strict", 422), ([mail()], "lenient", 400)],
)
def test_what_is_no_batch_is_refused(raw: Any, validation: str, status: int) -> None:
    with pytest.raises(Problem) as caught:
        read_batch(raw, validation, SHOP)
    assert caught.value.status == status


def test_a_batch_has_at_most_1_mb_of_attachments() -> None:
    most = [mail(attachments=[file(b"x" * 524_288)])] * 2
    assert len(read_batch(most, "strict", SHOP).drafts) == 2
    with pytest.raises(Problem) as caught:
        read_batch([*most, mail(attachments=[file(b"x")])], "permissive", SHOP)
    assert (caught.value.status, caught.value.code) == (413, "attachments_too_large")


def test_a_list_query_is_read() -> None:
    wanted, limit = read_filter(
        {"status": "sent", "to": "Ada <Ada@Example.com>", "tag": "plan:pro", "from": "2026-01-01T00:00:00Z"}, "ann"
    )
    assert (wanted.owner, wanted.status, wanted.recipient, limit) == ("ann", "sent", "ada@example.com", 50)
    assert wanted.tag == {"name": "plan", "value": "pro"}
    assert wanted.since == datetime(2026, 1, 1, tzinfo=UTC)
    assert read_filter({"tag": "plan"}, None)[0].tag == {"name": "plan"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "snet"}, "status"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "99999999999999999999"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"from": "2026-01-01"}, "from"),
        ({"until": "now"}, "until"),
        ({"cursor": "!!"}, "cursor"),
        ({"cursor": "aGVsbG8"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"to": "a\x00"}, "to"),
        ({"tag": "a\x00"}, "tag"),
        ({"statsu": "sent"}, "statsu"),
    ],
)
def test_a_bad_list_query_is_named(query: dict[str, str], field: str) -> None:
    with pytest.raises(Problem) as caught:
        read_filter(query, None)
    assert (caught.value.status, caught.value.details[0]["field"]) == (400, field)


def test_include_takes_three_words() -> None:
    assert read_include("body, events,attempts") == {"body", "events", "attempts"}
    assert read_include(None) == set()
    with pytest.raises(Problem):
        read_include("body,secrets")


def test_patch_and_resend_bodies() -> None:
    assert read_scheduled_at({"scheduled_at": "2026-12-25T09:00:00Z"}) == datetime(2026, 12, 25, 9, tzinfo=UTC)
    assert [address.addr for address in read_resend({"to": "a@example.com"})] == ["a@example.com"]
    assert read_resend({}) == []
    for bad in ([], {}, {"scheduledAt": None}, {"scheduledAt": "2026-12-25"}, {"scheduldAt": "x"}):
        with pytest.raises(Problem):
            read_scheduled_at(bad)
    for other in ([], {"to": []}, {"to": "nobody"}, {"too": "a@example.com"}):
        with pytest.raises(Problem):
            read_resend(other)


def test_job_data_and_result_have_the_documents_keys() -> None:
    data = EmailJobData(queue_id="q", priority=5, user_id="u")
    assert msgspec.to_builtins(data) == {"queueId": "q", "priority": 5, "userId": "u"}
    assert EmailJobResult(success=True, message_id="<a@b>").as_json() == {"success": True, "messageId": "<a@b>"}
    assert EmailJobResult(success=False, error="no").as_json() == {"success": False, "error": "no"}


def test_instants_need_a_zone() -> None:
    assert iso_instant("2026-12-25T10:00:00+01:00") == datetime(2026, 12, 25, 9, tzinfo=UTC)
    with pytest.raises(ValueError, match="no time zone"):
        iso_instant("2026-12-25T10:00:00")


def test_snake_case() -> None:
    assert [snake_case(name) for name in ("replyTo", "to", "referenceId")] == ["reply_to", "to", "reference_id"]


def test_the_documented_fields_are_those_that_are_read() -> None:
    assert set(MAIL.properties or {}) == set(MAIL_FIELDS)
    assert set(QUERY) == set(PARAMETERS)
