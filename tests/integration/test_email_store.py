"""The mails' statements and the trigger that lets a mail's status follow its job, on a real ledger."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.services.email import store as email_store
from gateway.services.email.addresses import parse_address
from gateway.services.email.attempts import Answer, Attempts, RecipientAnswer, may_pass
from gateway.services.email.message import Attachment
from gateway.services.email.schemas import Draft
from gateway.services.email.store import SQL, MailFilter, MailStore, NewMail
from tests.support.eventually import eventually

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
ADA, BOB = "ada@example.com", "bob@example.com"


def new_mail(**fields: Any) -> NewMail:
    mail_id = uuid7()
    draft = Draft(
        sender=parse_address("shop@shop.example"), **{"to": [parse_address(ADA)], "text": "It works", **fields}
    )
    return NewMail(
        id=mail_id, job_id=uuid7(), owner="ann", user_id="ann", message_id=f"<{mail_id}@shop.example>", draft=draft
    )


def sending(pool: Pool) -> Attempts:
    return Attempts(pool, "smtp")


async def inserted(pool: Pool, *mails: NewMail) -> dict[UUID, str]:
    async with pool.acquire() as connection, connection.transaction():
        statuses = await MailStore(pool).insert(connection, mails)
        for mail in mails:
            await connection.execute(
                "INSERT INTO jobs (id, queue, task, state, args, max_attempts) "
                "VALUES ($1, 'q', 'email.send', 'waiting', '{}', 3)",
                mail.job_id,
            )
    return statuses


async def move(pool: Pool, mail: NewMail, state: str, **columns: Any) -> None:
    """Move the mail's job as the engine's statements do."""
    names = list(columns)
    assignments = "".join(f", {name} = ${at}" for at, name in enumerate(names, 3))
    await pool.execute(f"UPDATE jobs SET state = $2{assignments} WHERE id = $1", mail.job_id, state, *columns.values())


async def status_of(pool: Pool, mail: NewMail) -> str:
    found: str = await pool.fetchval("SELECT status FROM emails WHERE id = $1", mail.id)
    return found


async def events_of(pool: Pool, mail: NewMail) -> list[str]:
    return [event.type for event in await MailStore(pool).events(mail.id)]


def answered(*recipients: tuple[str, str], outcome: str = "sent") -> Answer:
    return Answer(
        outcome=outcome,
        code=250,
        reply="queued",
        recipients=[RecipientAnswer(address=a, status=s, code=250, reply="ok") for a, s in recipients],
    )


@pytest.mark.parametrize("name", sorted(SQL))
async def test_every_statement_is_valid(pool: Pool, name: str) -> None:
    async with pool.acquire() as connection:
        await connection.prepare(SQL[name])


def test_no_statement_is_unused() -> None:
    text = "".join(path.read_text("utf-8") for path in Path(email_store.__file__).parent.glob("*.py"))
    assert [name for name in SQL if f'SQL["{name}"]' not in text] == []


async def test_mails_recipients_files_and_events_are_kept_in_one_go(pool: Pool) -> None:
    file = Attachment(filename="a.bin", content_type="application/x", content=b"\x00\xff", content_id=None)
    later = datetime.now(UTC) + timedelta(days=1)
    mails = [
        new_mail(cc=[parse_address("Ada <ada@example.com>"), parse_address(BOB)], attachments=[file]),
        new_mail(scheduled_at=later),
        new_mail(scheduled_at=datetime(2020, 1, 1, tzinfo=UTC)),
    ]
    statuses = await inserted(pool, *mails)
    assert [statuses[mail.id] for mail in mails] == ["pending", "scheduled", "pending"]
    store = MailStore(pool)
    assert [(one.address, one.kind) for one in await store.recipients(mails[0].id)] == [(ADA, "to"), (BOB, "cc")]
    assert await sending(pool).attachments(mails[0].id) == [file]
    assert await events_of(pool, mails[1]) == ["scheduled"]
    assert await events_of(pool, mails[2]) == ["queued"]


async def test_an_attempt_reads_only_recipients_without_an_answer(pool: Pool) -> None:
    mail = new_mail(bcc=[parse_address(BOB)])
    await inserted(pool, mail)
    store, attempts = MailStore(pool), sending(pool)
    first = await attempts.start(mail.id, 1, 1)
    assert first is not None
    assert first.pending == [ADA, BOB]
    await attempts.record(mail.id, 1, answered((ADA, "accepted"), (BOB, "pending"), outcome="retry"))
    second = await attempts.start(mail.id, 2, 2)
    assert second is not None
    assert (second.pending, second.sent_at is not None) == ([BOB], True)
    await attempts.record(mail.id, 2, answered((BOB, "rejected")))
    third = await attempts.start(mail.id, 3, 3)
    assert third is not None
    assert third.pending == []
    assert [one.outcome for one in await store.attempts(mail.id)] == ["retry", "sent"]
    assert await attempts.start(uuid7(), 1, 1) is None


async def test_an_accepted_recipient_stays_accepted(pool: Pool) -> None:
    """Invariant B for recipients: what a stale attempt reports late cannot take an acceptance back."""
    mail = new_mail()
    await inserted(pool, mail)
    store, attempts = MailStore(pool), sending(pool)
    await attempts.record(mail.id, 2, answered((ADA, "accepted")))
    await attempts.record(mail.id, 1, answered((ADA, "rejected"), outcome="rejected"))
    assert [one.status for one in await store.recipients(mail.id)] == ["accepted"]


async def test_the_status_follows_the_job(pool: Pool) -> None:
    mail = new_mail()
    await inserted(pool, mail)
    for state, columns, status in (
        ("active", {"attempts": 1}, "processing"),
        ("delayed", {"error": "451 later"}, "pending"),
        ("waiting", {}, "pending"),
        ("active", {"attempts": 2}, "processing"),
        ("failed", {"error": "450 still later"}, "failed"),
        ("waiting", {}, "pending"),
        ("cancelled", {"error": "cancelled by ann"}, "cancelled"),
    ):
        await move(pool, mail, state, **columns)
        assert await status_of(pool, mail) == status
    assert await events_of(pool, mail) == [
        *("queued", "processing", "queued", "processing", "failed", "queued", "cancelled")
    ]


async def test_a_sent_mail_stays_sent_whatever_its_job_does(pool: Pool) -> None:
    """The process died between the record of the acceptance and the job's end: rescue moves the job."""
    mail = new_mail()
    await inserted(pool, mail)
    await move(pool, mail, "active", attempts=1)
    await sending(pool).record(mail.id, 1, answered((ADA, "accepted")))
    for state in ("waiting", "active", "failed"):
        await move(pool, mail, state)
        assert await status_of(pool, mail) == "sent"


@pytest.mark.parametrize("uncertain", [True, False])
async def test_a_job_that_failed_in_the_dark_leaves_unknown(pool: Pool, uncertain: bool) -> None:
    mail = new_mail()
    await inserted(pool, mail)
    await move(pool, mail, "active", attempts=1)
    await sending(pool).start(mail.id, 1, 1)
    if uncertain:
        await sending(pool).record(mail.id, 1, Answer(outcome="unknown", reply="cut"))
    await move(pool, mail, "failed", error="stalled twice")
    assert await status_of(pool, mail) == "unknown"


async def test_a_retry_gives_refused_recipients_another_try(pool: Pool) -> None:
    mail = new_mail(cc=[parse_address(BOB)])
    await inserted(pool, mail)
    store, attempts = MailStore(pool), sending(pool)
    await attempts.record(mail.id, 1, answered((ADA, "rejected"), (BOB, "rejected"), outcome="rejected"))
    await move(pool, mail, "active", attempts=1)
    await move(pool, mail, "failed", error="550")
    await move(pool, mail, "waiting")
    assert [one.status for one in await store.recipients(mail.id)] == ["pending", "pending"]


async def test_moving_the_job_moves_the_mails_time(pool: Pool) -> None:
    mail = new_mail(scheduled_at=datetime.now(UTC) + timedelta(days=1))
    await inserted(pool, mail)
    await move(pool, mail, "delayed", run_at=datetime(2030, 1, 1, tzinfo=UTC))
    await move(pool, mail, "delayed", run_at=datetime(2031, 1, 1, tzinfo=UTC))
    found = await MailStore(pool).get(mail.id, "ann")
    assert found is not None
    assert (found[0].status, found[0].scheduled_at) == ("scheduled", datetime(2031, 1, 1, tzinfo=UTC))
    assert (await events_of(pool, mail))[-1] == "rescheduled"


async def test_mails_belong_to_their_owner(pool: Pool) -> None:
    mail = new_mail()
    await inserted(pool, mail)
    store = MailStore(pool)
    assert await store.get(mail.id, "bob") is None
    assert await store.page(MailFilter(owner="bob"), 10) == []
    assert len(await store.page(MailFilter(owner="ann"), 10)) == 1
    assert len(await store.page(MailFilter(), 10)) == 1


async def test_mails_of_one_moment_share_a_statement_and_keep_apart(pool: Pool) -> None:
    mails = [new_mail(bcc=[parse_address(BOB)]) for _ in range(5)]
    await inserted(pool, *mails)
    attempts = sending(pool)
    found = await asyncio.gather(*(attempts.start(mail.id, 1, 1) for mail in mails), attempts.start(uuid7(), 1, 1))
    assert [one.id if one else None for one in found] == [*(mail.id for mail in mails), None]
    told = [
        answered((ADA, "accepted"), (BOB, "accepted")),
        answered((ADA, "accepted"), (BOB, "rejected")),
        answered((BOB, "rejected"), outcome="retry"),
        Answer(outcome="unknown", reply="cut"),
        Answer(outcome="paused", code=421, reply="busy"),
    ]
    await asyncio.gather(*(attempts.record(mail.id, 1, answer) for mail, answer in zip(mails, told, strict=True)))
    store = MailStore(pool)
    assert [[one.status for one in await store.recipients(mail.id)] for mail in mails] == [
        *(["accepted", "accepted"], ["accepted", "rejected"], ["pending", "rejected"]),
        *(["pending", "pending"], ["pending", "pending"]),
    ]
    assert [[one.outcome for one in await store.attempts(mail.id)] for mail in mails] == [
        *(["sent"], ["sent"], ["retry"], ["unknown"], ["paused"])
    ]
    shown = [found[0] for mail in mails if (found := await store.get(mail.id, None))]
    assert [(one.status, one.uncertain, one.sent_at is not None) for one in shown] == [
        *(("sent", False, True), ("sent", False, True), ("pending", False, False)),
        *(("pending", True, False), ("pending", False, False)),
    ]
    assert await events_of(pool, mails[1]) == ["queued", "rejected", "sent"]


async def test_two_answers_of_one_mail_are_both_kept(pool: Pool) -> None:
    mail, other = new_mail(bcc=[parse_address(BOB)]), new_mail()
    await inserted(pool, mail, other)
    attempts = sending(pool)
    await asyncio.gather(attempts.start(other.id, 1, 1), attempts.start(mail.id, 1, 1), attempts.start(mail.id, 2, 2))
    await asyncio.gather(
        attempts.record(other.id, 1, answered((ADA, "accepted"))),  # the two below wait for it, and go together
        attempts.record(mail.id, 1, answered((ADA, "accepted"), (BOB, "pending"), outcome="retry")),
        attempts.record(mail.id, 2, Answer(outcome="unknown", reply="cut")),
    )
    found = await MailStore(pool).get(mail.id, None)
    assert found is not None
    assert (found[0].uncertain, found[0].sent_at is not None) == (True, True)


async def test_C_a_cancelled_start_is_written_and_says_that_nothing_was_sent(pool: Pool) -> None:
    mail = new_mail()
    await inserted(pool, mail)
    starting = asyncio.create_task(sending(pool).start(mail.id, 1, 1))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    (attempt,) = await MailStore(pool).attempts(mail.id)
    assert (attempt.outcome, attempt.reply) == ("retry", "interrupted before the message was sent")
    following = await sending(pool).start(mail.id, 2, 2)
    assert following is not None
    found = await MailStore(pool).get(mail.id, None)
    assert found is not None
    assert not found[0].uncertain


async def test_C_a_start_sees_the_answer_that_is_being_recorded(pool: Pool) -> None:
    mail = new_mail()
    await inserted(pool, mail)
    assert await sending(pool).start(mail.id, 1, 1) is not None
    async with pool.acquire() as first, first.transaction():
        told = [[mail.id], [1], ["sent"], [250], ["ok"], [mail.id], [ADA], ["accepted"], [250], ["ok"]]
        await first.execute(SQL["record_answers"], *told)
        starting = asyncio.create_task(sending(pool).start(mail.id, 2, 2))  # after a rescue, by another replica
        await eventually(lambda: _waits_for_a_lock(pool))
    following = await starting
    assert following is not None
    assert following.pending == []
    (attempt,) = await MailStore(pool).attempts(mail.id)
    assert attempt.outcome == "sent"


async def _waits_for_a_lock(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


async def test_an_answer_that_stood_in_anothers_way_is_told_again() -> None:
    assert may_pass(asyncpg.DeadlockDetectedError())
    assert may_pass(ConnectionResetError())
    assert not may_pass(asyncpg.DataError())
