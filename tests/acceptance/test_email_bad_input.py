"""Bad input over HTTP: every answer is a 4xx that names the field, and nothing is kept."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.mail_app import MailApp, from_now, mail, mail_app

INJECTION = "a\r\nBcc: victim@example.com"


@pytest.fixture
async def app(pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path) -> AsyncIterator[MailApp]:
    async with mail_app(pool, tmp_path) as running:
        yield running


async def refused(app: MailApp, answer: httpx.Response, status: int, code: str) -> list[dict[str, Any]]:
    """Check the error's shape and that nothing was kept; answers the details."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"success", "error"}
    assert body["success"] is False
    assert set(body["error"]) == {"code", "message", "details", "requestId"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    for table in ("emails", "jobs", "email_events", "idempotency_keys"):
        assert await app.pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    details: list[dict[str, Any]] = body["error"]["details"]
    return details


@pytest.mark.parametrize("body", [b"", b"{", b"hello", b"\xff\xfe\x00", b"{'to': 1}", b"[" * 50_000])
@pytest.mark.parametrize("path", ["/emails", "/emails/batch"])
async def test_bodies_that_are_not_json(app: MailApp, path: str, body: bytes) -> None:
    answer = await app.call("POST", path, content=body, headers={"Idempotency-Key": "k"})
    await refused(app, answer, 400, "invalid_json")


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"5", b"null", b"true"])
async def test_bodies_that_are_no_object(app: MailApp, body: bytes) -> None:
    await refused(app, await app.call("POST", "/emails", content=body), 400, "validation_error")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"to": None}, "to"),
        ({"to": [f"a{n}@example.com" for n in range(51)]}, "to"),
        ({"to": ["ada@example.com", "nobody"]}, "to[1]"),
        ({"cc": ["x y@example.com"]}, "cc[0]"),
        ({"bcc": "a@example.com,b@example.com"}, "bcc"),
        ({"priority": 11}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"subjet": "typo"}, "subjet"),
        ({"scheduledAt": "2026-12-25T09:00:00"}, "scheduledAt"),
        ({"expiresAt": "2026-12-25T09:00:00"}, "expiresAt"),
        ({"expiresAt": from_now(seconds=-1)}, "expiresAt"),
        ({"expiresAt": from_now(hours=1), "scheduledAt": from_now(hours=2)}, "expiresAt"),
        ({"expiresAt": 60}, "expiresAt"),
        ({"group": ""}, "group"),
        ({"attachments": [{"filename": "a", "content": "aGk="}] * 11}, "attachments"),
        ({"attachments": [{"filename": "a", "content": "%%%"}]}, "attachments[0].content"),
        ({"metadata": {"a": "\x00"}}, "metadata"),
        ({"text": "a\x00"}, "text"),
        ({"subject": INJECTION}, "subject"),
        ({"from": f"{INJECTION} <a@example.com>"}, "from"),
        ({"to": f"{INJECTION} <a@example.com>"}, "to"),
        ({"replyTo": f"{INJECTION} <a@example.com>"}, "replyTo"),
        ({"headers": {"X-A": INJECTION}}, "headers.X-A"),
        ({"headers": {"Bcc": "victim@example.com"}}, "headers.Bcc"),
        ({"attachments": [{"filename": INJECTION, "content": "aGk="}]}, "attachments[0].filename"),
        ({"attachments": [{"filename": "a", "content": "aGk=", "contentId": INJECTION}]}, "attachments[0].contentId"),
        (
            {"attachments": [{"filename": "a", "content": "aGk=", "contentType": INJECTION}]},
            "attachments[0].contentType",
        ),
    ],
)
async def test_a_bad_field_is_named(app: MailApp, fields: dict[str, Any], field: str) -> None:
    details = await refused(app, await app.call("POST", "/emails", mail(**fields)), 400, "validation_error")
    assert [detail["field"] for detail in details] == [field]


async def test_a_hundred_thousand_problems_are_counted_not_listed(app: MailApp) -> None:
    body = mail(**{f"subject{number:060}": 1 for number in range(100_000)})
    answer = await app.call("POST", "/emails", body)
    details = await refused(app, answer, 400, "validation_error")
    assert len(details) == 51
    assert details[-1] == {"field": "", "message": "and 99950 more"}
    assert answer.json()["error"]["message"].startswith("100000 fields need attention")
    assert len(answer.content) < 20_000
    batch = await app.call("POST", "/emails/batch", [body])
    assert "and 99950 more" in (await refused(app, batch, 422, "validation_error"))[0]["message"]
    endless = await app.call("POST", "/emails", mail(**{"subject" * 1_000_000: 1}))
    assert len(endless.content) < 1000


async def test_an_unknown_field_gets_a_suggestion(app: MailApp) -> None:
    details = await refused(app, await app.call("POST", "/emails", mail(subjet="x")), 400, "validation_error")
    assert 'did you mean "subject"?' in details[0]["message"]


async def test_a_mail_without_content(app: MailApp) -> None:
    await refused(app, await app.call("POST", "/emails", mail(text=None)), 422, "missing_content")


@pytest.mark.parametrize("field", ["template", "tracking"])
async def test_what_comes_later_is_refused(app: MailApp, field: str) -> None:
    await refused(app, await app.call("POST", "/emails", mail(**{field: {}})), 422, "unsupported_field")


async def test_attachments_over_10_mb(app: MailApp) -> None:
    content = base64.b64encode(b"x" * (10 * 1024 * 1024 + 1)).decode()
    fields = mail(attachments=[{"filename": "a.bin", "content": content}])
    details = await refused(app, await app.call("POST", "/emails", fields), 413, "attachments_too_large")
    assert details[0]["field"] == "attachments"


@pytest.mark.parametrize("key", ["", "k" * 257])
async def test_idempotency_keys_out_of_bounds(app: MailApp, key: str) -> None:
    answer = await app.call("POST", "/emails", mail(), headers={"Idempotency-Key": key})
    await refused(app, answer, 400, "invalid_idempotency_key")


async def test_batches_out_of_bounds(app: MailApp) -> None:
    await refused(app, await app.call("POST", "/emails/batch", []), 422, "invalid_batch_size")
    await refused(app, await app.call("POST", "/emails/batch", [mail()] * 101), 422, "invalid_batch_size")
    await refused(app, await app.call("POST", "/emails/batch", mail()), 400, "validation_error")
    odd = await app.call("POST", "/emails/batch", [mail()], headers={"X-Batch-Validation": "lenient"})
    await refused(app, odd, 400, "validation_error")
    large = mail(attachments=[{"filename": "a", "content": base64.b64encode(b"x" * 1_048_577).decode()}])
    await refused(app, await app.call("POST", "/emails/batch", [large]), 413, "attachments_too_large")
    details = await refused(
        app, await app.call("POST", "/emails/batch", [mail(), mail(to="nobody"), 5]), 422, "validation_error"
    )
    assert [(detail["index"], detail["code"]) for detail in details] == [
        (1, "validation_error"),
        (2, "validation_error"),
    ]


@pytest.mark.parametrize("mail_id", ["00000000-0000-4000-8000-000000000000", "not-an-id", "%00", "1"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/events", None),
        ("PATCH", "", {"scheduledAt": from_now(days=1)}),
        ("POST", "/cancel", None),
        ("POST", "/resend", None),
    ],
)
async def test_ids_that_name_no_mail(app: MailApp, method: str, path: str, body: Any, mail_id: str) -> None:
    await refused(app, await app.call(method, f"/emails/{mail_id}{path}", body), 404, "not_found")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=snet", "status"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=000000001999", "limit"),
        ("limit=00000000199999999999999999999999", "limit"),
        ("limit=%D9%A1", "limit"),
        ("from=2026-01-01T00:00:00", "from"),
        ("until=yesterday", "until"),
        ("cursor=zzz", "cursor"),
        ("tag=%00", "tag"),
        ("to=%00", "to"),
        ("stauts=sent", "stauts"),
    ],
)
async def test_list_queries_that_mean_nothing(app: MailApp, query: str, field: str) -> None:
    details = await refused(app, await app.call("GET", f"/emails?{query}"), 400, "validation_error")
    assert [detail["field"] for detail in details] == [field]


async def test_a_reschedule_without_zone_or_time(app: MailApp) -> None:
    mail_id = await app.send(scheduledAt=from_now(days=1))
    for body in ({"scheduledAt": "2026-12-25T09:00:00"}, {"scheduledAt": 5}, {}, {"when": "now"}, []):
        answer = await app.call("PATCH", f"/emails/{mail_id}", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_error"), body
    assert (await app.show(mail_id))["status"] == "scheduled"


async def test_an_include_that_does_not_exist(app: MailApp) -> None:
    mail_id = await app.send()
    answer = await app.call("GET", f"/emails/{mail_id}?include=body,secrets")
    assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (400, "include")
