from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from litestar import Litestar, Request, Response
from litestar.testing import AsyncTestClient

from gateway.access import PUBLIC
from gateway.problem import Problem
from gateway.services.email import sandbox as sandbox_module
from gateway.services.email.message import Attachment, Mail, build
from gateway.services.email.sandbox import INBOX_PATH, Sandbox, inbox_routes
from gateway.services.email.smtp import SmtpPool, SmtpSettings


def mail(number: int, **changes: object) -> bytes:
    fields: dict[str, object] = {
        "message_id": f"<{number}@shop.example>",
        "from_address": "Zoë's Shop <shop@shop.example>",
        "to": ["ada@example.com"],
        "subject": f"Grüße {number}",
        "text": ".dots\n.\nend",
        "html": '<img src="cid:logo">',
        "attachments": [Attachment(filename="l.png", content_type="image/png", content=b"\0", content_id="logo")],
        "date": datetime.now(UTC),
    }
    return build(Mail(**{**fields, **changes}))  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest_asyncio.fixture
async def pool(sandbox: Sandbox) -> AsyncIterator[SmtpPool]:
    pool = SmtpPool(SmtpSettings(host=sandbox.host, port=sandbox.port, tls="auto"))
    await pool.start()
    yield pool
    await pool.stop()


@pytest_asyncio.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[AsyncTestClient[Litestar]]:
    def answer(_: Request, problem: Problem) -> Response:
        return Response({"code": problem.code, "message": problem.message}, status_code=problem.status)

    app = Litestar(inbox_routes(sandbox), exception_handlers={Problem: answer})
    async with AsyncTestClient(app) as client:
        yield client


async def test_mails_are_listed_newest_first_with_blind_copies(
    sandbox: Sandbox, pool: SmtpPool, client: AsyncTestClient[Litestar]
) -> None:
    await pool.send("shop@shop.example", ["ada@example.com", "blind@example.com"], mail(1))
    await pool.send("shop@shop.example", ["ada@example.com"], mail(2))
    listed = (await client.get(INBOX_PATH)).json()
    assert [sorted(each) for each in listed] == [["from", "id", "receivedAt", "subject", "to"]] * 2
    assert [each["subject"] for each in listed] == ["Grüße 2", "Grüße 1"]
    assert listed[1]["to"] == ["ada@example.com", "blind@example.com"]
    assert listed[1]["from"] == "Zoë's Shop <shop@shop.example>"
    age = datetime.now(UTC) - datetime.fromisoformat(listed[0]["receivedAt"])
    assert timedelta(0) <= age < timedelta(seconds=60)


async def test_one_mail_has_headers_bodies_and_source(pool: SmtpPool, client: AsyncTestClient[Litestar]) -> None:
    data = mail(1)
    await pool.send("shop@shop.example", ["ada@example.com"], data)
    (listed,) = (await client.get(INBOX_PATH)).json()
    shown = (await client.get(f"{INBOX_PATH}/{listed['id']}")).json()
    assert listed.items() <= shown.items()
    assert ["Message-ID", "<1@shop.example>"] in shown["headers"]
    assert ["Subject", "Grüße 1"] in shown["headers"]
    assert shown["text"] == ".dots\n.\nend\n"
    assert shown["html"] == '<img src="cid:logo">\n'
    assert shown["raw"] == data.decode()


async def test_emptying_and_asking_for_what_is_not_there(pool: SmtpPool, client: AsyncTestClient[Litestar]) -> None:
    await pool.send("shop@shop.example", ["ada@example.com"], mail(1))
    assert (await client.delete(INBOX_PATH)).status_code == 204
    assert (await client.get(INBOX_PATH)).json() == []
    for unknown in ("1", "no-such-id"):
        answer = await client.get(f"{INBOX_PATH}/{unknown}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    await pool.send("shop@shop.example", ["ada@example.com"], mail(2))
    (listed,) = (await client.get(INBOX_PATH)).json()
    assert listed["id"] == "2"  # ids are not given twice


async def test_only_the_newest_are_kept(sandbox: Sandbox, pool: SmtpPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "KEPT_MAILS", 3)
    for number in range(5):
        await pool.send("shop@shop.example", ["ada@example.com"], mail(number))
    assert [each.subject for each in sandbox.messages()] == ["Grüße 4", "Grüße 3", "Grüße 2"]
    monkeypatch.setattr(sandbox_module, "KEPT_BYTES", 1)
    await pool.send("shop@shop.example", ["ada@example.com"], mail(5))
    assert [each.subject for each in sandbox.messages()] == ["Grüße 5"]


async def test_mails_of_other_programs_are_caught_too(sandbox: Sandbox) -> None:
    reader, writer = await asyncio.open_connection(sandbox.host, sandbox.port)
    for line in (b"HELO x", b"MAIL FROM:<>", b"RCPT TO:<a@b.example>", b"DATA", b"no header, \xff raw bytes\r\n."):
        await reader.readline()
        writer.write(line + b"\r\n")
    assert (await reader.readline()).startswith(b"250")
    (caught,) = sandbox.messages()
    assert (caught.from_, caught.subject, caught.to) == ("<>", "", ["a@b.example"])
    assert "raw bytes" in sandbox.get(caught.id).raw
    writer.close()
    await writer.wait_closed()


async def test_stop_closes_clients_is_safe_twice_and_unstarted(sandbox: Sandbox) -> None:
    reader, writer = await asyncio.open_connection(sandbox.host, sandbox.port)
    await reader.readline()
    await sandbox.stop()
    await sandbox.stop()
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection(sandbox.host, sandbox.port)
    await Sandbox().stop()


def test_the_routes_say_that_they_are_public() -> None:
    assert all(route.opt["access"] == PUBLIC for route in inbox_routes(Sandbox()))
