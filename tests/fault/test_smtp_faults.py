"""Each way in which an SMTP server can disappoint, through a real process: what becomes of mail, job and queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.gateway import QUEUE, Accepted, Cluster, gateways, running
from tests.support.modes import WITH_REDIS, WITHOUT_REDIS
from tests.support.smtp_server import ACCEPT_AND_CUT, CUT, CUT_IN_BODY, HANG, Answer, ScriptedSmtp

pytestmark = pytest.mark.fault


@pytest.fixture
async def smtp() -> AsyncIterator[ScriptedSmtp]:
    async with running(ScriptedSmtp()) as server:
        yield server


def tried(mail: dict[str, Any]) -> list[tuple[int, str, int | None]]:
    return [(one["attempt"], one["outcome"], one["code"]) for one in mail["attempts"]]


def statuses(mail: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {one["address"]: (one["status"], one["code"]) for one in mail["recipients"]}


async def queue_of(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = (await cluster.processes[0].admin.get(f"/api/v1/admin/queues/{QUEUE}")).json()["data"]
    return found


@WITHOUT_REDIS
async def test_451_is_tried_again_with_growing_delay(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start()
    smtp.script.mail = [(451, "4.3.0 try later"), (451, "4.3.0 try later")]
    mail = await cluster.submit()
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert tried(shown) == [(1, "retry", 451), (2, "retry", 451), (3, "sent", 250)]
    assert (len(smtp.messages), (await cluster.job(mail))["attempts"]) == (1, 3)
    assert await cluster.processes[0].metric("gateway_job_failures_total", queue=QUEUE, **{"class": "error"}) == 2


@WITHOUT_REDIS
async def test_451_for_ever_fails_after_three_attempts(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start()
    smtp.script.end_of_data = (451, "4.3.0 try later")
    mail = await cluster.submit()
    shown = await eventually(lambda: cluster.has_status(mail, "failed"))
    await eventually(cluster.is_settled)
    assert [one["outcome"] for one in shown["attempts"]] == ["retry"] * 3
    assert "451" in shown["error"]
    assert (smtp.messages, (await cluster.stats())["failed"]) == ([], 1)


@WITHOUT_REDIS
async def test_550_fails_at_once(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start()
    smtp.script.end_of_data = [(550, "5.7.1 not wanted")]
    refused = await cluster.submit()
    shown = await eventually(lambda: cluster.has_status(refused, "failed"))
    assert tried(shown) == [(1, "rejected", 550)]
    assert "5.7.1 not wanted" in shown["error"]
    fine = await cluster.submit()  # not before: side by side, either may be answered first
    await eventually(lambda: cluster.has_status(fine, "sent"))
    assert len(smtp.messages) == 1


@WITHOUT_REDIS
async def test_one_of_three_recipients_is_refused(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start()
    smtp.script.rcpt["gone@example.com"] = (550, "5.1.1 no such user")
    mail = await cluster.submit(to=["ada@example.com", "gone@example.com", "bob@example.com"])
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert statuses(shown) == {
        "ada@example.com": ("accepted", 250),
        "gone@example.com": ("rejected", 550),
        "bob@example.com": ("accepted", 250),
    }
    assert [message.recipients for message in smtp.messages] == [["ada@example.com", "bob@example.com"]]
    assert {event["type"] for event in shown["events"]} == {"queued", "processing", "rejected", "sent"}


@WITHOUT_REDIS
async def test_one_of_three_recipients_is_put_off_and_sent_to_alone(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start()
    smtp.script.rcpt["later@example.com"] = [(451, "4.2.1 greylisted")]
    mail = await cluster.submit(to=["ada@example.com", "later@example.com", "bob@example.com"])
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert {status for status, _ in statuses(shown).values()} == {"accepted"}
    assert [message.recipients for message in smtp.messages] == [
        ["ada@example.com", "bob@example.com"],
        ["later@example.com"],
    ]


@WITH_REDIS
async def test_421_pauses_the_queue_and_burns_no_attempt(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    gateway = await cluster.start()
    smtp.script.greeting = [(421, "4.7.0 too many connections")]
    first = await cluster.submit()
    paused = await eventually(lambda: is_paused(cluster))
    assert "421" in paused["pauseReason"]
    later = await cluster.submit()
    job = await eventually(lambda: waits_again(cluster, first))
    shown = await cluster.show(first)
    assert (tried(shown), shown["status"], job["attempts"]) == ([(1, "paused", 421)], "pending", 0)
    assert (await cluster.show(later))["attempts"] == []
    assert (await gateway.admin.post(f"/api/v1/admin/queues/{QUEUE}/resume")).status_code == 200
    for mail in (first, later):
        await eventually(lambda mail=mail: cluster.has_status(mail, "sent"))


async def waits_again(cluster: Cluster, mail: str) -> dict[str, Any]:
    job = await cluster.job(mail)
    assert job["state"] == "waiting"
    return job


async def is_paused(cluster: Cluster) -> dict[str, Any]:
    queue = await queue_of(cluster)
    assert queue["paused"]
    return queue


async def test_a_refused_login_pauses_the_queue_and_burns_no_attempt(tmp_path: Path, database_url: str) -> None:
    login = {"SMTP_USER": "shop", "SMTP_PASSWORD": "wrong"}
    async with (
        running(ScriptedSmtp(users={"shop": "right"})) as smtp,
        gateways(tmp_path, database_url, smtp, **login) as cluster,
    ):
        await cluster.start()
        mail = await cluster.submit()
        paused = await eventually(lambda: is_paused(cluster))
        assert "535" in paused["pauseReason"]
        assert "wrong" not in cluster.processes[0].log, "the password is no one's to read"
        await cluster.submit_many(5)
        job = await eventually(lambda: waits_again(cluster, mail))
        assert job["attempts"] == 0
        assert len([line for _, line in smtp.commands if line.startswith("AUTH")]) == 1, "no account is locked"
        assert (await cluster.stats())["failed"] == 0


@WITHOUT_REDIS
async def test_silence_before_the_message_is_tried_again(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start(SMTP_TIMEOUT_S="3")
    smtp.script.rule = hang_at_the_first_rcpt
    mail = await cluster.submit()
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert tried(shown) == [(1, "retry", None), (2, "sent", 250)]
    assert (shown["uncertain"], len(smtp.messages)) == (False, 1)


def hang_at_the_first_rcpt(phase: str, _subject: str, seen: int) -> Answer | None:
    return HANG if phase == "rcpt" and seen == 0 else None


@WITHOUT_REDIS
@pytest.mark.parametrize(("end_of_data", "copies"), [(CUT, 1), (ACCEPT_AND_CUT, 2)], ids=["lost", "accepted"])
async def test_C_a_cut_after_data_is_unknown_and_sent_again_with_the_same_id(
    cluster: Cluster, smtp: ScriptedSmtp, end_of_data: Answer, copies: int
) -> None:
    gateway = await cluster.start(EMAIL_BACKOFF_MS="60000")
    smtp.script.end_of_data = [end_of_data]
    mail = await cluster.submit()
    between = await eventually(lambda: cluster.has_status(mail, "unknown"))
    assert (tried(between), between["uncertain"]) == ([(1, "unknown", None)], True)

    async def promoted() -> bool:
        """Once its attempt has been settled."""
        return (await gateway.admin.post(f"/api/v1/admin/jobs/{between['jobId']}/promote")).status_code == 200

    await eventually(promoted)
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert tried(shown) == [(1, "unknown", None), (2, "sent", 250)]
    assert shown["uncertain"], "it may have arrived twice, and says so"
    job = await cluster.job(mail)
    assert [(entry["kind"], entry["uncertain"]) for entry in job["errors"]] == [("error", True)]
    assert len(smtp.messages) == copies
    assert all(b"Message-ID: " + shown["messageId"].encode() in message.data for message in smtp.messages)


@WITHOUT_REDIS
async def test_C_silence_after_data_is_unknown_too(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start(EMAIL_TIMEOUT_MS="3000")
    smtp.script.end_of_data = [HANG]
    mail = await cluster.submit()
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert tried(shown) == [(1, "unknown", None), (2, "sent", 250)]
    assert (shown["uncertain"], len(smtp.messages)) == (True, 1)


@WITHOUT_REDIS
async def test_a_cut_in_the_message_is_unknown_too(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start()
    smtp.script.data = [CUT_IN_BODY]
    mail = await cluster.submit(text="x" * 300_000)
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert tried(shown) == [(1, "unknown", None), (2, "sent", 250)]
    assert len(smtp.messages) == 1


@WITHOUT_REDIS
async def test_a_server_that_is_away_for_a_while_gets_every_mail_once(cluster: Cluster, smtp: ScriptedSmtp) -> None:
    await cluster.start(EMAIL_ATTEMPTS="20")
    await cluster.submit_many(3)
    await cluster.all_delivered()
    await smtp.stop()
    mails: list[Accepted] = await cluster.submit_many(20)
    await eventually(lambda: tried_once(cluster, mails[-1]))
    await smtp.start()
    await cluster.all_delivered()
    assert (len(smtp.messages), cluster.duplicates()) == (23, [])


async def tried_once(cluster: Cluster, mail: Accepted) -> bool:
    return {one["outcome"] for one in (await cluster.show(mail))["attempts"]} == {"retry"}
