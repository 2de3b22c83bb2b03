"""E-mails over HTTP, out over real SMTP, and what the API tells about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import asyncpg
import pytest

from tests.support.eventually import eventually
from tests.support.mail_app import MailApp, mail, mail_app
from tests.support.smtp_server import Received, ScriptedSmtp


@pytest.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    running = ScriptedSmtp()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def app(pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path, server: ScriptedSmtp) -> AsyncIterator[MailApp]:
    async with mail_app(pool, tmp_path, smtp_port=server.port) as running:
        yield running


def parsed(received: Received) -> EmailMessage:
    message = message_from_bytes(received.data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


async def test_a_mail_goes_from_http_to_smtp(app: MailApp, server: ScriptedSmtp) -> None:
    answer = await app.call("POST", "/emails", mail())
    assert answer.status_code == 202
    data = answer.json()["data"]
    assert answer.json()["success"] is True
    assert list(data) == ["id", "queueId", "jobId", "status", "mode"]
    assert data["id"] == data["queueId"]
    assert (data["jobId"], data["status"], data["mode"]) == (None, "pending", "direct")
    await app.replica.work()
    found = await eventually(lambda: app.has_status(data["id"], "sent"))
    assert found["messageId"] == parsed(server.messages[0])["Message-ID"]
    assert [event["type"] for event in found["events"]] == ["queued", "processing", "sent"]
