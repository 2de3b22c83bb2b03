"""Mails that the development inbox caught, on pages: hostile and broken ones too, and the way out for a chosen one."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from smtplib import SMTP

import pytest
import pytest_asyncio

from gateway.access import Role
from gateway.services.email.pages.preview import POLICY
from gateway.services.email.sandbox import Sandbox
from gateway.services.email.smtp import SmtpPool, SmtpSettings
from tests.support.pages import PAGES, Dashboard, Document
from tests.support.smtp_server import ScriptedSmtp
from tests.support.web import serving, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

PIXEL = b"\x89PNG pixel"
MIXED = b"\r\n".join(
    [
        b"From: =?utf-8?q?Zo=C3=AB?= <zoe@shop.example>",
        b"To: ada@example.com",
        b"Subject: =?utf-8?b?R3LDvMOfZQ==?=",
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/related; boundary="b"',
        b"",
        b"--b",
        b"Content-Type: text/html; charset=iso-8859-1",
        b"",
        b'<p style="color: red">Gr\xfc\xdfe</p><img src="cid:logo@x"><script>alert(1)</script>',
        b"--b",
        b"Content-Type: image/png",
        b"Content-ID: <logo@x>",
        b'Content-Disposition: inline; filename="l.png"',
        b"Content-Transfer-Encoding: base64",
        b"",
        b64encode(PIXEL),
        b"--b",
        b"Content-Type: text/html",
        b"Content-Disposition: attachment; filename*=utf-8''..%2F..%2Fevil%E2%80%AEgnp.html",
        b"",
        b"<script>alert(2)</script>",
        b"--b--",
        b"",
    ]
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real() -> AsyncIterator[ScriptedSmtp]:
    server = ScriptedSmtp()
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(real: ScriptedSmtp) -> AsyncIterator[Sandbox]:
    made = Sandbox(outlet=SmtpPool(SmtpSettings(host="127.0.0.1", port=real.port, tls="none")))
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str, sandbox: Sandbox) -> AsyncIterator[Dashboard]:
    settings = settings_for(shared_database_url, gateway_role="api", smtp_port=sandbox.port, smtp_secure="none")
    async with serving(settings, inbox=sandbox) as (client, runtime):
        yield Dashboard(client, runtime)


@pytest.fixture
def board(shared: Dashboard) -> Dashboard:
    shared.http.cookies.clear()
    shared.sign_in()
    return shared


async def catch(sandbox: Sandbox, raw: bytes, *to: str) -> str:
    """Have it caught, as it is; answers its id."""

    def deliver() -> None:
        with SMTP(sandbox.host, sandbox.port) as client:
            client.sendmail("shop@shop.example", to or ("ada@example.com",), raw)

    await asyncio.to_thread(deliver)
    return sandbox.messages()[0].id


async def test_the_inbox_shows_the_newest_first_and_says_that_nothing_was_sent(
    board: Dashboard, sandbox: Sandbox
) -> None:
    first = await catch(sandbox, b"Subject: one\r\n\r\nx")
    second = await catch(sandbox, b"Subject: two\r\n\r\nx", "ada@example.com", "blind@example.com")
    page = await board.page("/inbox")
    page.sound()
    assert "Caught by the development inbox, not sent." in page.text
    assert "ada@example.com and 1 more" in page.text
    found = [link for link in page.links() if link.startswith(f"{PAGES}/inbox/")]
    assert found[:2] == [f"{PAGES}/inbox/{second}", f"{PAGES}/inbox/{first}"]
    assert f"{PAGES}/inbox" in page.links()


async def test_a_caught_mail_is_read_as_people_do(board: Dashboard, sandbox: Sandbox) -> None:
    mail_id = await catch(sandbox, MIXED, "blind@example.com")
    page = await board.page(f"/inbox/{mail_id}")
    page.sound()
    for words in ("Grüße", "Zoë <zoe@shop.example>", "blind@example.com", "image/png", "Content-ID: <logo@x>"):
        assert words in page.text
    frame = page.all("iframe")[0]
    assert frame["sandbox"] == ""
    body = await board.http.get(frame["src"] or "")
    assert body.headers["content-security-policy"] == POLICY
    assert body.headers["x-frame-options"] == "SAMEORIGIN"
    assert f'<p style="color: red">Grüße</p><img src="data:image/png;base64,{b64encode(PIXEL).decode()}">' in body.text
    file = await board.http.get(f"{PAGES}/inbox/{mail_id}/files/1")
    assert file.content.strip() == b"<script>alert(2)</script>"
    assert file.headers["content-type"] == "application/octet-stream"
    assert file.headers["content-disposition"].startswith('attachment; filename="_.._evil_gnp.html";')
    source = await board.http.get(f"{PAGES}/inbox/{mail_id}/source")
    assert source.content.split() == MIXED.split()
    assert source.headers["content-type"] == "text/plain; charset=utf-8"


PART = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
BROKEN = {
    "nothing": b"",
    "no headers": b"\r\nonly a body",
    "no such charset": b"Content-Type: text/plain; charset=klingon\r\n\r\nhello \xff",
    "no end of a part": PART + b"Content-Type: text/html\r\n\r\n<p>hi",
    "no boundary": b"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\nx",
    "bad base64": b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!=A=",
    "bad encoded word": b"Subject: =?utf-8?b?////?= =?x-no?q?=ZZ?= =?utf-8?q??=\r\nFrom: =?utf-8?q??=\r\n\r\nx",
    "bad addresses": b'From: <<<@>>>, "a\r\nTo: ::;,,<\r\n\r\nx',
    "raw bytes": b"Subject: \xff\xfe\x80 caf\xe9\r\nX-\xff: \xed\xa0\x80\r\n\r\n\xff",
    "a mail inside": b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\n<b>x</b>",
    "deep": PART * 60,
    "bad type": b"Content-Type: text/plain; name*0*=utf-8''%zz; name*9=x\r\n\r\nx",
    "bad disposition": b"Content-Type: image/png\r\nContent-Disposition: =;;filename*=x'y'%ff\r\n\r\nx",
    "turned": "Subject: ab\u202egnp.exe <script>alert(1)</script>\r\nFrom: <\u202e@shop.example>\r\n\r\nx".encode(),
    "many headers": b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + b"\r\nx",
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
async def test_broken_mails_are_shown_harmlessly(board: Dashboard, sandbox: Sandbox, raw: bytes) -> None:
    mail_id = await catch(sandbox, raw)
    for path in ("/inbox", f"/inbox/{mail_id}"):
        answer = await board.http.get(PAGES + path)
        assert answer.status_code == 200
        Document.of(answer.text).sound()
        assert "\u202e" not in answer.text
    asked = {"Accept": "application/json"}
    for path in ("", "/body", "/source", "/files/0", "/files/x", "/files/-1"):
        assert (await board.http.get(f"{PAGES}/inbox/{mail_id}{path}", headers=asked)).status_code in (200, 404)


async def test_a_mail_that_is_not_there_is_a_page_too(board: Dashboard) -> None:
    for path in ("/inbox/none", "/inbox/none/body", "/inbox/none/source", "/inbox/none/files/0"):
        assert "The inbox has no mail" in (await board.page(path, 404)).text
    assert (await board.press("/inbox/none/release")).status_code == 404


async def test_release_sends_it_once_to_its_envelope(board: Dashboard, sandbox: Sandbox, real: ScriptedSmtp) -> None:
    mail_id = await catch(sandbox, b"Subject: out\r\n\r\nhello", "ada@example.com", "blind@example.com")
    page = await board.page(f"/inbox/{mail_id}")
    assert f"{PAGES}/inbox/{mail_id}/release" in page.actions()
    before = len(real.messages)
    answers = await asyncio.gather(*(board.press(f"/inbox/{mail_id}/release") for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [303, 409]
    assert [one.recipients for one in real.messages[before:]] == [["ada@example.com", "blind@example.com"]]
    assert b"hello" in real.messages[before].data
    page = await board.page(f"/inbox/{mail_id}")
    assert "not sent" not in page.text
    assert "which said: 250" in page.text
    assert not page.actions()
    assert (await board.audited())[-1][1:] == ("inbox.release", mail_id)


async def test_a_release_that_is_refused_can_be_tried_again(
    board: Dashboard, sandbox: Sandbox, real: ScriptedSmtp
) -> None:
    mail_id = await catch(sandbox, b"Subject: out\r\n\r\nhello", "no@example.com")
    real.script.rcpt["no@example.com"] = [(550, "5.1.1 nobody here")]
    refused = await board.press(f"/inbox/{mail_id}/release")
    assert refused.status_code == 409
    assert "5.1.1 nobody here" in Document.of(refused.text).text
    assert (await board.press(f"/inbox/{mail_id}/release")).status_code == 303


async def test_viewers_neither_read_nor_release(board: Dashboard, sandbox: Sandbox) -> None:
    mail_id = await catch(sandbox, b"Subject: x\r\n\r\nhello")
    board.sign_in(Role.VIEWER)
    await board.page("/inbox")
    for path in ("", "/body", "/source", "/files/0"):
        await board.page(f"/inbox/{mail_id}{path}", 403)
    assert (await board.press(f"/inbox/{mail_id}/release")).status_code == 403


async def test_without_a_server_release_is_shown_but_greyed(
    board: Dashboard, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_outlet", None)
    mail_id = await catch(sandbox, b"Subject: x\r\n\r\nhello")
    page = await board.page(f"/inbox/{mail_id}")
    page.sound()
    assert [button for button in page.all("button") if "disabled" in button and button["aria-describedby"]]
    assert "Start gateway dev with SMTP_URL set" in page.text
    assert not page.actions()
    assert (await board.press(f"/inbox/{mail_id}/release")).status_code == 409
