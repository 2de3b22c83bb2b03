"""The main job through a real process: HTTP in, message out over SMTP, numbers for administrators, both modes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.gateway import QUEUE, Accepted, Cluster, gateways
from tests.support.gateway_process import GatewayProcess, bearer
from tests.support.smtp_server import ScriptedSmtp

QUEUE_JSON = {"success": None, "data": {"stats": None, "failedJobs": None}}
STATS = ["waiting", "active", "completed", "failed", "delayed", "total"]
FAILED_JOB = ["id", "data", "failedReason", "attemptsMade", "timestamp"]
ADMIN_QUEUE = "/api/v1/admin/email/queue"


@pytest.fixture
async def cluster(
    tmp_path: Path, database_url: str, smtp: ScriptedSmtp, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    async with gateways(tmp_path, database_url, smtp, redis_url=mode_redis_url) as made:
        yield made


async def pause(gateway: GatewayProcess, word: str = "pause") -> None:
    answer = await gateway.admin.post(f"/api/v1/admin/queues/email/{word}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["paused"] is (word == "pause")


async def fails(cluster: Cluster, smtp: ScriptedSmtp, **fields: Any) -> Accepted:
    """A mail that the server refused."""
    smtp.script.mail = [(550, "5.1.1 no such user")]
    mail = await cluster.submit(**fields)
    await eventually(lambda: cluster.has_status(mail, "failed"))
    await eventually(cluster.is_settled)  # its job ends a moment later
    return mail


async def test_a_mail_goes_from_http_to_smtp_to_the_numbers(cluster: Cluster, smtp: ScriptedSmtp, mode: str) -> None:
    gateway = await cluster.start()
    body = {
        "from": "Shop Zürich <shop@shop.example>",
        "to": ["Ada <ada@example.com>"],
        "cc": "cc@example.com",
        "bcc": "hidden@example.com",
        "replyTo": "help@shop.example",
        "subject": "Grüße 🎉",
        "text": ".dot first\nplain",
        "html": "<p>Grüße</p>",
        "headers": {"X-Order": "42"},
        "tags": [{"name": "kind", "value": "order"}],
        "priority": 5,
    }
    await eventually(lambda: works_in(gateway, mode))
    answer = await gateway.user.post("/api/v1/emails", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json().keys() == {"success", "data"}
    data = answer.json()["data"]
    assert list(data) == ["id", "queueId", "jobId", "status", "mode"]
    assert (data["status"], data["mode"], data["jobId"] is None) == ("pending", mode, mode == "direct")

    received = (await smtp.wait_for(1))[0]
    assert received.envelope_from == "shop@shop.example"
    assert received.recipients == ["ada@example.com", "cc@example.com", "hidden@example.com"]
    message = message_from_bytes(received.data, policy=policy.default)
    assert message["From"] == "Shop Zürich <shop@shop.example>"
    assert (message["To"], message["Cc"], message["Bcc"]) == ("Ada <ada@example.com>", "cc@example.com", None)
    assert (message["Reply-To"], message["Subject"], message["X-Order"]) == ("help@shop.example", "Grüße 🎉", "42")
    assert abs(parsedate_to_datetime(message["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None and plain.get_content().splitlines() == [".dot first", "plain"]
    assert html is not None and html.get_content().strip() == "<p>Grüße</p>"

    mail = Accepted(data["id"], "ada@example.com", mode, data["jobId"])
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert shown["messageId"] == message["Message-ID"]
    assert [event["type"] for event in shown["events"]] == ["queued", "processing", "sent"]
    assert [(one["attempt"], one["outcome"], one["code"]) for one in shown["attempts"]] == [(1, "sent", 250)]
    assert (shown["sentAt"] is not None, shown["uncertain"], shown["text"]) == (True, False, body["text"])
    job = await cluster.job(mail)
    assert (job["state"], job["attempts"], job["stalls"], job["errors"]) == ("completed", 1, 0, [])
    assert job["result"] == {"success": True, "messageId": message["Message-ID"]}
    assert job["data"] == {"queueId": data["id"], "priority": 5, "userId": "user-of-the-tests"}

    await the_numbers_are_right(cluster, gateway, mode)


async def works_in(gateway: GatewayProcess, mode: str) -> bool:
    return bool((await gateway.admin.get("/health")).json()["mode"] == mode)


async def the_numbers_are_right(cluster: Cluster, gateway: GatewayProcess, mode: str) -> None:
    answer = await gateway.admin.get(ADMIN_QUEUE)
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "data": {
            "stats": {"waiting": 0, "active": 0, "completed": 1, "failed": 0, "delayed": 0, "total": 1},
            "failedJobs": [],
        },
    }
    queue, task = ("queue", QUEUE), ("task", "email.send")
    expected = {
        ("gateway_queue_depth", queue, ("state", "completed")): 1,
        ("queue_waiting_jobs", queue): 0,
        ("queue_open_jobs", queue): 0,
        ("queue_rate_limit_per_second", queue): 100_000,
        ("gateway_queue_oldest_waiting_seconds", queue): 0,
        ("gateway_jobs_total", queue, task, ("outcome", "completed")): 1,
        ("gateway_job_failures_total", queue, ("class", "error")): 0,
        ("gateway_job_failures_total", queue, ("class", "stalled")): 0,
        ("gateway_job_duration_seconds_count", queue, task, ("phase", "wait")): 1,
        ("gateway_job_duration_seconds_count", queue, task, ("phase", "run")): 1,
        ("gateway_job_duration_seconds_count", queue, task, ("phase", "total")): 1,
        ("gateway_job_attempts_total", queue, task): 1,
        ("gateway_job_retries_total", queue, task): 0,
        ("gateway_job_stalled_total", queue): 0,
        ("gateway_job_rate_limit_wait_seconds_count", queue): 0,
        ("gateway_worker_slots", queue, ("state", "busy")): 0,
        ("gateway_worker_slots", queue, ("state", "free")): 5,
        ("gateway_workers", ("role", "all")): 1,
        ("gateway_fallback_active",): 0,
        ("gateway_redis_up",): 1 if mode == "queue" else None,
        ("gateway_postgres_up",): 1,
        ("gateway_emails_total", ("transport", "smtp"), ("outcome", "sent")): 1,
    }

    async def read() -> bool:  # the queues every few seconds, the counters when the job ends
        values = await gateway.metrics()
        found = {key: values.get((key[0], frozenset(key[1:]))) for key in expected}
        assert found == expected
        return ("gateway_event_loop_lag_seconds", frozenset()) in values

    await eventually(read, 20)


async def test_callers_are_told_apart(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    gateway = await cluster.start()
    assert (await gateway.user.get(ADMIN_QUEUE)).status_code == 403
    assert (await gateway.user.get(ADMIN_QUEUE, headers=bearer("nonsense"))).status_code == 401
    made = await gateway.admin.post("/api/v1/admin/keys", json={"name": "shop", "scopes": ["emails:send"]})
    assert made.status_code == 201, made.text
    key = made.json()["data"]
    body = {"from": "shop@shop.example", "to": "ada@example.com", "subject": "By key", "text": "Hello"}
    sent = await gateway.user.post("/api/v1/emails", json=body, headers=bearer(key["key"]))
    assert sent.status_code == 202
    assert (await smtp.wait_for(1))[0].recipients == ["ada@example.com"]
    email = f"/api/v1/emails/{sent.json()['data']['id']}"
    assert (await gateway.user.get(email, headers=bearer(key["key"]))).status_code == 403, "it may only send"

    async def used() -> bool:  # written after the answer
        listed = (await gateway.admin.get("/api/v1/admin/keys")).json()["data"]
        assert [(one["id"], "key" in one) for one in listed] == [(key["id"], False)]
        return listed[0]["lastUsedAt"] is not None

    await eventually(used)
    assert (await gateway.admin.delete(f"/api/v1/admin/keys/{key['id']}")).status_code == 204
    assert (await gateway.user.post("/api/v1/emails", json=body, headers=bearer(key["key"]))).status_code == 401


async def test_a_paused_queue_waits_and_priority_ten_overtakes(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    gateway = await cluster.start(EMAIL_QUEUE_CONCURRENCY="1")
    await pause(gateway)
    low = await cluster.submit_many(2)
    high = await cluster.submit_many(2, priority=10)
    assert (await cluster.stats())["waiting"] == 4
    assert smtp.messages == []
    await pause(gateway, "resume")
    await cluster.all_delivered()
    assert [message.recipients for message in smtp.messages] == [[mail.recipient] for mail in high + low]


async def test_a_scheduled_mail_starts_when_it_is_due(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start()
    due = datetime.now(UTC) + timedelta(seconds=4)  # further away than a busy machine needs for what comes first
    mail = await cluster.submit(scheduledAt=due.isoformat())
    cancelled = await cluster.submit(scheduledAt=due.isoformat())
    assert (await cluster.show(mail))["status"] == "scheduled"
    assert (await cluster.stats())["delayed"] == 2
    answer = await cluster.processes[0].user.post(f"/api/v1/emails/{cancelled.id}/cancel")
    assert answer.json() == {"success": True, "data": {"id": cancelled.id, "status": "cancelled"}}
    shown = await eventually(lambda: cluster.has_status(mail, "sent"), 20)
    started = datetime.fromisoformat(shown["attempts"][0]["startedAt"])
    assert due <= started <= due + timedelta(seconds=5)
    assert [event["type"] for event in shown["events"]] == ["scheduled", "queued", "processing", "sent"]
    assert len(smtp.messages) == 1
    assert (await cluster.show(cancelled))["status"] == "cancelled"


async def test_failed_mails_are_listed_and_retried(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    gateway = await cluster.start()
    mails = [await fails(cluster, smtp, priority=3), await fails(cluster, smtp), await fails(cluster, smtp)]
    jobs = [await cluster.job(mail) for mail in mails]
    shown = (await gateway.admin.get(ADMIN_QUEUE)).json()
    assert shown.keys() == QUEUE_JSON.keys()
    assert shown["data"].keys() == {"stats", "failedJobs"}
    assert list(shown["data"]["stats"]) == STATS
    assert shown["data"]["stats"] == dict.fromkeys(STATS, 0) | {"failed": 3, "total": 3}
    newest_first = shown["data"]["failedJobs"]
    assert [one["id"] for one in newest_first] == [job["id"] for job in reversed(jobs)]
    assert all(list(one) == FAILED_JOB for one in newest_first)
    oldest = newest_first[-1]
    assert oldest["data"] == {"queueId": mails[0].id, "priority": 3, "userId": "user-of-the-tests"}
    assert "5.1.1 no such user" in oldest["failedReason"]
    assert oldest["attemptsMade"] == 1
    assert abs(oldest["timestamp"] / 1000 - datetime.now(UTC).timestamp()) < 60
    assert len((await gateway.admin.get(f"{ADMIN_QUEUE}?failedLimit=1")).json()["data"]["failedJobs"]) == 1

    retry = await gateway.admin.post(f"{ADMIN_QUEUE}/retry/{jobs[0]['id']}")
    assert (retry.status_code, retry.json()) == (200, {"success": True, "message": "Job queued for retry"})
    await eventually(lambda: cluster.has_status(mails[0], "sent"))
    assert (await gateway.admin.post(f"{ADMIN_QUEUE}/retry/{jobs[0]['id']}")).status_code == 404
    trial = await gateway.admin.post(f"{ADMIN_QUEUE}/retry-failed?dryRun=true")
    assert (trial.status_code, trial.json()["data"]) == (200, {"wouldRetry": 2})
    done = await gateway.admin.post(f"{ADMIN_QUEUE}/retry-failed")
    assert (done.status_code, done.json()["data"]) == (202, {"retried": 2})
    await cluster.all_delivered()
    assert cluster.duplicates() == []
