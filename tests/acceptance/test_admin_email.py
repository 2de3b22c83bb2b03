"""The e-mail queue's numbers and retries for administrators, exactly as document 003 has them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from gateway.jobs.job import JobState
from tests.support.eventually import eventually
from tests.support.mail_app import MailApp, from_now, mail_app
from tests.support.smtp_server import ScriptedSmtp

QUEUE = "/admin/email/queue"


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


async def failed_mails(app: MailApp, server: ScriptedSmtp, count: int) -> list[str]:
    server.script.rcpt["ada@example.com"] = (550, "no such user")
    ids = [await app.send(subject=str(n), priority=5) for n in range(count)]
    await app.replica.work()
    for mail_id in ids:
        await eventually(lambda mail_id=mail_id: app.has_status(mail_id, "failed"))
    await eventually(lambda: idle(app))  # a job ends a moment after its mail
    server.script.rcpt.clear()
    return ids


async def test_an_empty_queue_answers_exactly_the_documents_json(app: MailApp) -> None:
    answer = await app.call("GET", QUEUE, user="admin")
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "data": {
            "stats": {"waiting": 0, "active": 0, "completed": 0, "failed": 0, "delayed": 0, "total": 0},
            "failedJobs": [],
        },
    }


async def test_the_numbers_are_the_ledgers(app: MailApp, server: ScriptedSmtp) -> None:
    ids = await failed_mails(app, server, 2)
    sent = await app.send()
    await eventually(lambda: app.has_status(sent, "sent"))
    await eventually(lambda: idle(app))
    await app.platform.engine.pause("email-queue")
    for priority in (0, 10, 5):
        await app.send(priority=priority)
    await app.send(scheduledAt=from_now(days=1))
    body = (await app.call("GET", QUEUE, user="viewer")).json()
    assert set(body) == {"success", "data"}
    assert set(body["data"]) == {"stats", "failedJobs"}
    assert body["data"]["stats"] == {"waiting": 3, "active": 0, "completed": 1, "failed": 2, "delayed": 1, "total": 7}
    newest = body["data"]["failedJobs"][0]
    assert set(newest) == {"id", "data", "failedReason", "attemptsMade", "timestamp"}
    assert newest["data"] in [{"queueId": mail_id, "priority": 5, "userId": "ann"} for mail_id in ids]
    assert "no such user" in newest["failedReason"]
    assert newest["attemptsMade"] == 1
    assert abs(newest["timestamp"] - time.time() * 1000) < 60_000


async def test_the_list_of_failures_is_bounded(app: MailApp, server: ScriptedSmtp) -> None:
    await failed_mails(app, server, 12)
    for query, count in (("", 10), ("?failedLimit=0", 0), ("?failedLimit=3", 3), ("?failedLimit=100", 12)):
        body = (await app.call("GET", f"{QUEUE}{query}", user="admin")).json()
        assert len(body["data"]["failedJobs"]) == count
    for bad in ("-1", "101", "x", "000000001999", "00000000199999999999999999999999"):
        answer = await app.call("GET", f"{QUEUE}?failedLimit={bad}", user="admin")
        assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (400, "failedLimit")


async def test_one_failed_job_is_retried_and_its_mail_is_sent(app: MailApp, server: ScriptedSmtp) -> None:
    (mail_id,) = await failed_mails(app, server, 1)
    job_id = (await app.show(mail_id))["jobId"]
    answer = await app.call("POST", f"{QUEUE}/retry/{job_id.upper()}", user="admin")
    assert (answer.status_code, answer.json()) == (200, {"success": True, "message": "Job queued for retry"})
    assert await app.pool.fetchval("SELECT subject FROM admin_audit") == job_id
    shown = await eventually(lambda: app.has_status(mail_id, "sent"))
    assert shown["recipients"][0]["status"] == "accepted"
    assert len(await server.wait_for(1)) == 1


async def test_only_a_failed_job_can_be_retried(app: MailApp) -> None:
    waiting = (await app.show(await app.send()))["jobId"]
    for job_id in (waiting, str(uuid4()), "not-an-id"):
        answer = await app.call("POST", f"{QUEUE}/retry/{job_id}", user="admin")
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Job not found or not failed")


async def test_all_failed_jobs_are_retried_after_a_dry_run(app: MailApp, server: ScriptedSmtp) -> None:
    ids = await failed_mails(app, server, 3)
    dry = await app.call("POST", f"{QUEUE}/retry-failed?dryRun=true", user="admin")
    assert (dry.status_code, dry.json()) == (200, {"success": True, "data": {"wouldRetry": 3}})
    for query in ("?dryrun=true", "?dryRun=perhaps", "?dryRun=true&dryRun=false"):
        mistyped = await app.call("POST", f"{QUEUE}/retry-failed{query}", user="admin")
        assert (mistyped.status_code, mistyped.json()["error"]["code"]) == (400, "validation_error")
        assert mistyped.json()["error"]["details"][0]["field"] == query[1:].partition("=")[0]
    misplaced = await app.call("POST", f"{QUEUE}/retry-failed", {"dryRun": True}, user="admin")
    assert (misplaced.status_code, misplaced.json()["error"]["details"][0]["field"]) == (400, "body")
    assert "dryRun" in misplaced.json()["error"]["message"]
    assert (await app.queue.get_stats()).failed == 3
    answer = await app.call("POST", f"{QUEUE}/retry-failed", {}, user="admin")
    assert (answer.status_code, answer.json()) == (202, {"success": True, "data": {"retried": 3}})
    for mail_id in ids:
        await eventually(lambda mail_id=mail_id: app.has_status(mail_id, "sent"))


async def test_roles(app: MailApp) -> None:
    assert (await app.call("GET", QUEUE, user="ann")).status_code == 403
    assert (await app.call("GET", QUEUE, user="viewer")).status_code == 200
    for path in (f"{QUEUE}/retry-failed", f"{QUEUE}/retry/{uuid4()}"):
        assert (await app.call("POST", path, user="viewer")).status_code == 403
        assert (await app.call("POST", path, user="admin")).status_code in (202, 404)


async def test_the_queue_service_puts_an_ended_mail_into_the_queue_again(app: MailApp, server: ScriptedSmtp) -> None:
    (mail_id,) = await failed_mails(app, server, 1)
    added = await app.queue.add_high_priority(mail_id, "ann")
    job = await app.platform.engine.get(added.id)
    assert (job.priority, job.args) == (10, {"queueId": mail_id, "priority": 10, "userId": "ann"})
    await eventually(lambda: app.has_status(mail_id, "sent"))


async def test_the_queue_service_adds_a_waiting_mail_only_once(app: MailApp) -> None:
    mail_id = await app.send()
    added = await app.queue.add_low_priority(mail_id)
    assert added.duplicate
    assert added.id == UUID((await app.show(mail_id))["jobId"])
    assert (await app.queue.get_stats()).waiting == 1
    with pytest.raises(LookupError):
        await app.queue.add_high_priority(str(uuid4()))
    with pytest.raises(LookupError):
        await app.queue.add_high_priority("not-an-id")


async def test_a_mail_sent_already_is_not_sent_again_by_the_queue_service(app: MailApp, server: ScriptedSmtp) -> None:
    mail_id = await app.send()
    await app.replica.work()
    await eventually(lambda: app.has_status(mail_id, "sent"))
    await eventually(lambda: idle(app))
    added = await app.queue.add_high_priority(mail_id)
    await eventually(lambda: is_completed(app, added.id))
    assert len(server.messages) == 1


async def idle(app: MailApp) -> bool:
    stats = await app.queue.get_stats()
    return stats.waiting + stats.active == 0


async def is_completed(app: MailApp, job_id: UUID) -> bool:
    return (await app.platform.engine.get(job_id)).state is JobState.COMPLETED
