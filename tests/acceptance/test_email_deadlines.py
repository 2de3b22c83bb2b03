"""Mails that are not worth sending after a time: cancelled when nobody started them by then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from gateway.jobs.deadlines import Deadlines
from tests.support.engine import policy
from tests.support.eventually import eventually
from tests.support.mail_app import MailApp, from_now, mail, mail_app
from tests.support.smtp_server import ScriptedSmtp


@pytest.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    running = ScriptedSmtp()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def app(pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path, server: ScriptedSmtp) -> AsyncIterator[MailApp]:
    async with mail_app(pool, tmp_path, smtp_port=server.port, policy=policy(backoff_ms=20)) as running:
        yield running


async def let_pass(app: MailApp, mail_id: str) -> None:
    await app.pool.execute(
        "UPDATE jobs SET expires_at = now() - interval '1 second'"
        " WHERE id = (SELECT job_id FROM emails WHERE id = $1::uuid)",
        UUID(mail_id),
    )


async def test_a_mail_that_was_not_started_in_time_is_cancelled_and_says_why(
    app: MailApp, server: ScriptedSmtp
) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    late = await app.send(expiresAt=moment.isoformat())
    assert datetime.fromisoformat((await app.show(late))["expiresAt"]) == moment
    await let_pass(app, late)
    await app.replica.work()
    other = await app.send()
    await eventually(lambda: app.has_status(other, "sent"))
    await Deadlines(app.pool).expire()
    shown = await eventually(lambda: app.has_status(late, "cancelled"))  # the leader may be at it
    assert shown["error"].startswith("expired: not started by ")
    assert (shown["uncertain"], shown["attempts"], len(server.messages)) == (False, [], 1)
    event = shown["events"][-1]
    assert (event["type"], event["detail"]["error"]) == ("cancelled", shown["error"])


async def test_a_mail_in_time_is_sent(app: MailApp) -> None:
    await app.replica.work()
    in_time = await app.send(expires_at=from_now(hours=1))
    await eventually(lambda: app.has_status(in_time, "sent"))


async def test_an_expired_mail_may_be_sent_again_without_the_deadline(app: MailApp, server: ScriptedSmtp) -> None:
    late = await app.send(expiresAt=from_now(hours=1))
    await let_pass(app, late)
    await Deadlines(app.pool).expire()
    await eventually(lambda: app.has_status(late, "cancelled"))  # the leader may be at it
    answer = await app.call("POST", f"/emails/{late}/resend")
    assert answer.status_code == 202
    again = answer.json()["data"]["id"]
    assert (await app.show(again))["expiresAt"] is None
    await app.replica.work()
    await eventually(lambda: app.has_status(again, "sent"))
    assert len(server.messages) == 1


async def test_a_scheduled_mail_is_not_moved_past_its_deadline(app: MailApp) -> None:
    planned = await app.send(scheduledAt=from_now(hours=1), expiresAt=from_now(hours=3))
    answer = await app.call("PATCH", f"/emails/{planned}", {"scheduledAt": from_now(hours=4)})
    assert answer.status_code == 400
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == ["scheduledAt"]
    answer = await app.call("PATCH", f"/emails/{planned}", {"scheduledAt": from_now(hours=2)})
    assert answer.status_code == 200


async def test_a_mail_that_lost_its_job_keeps_its_deadline_and_tags(app: MailApp) -> None:
    kept = await app.send(expiresAt=from_now(hours=1), tags=[{"name": "plan", "value": "pro"}, {"name": "vip"}])
    await app.pool.execute("DELETE FROM jobs")
    await app.pool.execute("UPDATE emails SET updated_at = now() - interval '1 hour'")
    await app.queue.reconcile()
    shown = await app.show(kept)
    job = await app.platform.engine.get(UUID(shown["jobId"]))
    assert (job.expires_at, job.tags) == (datetime.fromisoformat(shown["expiresAt"]), ["plan:pro", "vip"])


async def test_each_mail_of_a_batch_has_its_own_deadline(app: MailApp) -> None:
    bodies = [mail(expiresAt=from_now(hours=1)), mail(expiresAt=from_now(hours=-1)), mail()]
    headers = {"X-Batch-Validation": "permissive"}
    answer = (await app.call("POST", "/emails/batch", bodies, headers=headers)).json()
    assert [error["index"] for error in answer["errors"]] == [1]
    assert "expiresAt" in answer["errors"][0]["message"]
    shown = [await app.show(accepted["id"]) for accepted in answer["data"]]
    assert [one["expiresAt"] is None for one in shown] == [False, True]
