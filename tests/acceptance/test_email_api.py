"""E-mails over HTTP, out over real SMTP, and what the API tells about them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

from gateway.jobs.job import JobState
from gateway.jobs.policy import QueuePolicy
from tests.support.engine import policy
from tests.support.eventually import eventually
from tests.support.mail_app import MailApp, from_now, mail, mail_app, parsed
from tests.support.smtp_server import ACCEPT_AND_CUT, ScriptedSmtp

FAST: QueuePolicy = policy(backoff_ms=20)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    running = ScriptedSmtp()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def app(pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path, server: ScriptedSmtp) -> AsyncIterator[MailApp]:
    async with mail_app(pool, tmp_path, smtp_port=server.port, policy=FAST) as running:
        yield running


def kinds(shown: dict[str, Any]) -> list[str]:
    return [event["type"] for event in shown["events"]]


async def test_a_mail_goes_from_http_to_smtp(app: MailApp, server: ScriptedSmtp) -> None:
    answer = await app.call("POST", "/emails", mail())
    assert answer.status_code == 202
    data = answer.json()["data"]
    assert answer.json()["success"] is True
    assert list(data) == ["id", "queueId", "jobId", "status", "mode"]
    assert data["id"] == data["queueId"]
    assert (data["jobId"], data["status"], data["mode"]) == (None, "pending", "direct")
    await app.replica.work()
    shown = await eventually(lambda: app.has_status(data["id"], "sent"))
    assert shown["messageId"] == parsed(server.messages[0])["Message-ID"]
    assert shown["messageId"] == f"<{data['id']}@shop.example>"
    assert kinds(shown) == ["queued", "processing", "sent"]
    assert [(one["attempt"], one["outcome"], one["code"]) for one in shown["attempts"]] == [(1, "sent", 250)]
    assert shown["sentAt"] is not None
    job = await eventually(lambda: completed(app, shown["jobId"]))
    assert job.args == {"queueId": data["id"], "priority": 0, "userId": "ann"}
    assert job.result == {"success": True, "messageId": shown["messageId"]}
    assert app.counted == [("smtp", "sent")]


async def completed(app: MailApp, job_id: str) -> Any:
    job = await app.platform.engine.get(UUID(job_id))
    return job if job.state is JobState.COMPLETED else None


async def test_in_queue_mode_the_answer_has_the_job_id(
    pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path, server: ScriptedSmtp, redis_url: str
) -> None:
    async with mail_app(pool, tmp_path, smtp_port=server.port, redis_url=redis_url) as app:
        await eventually(lambda: app.platform.engine.mode == "queue")
        data = (await app.call("POST", "/emails", mail())).json()["data"]
        assert data["mode"] == "queue"
        assert (await app.platform.engine.get(UUID(data["jobId"]))).args["queueId"] == data["id"]
        await app.replica.work()
        await server.wait_for(1)


async def test_the_message_has_everything_that_was_asked_for(app: MailApp, server: ScriptedSmtp) -> None:
    image = bytes(range(256))
    files = [
        {"filename": "Rechnung für März.pdf", "content": base64.b64encode(b"%PDF").decode()},
        {"filename": "logo.png", "content": base64.b64encode(image).decode(), "contentId": "logo"},
    ]
    await app.send(
        **{"from": "Größe GmbH <shop@shop.example>"},
        to=["Ada <ada@example.com>", "bob@example.com"],
        cc="carl@example.com",
        bcc=["secret@example.com", "ada@example.com"],
        reply_to="help@shop.example",
        subject="Ihre Bestellung – größer",
        html='<img src="cid:logo">',
        headers={"X-Order": "17"},
        attachments=files,
        test=None,
    )
    await app.replica.work()
    received = (await server.wait_for(1))[0]
    assert received.envelope_from == "shop@shop.example"
    assert received.recipients == ["ada@example.com", "bob@example.com", "carl@example.com", "secret@example.com"]
    message = parsed(received)
    assert message["From"] == "Größe GmbH <shop@shop.example>"
    assert (message["To"], message["Cc"]) == ("Ada <ada@example.com>, bob@example.com", "carl@example.com")
    assert (message["Bcc"], message["Reply-To"], message["X-Order"]) == (None, "help@shop.example", "17")
    assert message["Subject"] == "Ihre Bestellung – größer"
    parts = {part.get_filename(): part.get_payload(decode=True) for part in message.walk() if part.get_filename()}
    assert parts == {"Rechnung für März.pdf": b"%PDF", "logo.png": image}


async def test_the_mail_can_be_read_without_and_with_its_parts(app: MailApp) -> None:
    mail_id = await app.send(
        html="<p>hi</p>", tags=[{"name": "plan", "value": "pro"}], metadata={"order": {"id": 17}}, priority=7
    )
    plain = (await app.call("GET", f"/emails/{mail_id}")).json()["data"]
    assert {"html", "text", "events", "attempts"}.isdisjoint(plain)
    assert (plain["id"], plain["queueId"], plain["status"]) == (mail_id, mail_id, "pending")
    assert (plain["from"], plain["to"], plain["priority"]) == ("shop@shop.example", ["ada@example.com"], 7)
    assert (plain["metadata"], plain["tags"]) == ({"order": {"id": 17}}, [{"name": "plan", "value": "pro"}])
    assert [(one["address"], one["status"]) for one in plain["recipients"]] == [("ada@example.com", "pending")]
    shown = await app.show(mail_id)
    assert (shown["html"], shown["text"], kinds(shown), shown["attempts"]) == (
        "<p>hi</p>",
        "It works",
        ["queued"],
        [],
    )
    events = (await app.call("GET", f"/emails/{mail_id}/events")).json()["data"]
    assert [event["type"] for event in events] == ["queued"]


async def test_others_mails_are_not_there_except_for_viewers(app: MailApp) -> None:
    mail_id = await app.send(user="ann")
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/resend")):
        answer = await app.call(method, f"/emails/{mail_id}{path}", user="bob")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert (await app.call("GET", f"/emails/{mail_id}", user="viewer")).status_code == 200
    assert (await app.call("GET", "/emails", user="bob")).json()["data"] == []
    assert len((await app.call("GET", "/emails", user="viewer")).json()["data"]) == 1


async def listed(app: MailApp, query: str) -> list[str]:
    answer = await app.call("GET", f"/emails?{query}")
    assert answer.status_code == 200, answer.text
    return [one["subject"] for one in answer.json()["data"]]


async def test_lists_filter(app: MailApp) -> None:
    await app.send(subject="a", to="Ada <Ada@Example.com>", tags=[{"name": "plan", "value": "pro"}])
    await app.send(subject="b", cc="ada@example.com", to="b@example.com", referenceType="order", referenceId="17")
    await app.send(
        subject="c", to="c@example.com", tags=[{"name": "plan", "value": "free"}], scheduledAt=from_now(days=1)
    )
    assert await listed(app, "") == ["c", "b", "a"]
    assert await listed(app, "to=ada@example.com") == ["b", "a"]
    assert await listed(app, "tag=plan") == ["c", "a"]
    assert await listed(app, "tag=plan:pro") == ["a"]
    assert await listed(app, "referenceType=order&referenceId=17") == ["b"]
    assert await listed(app, "status=scheduled") == ["c"]
    assert await listed(app, "until=2020-01-01T00:00:00Z") == []
    assert await listed(app, "from=2020-01-01T00:00:00Z&status=pending") == ["b", "a"]


async def test_pages_hold_each_mail_once(app: MailApp) -> None:
    batch = [mail(subject=str(n)) for n in range(7)]
    assert (await app.call("POST", "/emails/batch", batch)).status_code == 202
    seen: list[str] = []
    query = "limit=3"
    while True:
        answer = (await app.call("GET", f"/emails?{query}")).json()
        seen += [one["subject"] for one in answer["data"]]
        assert answer["page"]["limit"] == 3
        if answer["page"]["nextCursor"] is None:
            break
        query = f"limit=3&cursor={answer['page']['nextCursor']}"
    assert sorted(seen) == [str(n) for n in range(7)]


async def test_a_batch_is_accepted_in_order(app: MailApp, server: ScriptedSmtp) -> None:
    batch = [mail(subject=str(n)) for n in range(100)]
    answer = await app.call("POST", "/emails/batch", batch)
    assert answer.status_code == 202
    body = answer.json()
    assert (body["success"], body["errors"], len(body["data"])) == (True, [], 100)
    assert (await app.show(body["data"][42]["id"]))["subject"] == "42"
    await app.replica.work()
    received = await server.wait_for(100)
    assert sorted(int(parsed(one)["Subject"]) for one in received) == list(range(100))


async def test_a_permissive_batch_accepts_the_good_mails(app: MailApp) -> None:
    batch = [mail(subject="good"), mail(to="nobody")]
    strict = await app.call("POST", "/emails/batch", batch)
    assert strict.status_code == 422
    assert strict.json()["error"]["details"][0]["index"] == 1
    assert await listed(app, "") == []
    answer = await app.call("POST", "/emails/batch", batch, headers={"X-Batch-Validation": "permissive"})
    assert answer.status_code == 202
    assert [error["index"] for error in answer.json()["errors"]] == [1]
    assert await listed(app, "") == ["good"]


async def test_a_repeated_request_gives_the_first_answer_and_sends_once(app: MailApp) -> None:
    key = {"Idempotency-Key": "order-17"}
    first = await app.call("POST", "/emails", mail(), headers=key)
    again = await app.call("POST", "/emails", mail(), headers=key)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    other = await app.call("POST", "/emails", mail(subject="other"), headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "invalid_idempotent_request")
    assert await listed(app, "") == ["Hello"]
    assert (await app.call("POST", "/emails", mail(), user="bob", headers=key)).json() != first.json()


async def test_the_same_key_at_the_same_moment_sends_once(app: MailApp) -> None:
    calls = [app.call("POST", "/emails", mail(), headers={"Idempotency-Key": "k"}) for _ in range(8)]
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.content for answer in answers if answer.status_code == 202}) == 1
    assert await listed(app, "") == ["Hello"]


async def test_a_scheduled_mail_waits_and_can_be_moved(app: MailApp, server: ScriptedSmtp) -> None:
    answer = await app.call("POST", "/emails", mail(scheduledAt=from_now(days=1)))
    data = answer.json()["data"]
    assert data["status"] == "scheduled"
    later = from_now(days=2)
    moved = await app.call("PATCH", f"/emails/{data['id']}", {"scheduledAt": later})
    assert moved.status_code == 200
    assert datetime.fromisoformat(moved.json()["data"]["scheduledAt"]) == datetime.fromisoformat(later)
    await app.replica.work()
    now = await app.call("PATCH", f"/emails/{data['id']}", {"scheduledAt": from_now(days=-1)})
    assert now.status_code == 200
    shown = await eventually(lambda: app.has_status(data["id"], "sent"))
    assert kinds(shown) == ["scheduled", "rescheduled", "rescheduled", "queued", "processing", "sent"]
    assert len(server.messages) == 1
    late = await app.call("PATCH", f"/emails/{data['id']}", {"scheduledAt": later})
    assert (late.status_code, late.json()["error"]["code"]) == (409, "not_scheduled")


async def test_a_time_in_the_past_means_now(app: MailApp) -> None:
    answer = await app.call("POST", "/emails", mail(scheduled_at="2020-01-01T00:00:00Z"))
    assert answer.json()["data"]["status"] == "pending"


async def test_a_mail_can_be_cancelled_until_it_is_being_sent(app: MailApp, server: ScriptedSmtp) -> None:
    mail_id = await app.send()
    for _ in range(2):
        answer = await app.call("POST", f"/emails/{mail_id}/cancel")
        assert (answer.status_code, answer.json()["data"]) == (200, {"id": mail_id, "status": "cancelled"})
    sent = await app.send(subject="sent")
    await app.replica.work()
    shown = await eventually(lambda: app.has_status(sent, "sent"))
    assert len(server.messages) == 1
    late = await app.call("POST", f"/emails/{sent}/cancel")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "already_finished")
    assert kinds(await app.show(mail_id)) == ["queued", "cancelled"]
    assert shown["status"] == "sent"


async def test_a_mail_can_be_sent_again_with_its_files(app: MailApp, server: ScriptedSmtp) -> None:
    files = [{"filename": "a.txt", "content": base64.b64encode(b"file").decode()}]
    mail_id = await app.send(cc="carl@example.com", attachments=files, metadata={"n": 1})
    early = await app.call("POST", f"/emails/{mail_id}/resend")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "not_finished")
    await app.replica.work()
    await eventually(lambda: app.has_status(mail_id, "sent"))
    again = (await app.call("POST", f"/emails/{mail_id}/resend")).json()["data"]
    other = (await app.call("POST", f"/emails/{mail_id}/resend", {"to": "new@example.com"})).json()["data"]
    assert (again["resendOf"], again["id"] != mail_id) == (mail_id, True)
    await server.wait_for(3)
    by_id = {parsed(one)["Message-ID"]: one for one in server.messages}
    copy, elsewhere = by_id[f"<{again['id']}@shop.example>"], by_id[f"<{other['id']}@shop.example>"]
    assert copy.recipients == ["ada@example.com", "carl@example.com"]
    assert elsewhere.recipients == ["new@example.com"]
    for one in (copy, elsewhere):
        assert [part.get_filename() for part in parsed(one).iter_attachments()] == ["a.txt"]
    assert (await app.show(again["id"]))["metadata"] == {"n": 1}
    assert (await app.show(again["id"]))["resendOf"] == mail_id


@pytest.mark.parametrize("outcome", ["delivered", "bounced", "complained", "failed"])
async def test_test_mails_end_as_asked_without_smtp(app: MailApp, server: ScriptedSmtp, outcome: str) -> None:
    mail_id = await app.send(test=outcome)
    await app.replica.work()
    shown = await eventually(lambda: app.has_status(mail_id, outcome))
    assert kinds(shown)[-1] == outcome
    assert server.connections == 0
    if outcome != "failed":
        await eventually(lambda: completed(app, shown["jobId"]))
        assert (await app.show(mail_id))["status"] == outcome


async def test_5xx_for_every_recipient_fails_at_once(app: MailApp, server: ScriptedSmtp) -> None:
    server.script.rcpt["ada@example.com"] = (550, "5.1.1 no such user")
    mail_id = await app.send()
    await app.replica.work()
    shown = await eventually(lambda: app.has_status(mail_id, "failed"))
    assert "no such user" in shown["error"]
    assert [(one["status"], one["code"]) for one in shown["recipients"]] == [("rejected", 550)]
    assert [one["outcome"] for one in shown["attempts"]] == ["rejected"]
    assert kinds(shown) == ["queued", "processing", "rejected", "failed"]
    report = await eventually(lambda: reported(app, shown["jobId"]))
    assert report.progress.stage == "connects, and names 1 recipient"
    assert [line.text.partition(" bytes ")[2] for line in report.lines] == ["for 1 recipient, by smtp"]


async def reported(app: MailApp, job_id: str) -> Any:
    report = await app.replica.inspector.report(UUID(job_id))
    assert report.progress is not None
    return report


async def test_a_refused_recipient_does_not_stop_the_others(app: MailApp, server: ScriptedSmtp) -> None:
    server.script.rcpt["bob@example.com"] = (550, "no such user")
    mail_id = await app.send(to=["ada@example.com", "bob@example.com"])
    await app.replica.work()
    shown = await eventually(lambda: app.has_status(mail_id, "sent"))
    assert [(one["address"], one["status"]) for one in shown["recipients"]] == [
        ("ada@example.com", "accepted"),
        ("bob@example.com", "rejected"),
    ]
    assert "rejected" in kinds(shown)


async def test_only_recipients_that_were_put_off_are_tried_again(app: MailApp, server: ScriptedSmtp) -> None:
    server.script.rcpt["bob@example.com"] = [(451, "greylisted")]
    mail_id = await app.send(to=["ada@example.com", "bob@example.com"])
    await app.replica.work()
    received = await server.wait_for(2)
    assert [one.recipients for one in received] == [["ada@example.com"], ["bob@example.com"]]
    shown = await eventually(lambda: app.has_status(mail_id, "sent"))
    assert [one["outcome"] for one in shown["attempts"]] == ["retry", "sent"]
    assert not shown["uncertain"]


async def test_4xx_is_tried_again_up_to_the_last_attempt(app: MailApp, server: ScriptedSmtp) -> None:
    server.script.end_of_data = (451, "later")
    mail_id = await app.send()
    await app.replica.work()
    shown = await eventually(lambda: app.has_status(mail_id, "failed"))
    assert [(one["attempt"], one["outcome"]) for one in shown["attempts"]] == [(1, "retry"), (2, "retry"), (3, "retry")]
    assert "451" in shown["error"]
    await eventually(lambda: app.counted == [("smtp", "retry")] * 3)


async def test_invariant_c_a_cut_after_data_is_said_to_be_uncertain(app: MailApp, server: ScriptedSmtp) -> None:
    server.script.end_of_data = [ACCEPT_AND_CUT]
    mail_id = await app.send()
    await app.replica.work()
    received = await server.wait_for(2)
    assert parsed(received[0])["Message-ID"] == parsed(received[1])["Message-ID"]
    assert received[0].data == received[1].data
    shown = await eventually(lambda: app.has_status(mail_id, "sent"))
    assert shown["uncertain"] is True
    assert [one["outcome"] for one in shown["attempts"]] == ["unknown", "sent"]
    assert "unknown" in kinds(shown)


async def test_a_mail_that_may_have_arrived_ends_as_unknown(app: MailApp, server: ScriptedSmtp) -> None:
    server.script.end_of_data = ACCEPT_AND_CUT
    mail_id = await app.send()
    await app.replica.work()
    await eventually(lambda: failed_job(app))
    assert (await app.show(mail_id))["status"] == "unknown"


async def failed_job(app: MailApp) -> Any:
    return await app.queue.get_failed_jobs(1)


async def test_421_pauses_the_queue_and_costs_no_attempt(app: MailApp, server: ScriptedSmtp) -> None:
    server.script.mail = [(421, "4.3.2 shutting down")]
    mail_id = await app.send()
    await app.replica.work()
    status = await eventually(lambda: paused(app))
    assert "421" in status.pause_reason
    shown = await eventually(lambda: app.has_status(mail_id, "pending"))
    assert [one["outcome"] for one in shown["attempts"]] == ["paused"]
    await eventually(lambda: given_back(app, shown["jobId"]))
    await app.platform.engine.resume("email-queue")
    await eventually(lambda: app.has_status(mail_id, "sent"))


async def given_back(app: MailApp, job_id: str) -> bool:
    return (await app.platform.engine.get(UUID(job_id))).attempts == 0


async def paused(app: MailApp) -> Any:
    status = await app.platform.engine.queue_status("email-queue")
    return status if status.paused else None


async def test_priority_10_overtakes(app: MailApp, server: ScriptedSmtp) -> None:
    for n in range(20):
        await app.send(subject=f"low {n}")
    await app.send(subject="high", priority=10)
    await app.replica.work()
    received = await server.wait_for(21)
    # Of the five that start at once, another one may be faster.
    assert "high" in {parsed(one)["Subject"] for one in received[:10]}


async def test_the_default_sender_comes_from_the_settings(pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path) -> None:
    async with mail_app(pool, tmp_path, SMTP_FROM_EMAIL="shop@shop.example", SMTP_FROM_NAME="Shop, Inc.") as app:
        mail_id = await app.send(**{"from": None})
        assert (await app.show(mail_id))["from"] == '"Shop, Inc." <shop@shop.example>'


async def test_an_interrupted_attempt_is_called_unknown_by_the_next_one(
    app: MailApp, server: ScriptedSmtp, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    """What a killed process leaves behind: an attempt that began and never said how it ended."""
    mail_id = await app.send()
    await app.attempts.start(UUID(mail_id), 0, 1)
    await app.replica.work()
    shown = await eventually(lambda: app.has_status(mail_id, "sent"))
    assert [one["outcome"] for one in shown["attempts"]] == ["unknown", "sent"]
    assert shown["uncertain"] is True


async def test_the_log_has_the_documents_lines(app: MailApp, server: ScriptedSmtp) -> None:
    server.script.end_of_data = [(451, "later")]
    with capture_logs() as lines:
        mail_id = await app.send(priority=5)
        await app.replica.work()
        shown = await eventually(lambda: app.has_status(mail_id, "sent"))
        await eventually(lambda: completed(app, shown["jobId"]))  # the last line comes after the mail's status
    said = [line for line in lines if line["event"].startswith(("Email job", "Processing email job"))]
    assert [line["event"] for line in said] == [
        *("Processing email job", "Email job failed", "Processing email job", "Email job completed")
    ]
    assert {"jobId": shown["jobId"], "queueId": mail_id, "attempt": 2, "priority": 5}.items() <= said[2].items()
    assert "451" in said[1]["error"]
    assert "ada@example.com" not in str(said)
