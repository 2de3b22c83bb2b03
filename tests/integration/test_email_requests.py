"""Mails that another feature asks for by a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.jobs.job import NewJob
from gateway.services.email.drafts import read_draft
from gateway.services.email.fields import Problems
from gateway.services.email.queue import EMAIL_QUEUE
from gateway.services.email.service import EmailService
from tests.support.eventually import eventually
from tests.support.gateway import running
from tests.support.mail_app import PEOPLE, MailApp, mail, mail_app
from tests.support.smtp_server import ScriptedSmtp


@pytest.fixture
async def smtp() -> AsyncIterator[ScriptedSmtp]:
    async with running(ScriptedSmtp()) as server:
        yield server


@pytest.fixture(params=["queue", "direct"])
async def app(
    request: pytest.FixtureRequest, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path, smtp: ScriptedSmtp
) -> AsyncIterator[MailApp]:
    redis_url = request.getfixturevalue("redis_url") if request.param == "queue" else None
    async with mail_app(pool, tmp_path, smtp_port=smtp.port, redis_url=redis_url) as made:
        yield made


async def requested(app: MailApp, mail_id: UUID, **fields: Any) -> UUID:
    draft = mail(**fields)
    args = {"id": str(mail_id), "owner": "ann", "draft": draft}
    job = NewJob(id=uuid7(), queue=EMAIL_QUEUE, task="email.request", args=args)
    return (await app.platform.engine.submit(job)).id


async def ended(app: MailApp, job_id: UUID) -> tuple[str, Any, str | None]:
    async def end() -> tuple[str, Any, str | None]:
        job = await app.platform.engine.get(job_id)
        assert job.state in ("completed", "failed")
        return job.state, job.result, job.error

    return await eventually(end, 10, "the request has not ended")


async def test_a_requested_mail_is_made_and_sent_once(app: MailApp, smtp: ScriptedSmtp) -> None:
    mail_id = uuid7()
    jobs = [await requested(app, mail_id, subject=f"Try {n}") for n in range(4)]
    await app.replica.work()

    for job_id in jobs:
        assert await ended(app, job_id) == ("completed", {"emailId": str(mail_id)}, None)
    await eventually(lambda: app.has_status(str(mail_id), "sent"))

    assert len(smtp.messages) == 1
    found = await app.show(str(mail_id))
    assert (found["to"], found["from"]) == (["ada@example.com"], "shop@shop.example")
    assert await app.pool.fetchval("SELECT owner FROM emails") == "ann"


async def test_what_post_emails_would_refuse_is_refused(app: MailApp, smtp: ScriptedSmtp) -> None:
    job_id = await requested(app, uuid7(), to="nobody", text=None)
    await app.replica.work()

    state, _, error = await ended(app, job_id)

    assert state == "failed"
    assert error is not None
    assert "no such mail can be sent: 2 fields need attention" in error
    assert smtp.messages == []
    assert await app.pool.fetchval("SELECT count(*) FROM emails") == 0


async def test_of_two_with_one_id_at_once_one_is_accepted(app: MailApp) -> None:
    mails, mail_id = EmailService(app.platform), uuid7()
    draft = read_draft(mail(), None, Problems())
    assert draft is not None

    accepted = await asyncio.gather(*(mails.accept_once(PEOPLE["ann"], mail_id, draft) for _ in range(6)))

    assert sorted(accepted) == [False] * 5 + [True]
    assert await app.pool.fetchval("SELECT count(*) FROM jobs") == 1
