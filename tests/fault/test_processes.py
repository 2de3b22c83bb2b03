"""Gateway processes that die, freeze or are told to stop with mails in their hands: nothing is lost or charged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.gateway import QUEUE, Accepted, Cluster, HoldingSmtp, leader
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import (
    BOTH_MODES,
    LONG,
    WITH_REDIS,
    WITH_REDIS_ALWAYS,
    WITHOUT_REDIS,
    WITHOUT_REDIS_ALWAYS,
)
from tests.support.smtp_server import HANG, Answer

pytestmark = pytest.mark.fault


def hang_once_at_rcpt(phase: str, _subject: str, seen: int) -> Answer | None:
    """Each mail's first attempt waits for ever before the server has seen it."""
    return HANG if phase == "rcpt" and seen == 0 else None


def kinds(job: dict[str, Any]) -> list[str]:
    return [entry["kind"] for entry in job["errors"]]


def outcomes(mail: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in mail["attempts"]]


async def start_leader(cluster: Cluster) -> GatewayProcess:
    """A process that does the chores and sends no mail, so that the others may die without an election (15 s)."""
    started = await cluster.start(GATEWAY_QUEUES="orchestration")
    await eventually(lambda: leader(cluster.environment["DATABASE_URL"]), 20)
    return started


async def five_in_the_hands_of_one(cluster: Cluster, smtp: HoldingSmtp) -> tuple[GatewayProcess, list[Accepted]]:
    """Start a process that holds five mails at RCPT."""
    holder = await cluster.start(SMTP_TIMEOUT_S="60")
    smtp.script.rule = hang_once_at_rcpt
    held = await cluster.submit_many(5, holder)
    await eventually(lambda: all(smtp.script.seen["rcpt", mail.recipient] for mail in held), 20)
    smtp.script.rule = None
    return holder, held


async def all_sent_after_one_stall(cluster: Cluster, held: list[Accepted]) -> None:
    for mail in held:
        job = await cluster.job(mail)
        assert (job["state"], job["stalls"], job["attempts"], kinds(job)) == ("completed", 1, 1, ["stalled"])
        shown = await cluster.show(mail)
        assert (outcomes(shown), shown["uncertain"]) == (["unknown", "sent"], True), "it may have been sent"


@WITH_REDIS_ALWAYS
async def test_A_F_mails_of_a_killed_process_are_sent_by_the_other(cluster: Cluster, smtp: HoldingSmtp) -> None:
    chores = await start_leader(cluster)
    killed, held = await five_in_the_hands_of_one(cluster, smtp)
    other = await cluster.start()
    await cluster.submit_many(5, other)
    killed.kill()
    await cluster.submit_many(5, other)
    await cluster.all_delivered()
    assert cluster.duplicates() == []
    await all_sent_after_one_stall(cluster, held)
    await eventually(lambda: stalled(chores, 5))  # the other may have sent them before it is told


async def stalled(chores: GatewayProcess, jobs: int) -> bool:
    assert await chores.metric("gateway_job_stalled_total", queue=QUEUE) == jobs
    assert chores.log.count('"Job stalled"') == jobs
    return True


@LONG
@WITHOUT_REDIS
async def test_A_F_the_leader_may_be_killed_too(cluster: Cluster, smtp: HoldingSmtp) -> None:
    killed, held = await five_in_the_hands_of_one(cluster, smtp)
    await eventually(lambda: leader(cluster.environment["DATABASE_URL"]))
    await cluster.start()
    killed.kill()
    await cluster.all_delivered(25)
    assert cluster.duplicates() == []
    await all_sent_after_one_stall(cluster, held)


@WITHOUT_REDIS
async def test_C_a_mail_accepted_when_its_process_died_is_sent_again_with_the_same_id(
    cluster: Cluster, smtp: HoldingSmtp
) -> None:
    await start_leader(cluster)
    killed = await cluster.start()
    smtp.answers.clear()
    mail = await cluster.submit(killed)
    await smtp.wait_for(1)
    killed.kill()
    smtp.answers.set()
    await cluster.start()
    await smtp.wait_for(2, 30)
    shown = await eventually(lambda: cluster.has_status(mail, "sent"))
    assert (outcomes(shown), shown["uncertain"]) == (["unknown", "sent"], True)
    assert all(b"Message-ID: " + shown["messageId"].encode() in message.data for message in smtp.messages)
    assert ((await cluster.job(mail))["attempts"], len(smtp.messages)) == (1, 2)


@WITHOUT_REDIS
async def test_C_a_cancel_of_a_mail_whose_attempt_died_admits_the_doubt(cluster: Cluster, smtp: HoldingSmtp) -> None:
    chores = await start_leader(cluster)
    killed = await cluster.start()
    smtp.answers.clear()
    mail = await cluster.submit(killed)
    await smtp.wait_for(1)
    killed.kill()
    cluster.retire(killed)
    smtp.answers.set()
    await eventually(lambda: cluster.has_status(mail, "pending", chores), 30)
    await chores.admin.post(f"/api/v1/emails/{mail.id}/cancel")
    shown = await cluster.has_status(mail, "cancelled", chores)
    assert (shown["uncertain"], len(smtp.messages)) == (True, 1), "it is at the mail server"


@LONG
@BOTH_MODES
async def test_B_a_process_that_froze_changes_nothing_when_it_wakes(cluster: Cluster, smtp: HoldingSmtp) -> None:
    await start_leader(cluster)
    frozen = await cluster.start()
    smtp.answers.clear()
    mail = await cluster.submit(frozen)
    await smtp.wait_for(1)
    frozen.freeze()
    smtp.answers.set()
    other = await cluster.start()
    await smtp.wait_for(2, 15)
    await eventually(lambda: cluster.has_status(mail, "sent", other))
    await eventually(cluster.is_settled)
    job, shown = await cluster.job(mail), await cluster.show(mail, other)
    assert (job["state"], job["stalls"], kinds(job)) == ("completed", 1, ["stalled"])
    frozen.thaw()
    await eventually(lambda: '"lease_lost"' in frozen.log)
    assert await cluster.job(mail) == job
    # What the server had answered to the first attempt may be learned late, the mail stays as it is.
    kept = ("status", "messageId", "uncertain", "error", "sentAt", "recipients")
    after = await cluster.show(mail, other)
    assert {name: after[name] for name in kept} == {name: shown[name] for name in kept}
    await cluster.submit(frozen)
    await cluster.all_delivered()
    assert len(smtp.messages) == 3


@WITHOUT_REDIS_ALWAYS
async def test_A_G_sigterm_under_load_loses_nothing_and_charges_nothing(cluster: Cluster, smtp: HoldingSmtp) -> None:
    smtp.script.delay_s = 0.02
    stopped, other = await cluster.start(), await cluster.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(cluster.submit_many(60))
        group.create_task(cluster.submit_many(60))
        await smtp.wait_for(20)
        stopped.terminate()
        assert await stopped.exit_code() == 0
    await cluster.all_delivered()
    assert (len(cluster.accepted), cluster.duplicates()) == (120, [])
    assert (await cluster.stats(other))["completed"] == 120
    jobs = [await cluster.job(mail) for mail in cluster.accepted]
    assert {(job["attempts"], job["stalls"]) for job in jobs} == {(1, 0)}
    assert {kind for job in jobs for kind in kinds(job)} <= {"interrupted"}, "handed back before it began"


@WITH_REDIS
async def test_G_what_outlasts_the_grace_period_is_handed_back_uncounted(cluster: Cluster, smtp: HoldingSmtp) -> None:
    cluster.environment["SHUTDOWN_GRACE_S"] = "1"
    leaving, held = await five_in_the_hands_of_one(cluster, smtp)
    await cluster.start()
    leaving.terminate()
    assert await leaving.exit_code() == 0
    await cluster.all_delivered()
    assert cluster.duplicates() == []
    for mail in held:
        job = await cluster.job(mail)
        assert (job["attempts"], job["stalls"], kinds(job)) == (1, 0, ["interrupted"])


@LONG
@WITHOUT_REDIS
async def test_G_a_second_signal_hands_back_at_once(cluster: Cluster, smtp: HoldingSmtp) -> None:
    leaving, _ = await five_in_the_hands_of_one(cluster, smtp)
    await cluster.start()
    leaving.terminate()
    await eventually(lambda: '"draining"' in leaving.log)
    leaving.terminate()
    assert await leaving.exit_code(5) == 0, "the grace period is 10 s"
    await cluster.all_delivered()
    assert cluster.duplicates() == []


@LONG
@WITHOUT_REDIS
async def test_F_the_second_stall_fails_a_job(cluster: Cluster, smtp: HoldingSmtp) -> None:
    smtp.script.rule = lambda phase, _subject, _seen: HANG if phase == "rcpt" else None
    await start_leader(cluster)
    first = await cluster.start()
    mail = await cluster.submit(first)
    await eventually(lambda: is_active(cluster, mail, stalls=0))
    second = await cluster.start()
    first.kill()
    await eventually(lambda: is_active(cluster, mail, stalls=1))
    second.kill()
    shown = await eventually(lambda: cluster.has_status(mail, "unknown"))
    job = await cluster.job(mail)
    assert (job["state"], job["stalls"], job["attempts"]) == ("failed", 2, 0)
    assert "stalled 2 times" in shown["error"]


async def is_active(cluster: Cluster, mail: Accepted, stalls: int) -> bool:
    job = await cluster.job(mail)
    return (job["state"], job["stalls"]) == ("active", stalls)
