"""The group of a mail: named by its sender, or given by EMAIL_GROUP_BY."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.services.email.schemas import EmailJobData
from tests.support.eventually import eventually
from tests.support.mail_app import MailApp, mail, mail_app
from tests.support.smtp_server import ScriptedSmtp

Pool = asyncpg.Pool


@pytest.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    running = ScriptedSmtp()
    await running.start()
    yield running
    await running.stop()


async def group_of(app: MailApp, mail_id: str) -> str | None:
    shown = await app.show(mail_id)
    job = await app.replica.engine.get(UUID(shown["jobId"]))
    assert shown["group"] == job.group
    return job.group


async def test_a_named_group_is_the_job_s_and_stays_the_mail_s(pool: Pool, tmp_path: Path) -> None:
    async with mail_app(pool, tmp_path) as app:
        assert await group_of(app, await app.send(group="acme")) == "acme"
        assert await group_of(app, await app.send()) is None
        answer = await app.call("POST", "/emails/batch", [mail(group="a"), mail(group="b"), mail()])
        batch = [one["id"] for one in answer.json()["data"]]
        assert [await group_of(app, mail_id) for mail_id in batch] == ["a", "b", None]
        done = await app.send(group="acme", test="delivered")
        await app.replica.work()
        await eventually(lambda: app.has_status(done, "delivered"))
        again = (await app.call("POST", f"/emails/{done}/resend", {})).json()["data"]["id"]
        assert await group_of(app, again) == "acme"
        restored = await app.queue.add(EmailJobData(queue_id=done))
        assert (await app.replica.engine.get(restored.id)).group == "acme"


@pytest.mark.parametrize(
    ("by", "fields", "group"),
    [
        ("none", {"to": "ada@Example.COM"}, None),
        ("domain", {"to": ["Ada <ada@Example.COM>", "bob@other.example"]}, "example.com"),
        ("domain", {"to": "ada@example.com", "group": "acme"}, "acme"),
        ("owner", {}, "ann"),
        ("owner", {"group": "acme"}, "acme"),
    ],
)
async def test_the_settings_give_a_group_to_mails_that_name_none(
    pool: Pool, tmp_path: Path, by: str, fields: dict[str, Any], group: str | None
) -> None:
    async with mail_app(pool, tmp_path, EMAIL_GROUP_BY=by) as app:
        assert await group_of(app, await app.send(**fields)) == group


@pytest.mark.parametrize("group", ["", "x" * 101, 7, ["a"], "a\nb", "a\x00"])
async def test_a_bad_group_is_a_400_that_names_the_field(pool: Pool, tmp_path: Path, group: Any) -> None:
    async with mail_app(pool, tmp_path) as app:
        answer = await app.call("POST", "/emails", mail(group=group))
        assert answer.status_code == 400
        assert [detail["field"] for detail in answer.json()["error"]["details"]] == ["group"]


async def test_a_domain_gets_one_mail_at_a_time_and_keeps_no_other_waiting(
    pool: Pool, tmp_path: Path, server: ScriptedSmtp
) -> None:
    settings = {"EMAIL_GROUP_BY": "domain", "EMAIL_GROUP_CONCURRENCY": "1", "EMAIL_RATE_MAX": "1000"}
    async with mail_app(pool, tmp_path, smtp_port=server.port, **settings) as app:
        mails = [await app.send(to=f"u{n}@slow.example") for n in range(6)] + [await app.send(to="one@other.example")]
        await app.replica.work()
        for mail_id in mails:
            await eventually(lambda mail_id=mail_id: app.has_status(mail_id, "sent"))
        spans = await pool.fetch("SELECT claimed_at, finished_at FROM jobs WHERE group_key = 'slow.example' ORDER BY 1")
        assert all(one["finished_at"] <= two["claimed_at"] for one, two in pairwise(spans))
