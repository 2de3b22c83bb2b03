from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from gateway.services.email.message import Mail, build
from gateway.services.email.smtp import SmtpPool, SmtpSettings
from gateway.services.email.smtp_answers import Outcome, Phase
from tests.support.eventually import eventually
from tests.support.smtp_pool import BODY, FROM, TO, PoolOf, failure_of, pool_of, server
from tests.support.smtp_server import (
    ACCEPT_AND_CUT,
    CUT,
    CUT_IN_BODY,
    HANG,
    OK,
    Answer,
    ScriptedSmtp,
)

__all__ = ["pool_of", "server"]  # fixtures


# -- the good way -----------------------------------------------------------------------------------------------------


async def test_a_mail_arrives_byte_for_byte_with_dots_at_line_starts(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    delivery = await pool.send(FROM, [TO, "b@example.com"], BODY)
    assert (delivery.code, delivery.reply) == (250, "2.0.0 queued as 1")
    assert {address: reply.verdict for address, reply in delivery.recipients.items()} == {
        TO: Outcome.SENT,
        "b@example.com": Outcome.SENT,
    }
    (message,) = server.messages
    assert (message.envelope_from, message.recipients, message.data) == (FROM, [TO, "b@example.com"], BODY)


@pytest.mark.parametrize("text", ["", ".", "..\n.\n", ".leading\n" + "x" * 5000, "é\n.\n"])
async def test_built_mails_arrive_unchanged(server: ScriptedSmtp, pool_of: PoolOf, text: str) -> None:
    data = build(
        Mail(
            message_id="<1@shop.example>",
            from_address=FROM,
            to=[TO],
            subject=".",
            text=text,
            html=text,
            date=datetime(2026, 11, 22, tzinfo=UTC),
        )
    )
    pool = await pool_of(server)
    await pool.send(FROM, [TO], data)
    assert server.messages[0].data == data


async def test_bare_line_ends_are_refused_before_anything_is_said(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    for smuggled in (b"a\n.\nMAIL FROM:<x>\r\n", b"a\r.\r\r\n"):
        with pytest.raises(ValueError, match="bare CR or LF"):
            await pool.send(FROM, [TO], smuggled)
    assert not any(line.startswith("MAIL") for _, line in server.commands)


async def test_connections_are_reused_and_never_more_than_allowed(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server, max_connections=3)
    await asyncio.gather(*(pool.send(FROM, [f"u{n}@example.com"], BODY) for n in range(60)))
    assert len(server.messages) == 60
    assert server.connections == 3
    assert pool.statistics.open == pool.statistics.idle == 3
    assert pool.statistics.busy == pool.statistics.waiting == 0


async def test_the_size_is_announced_where_the_server_wants_it(pool_of: PoolOf) -> None:
    server = ScriptedSmtp(size_limit=10_000)
    await server.start()
    pool = await pool_of(server)
    await pool.send(FROM, [TO], BODY)
    assert (1, f"MAIL FROM:<{FROM}> SIZE={len(BODY)}") in server.commands
    await server.stop()


# -- the life of a connection -----------------------------------------------------------------------------------------


async def test_a_connection_is_replaced_after_its_mails(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server, max_connections=1, max_mails_per_connection=2)
    for _ in range(5):
        await pool.send(FROM, [TO], BODY)
    assert [message.connection for message in server.messages] == [1, 1, 2, 2, 3]


async def test_a_connection_is_replaced_when_old(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server, max_age_s=0.0)
    await pool.send(FROM, [TO], BODY)
    await pool.send(FROM, [TO], BODY)
    assert [message.connection for message in server.messages] == [1, 2]


async def test_an_idle_connection_is_closed_with_quit(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server, idle_s=0.02)
    await pool.send(FROM, [TO], BODY)
    await eventually(lambda: (1, "QUIT") in server.commands)
    assert pool.statistics.open == 0


async def test_a_connection_is_asked_before_reuse_after_a_rest(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server, check_idle_s=0.0)
    await pool.send(FROM, [TO], BODY)
    await pool.send(FROM, [TO], BODY)
    assert (1, "RSET") in server.commands
    assert server.connections == 1


async def test_a_connection_that_does_not_answer_the_question_is_replaced(
    server: ScriptedSmtp, pool_of: PoolOf
) -> None:
    pool = await pool_of(server, check_idle_s=0.0)
    server.script.rset = [CUT]
    await pool.send(FROM, [TO], BODY)
    await pool.send(FROM, [TO], BODY)
    assert [message.connection for message in server.messages] == [1, 2]


@pytest.mark.parametrize("death", [CUT, (421, "4.4.2 idle too long"), HANG])
async def test_a_reused_connection_found_dead_costs_no_attempt(
    server: ScriptedSmtp, pool_of: PoolOf, death: Answer
) -> None:
    pool = await pool_of(server, command_timeout_s=2.0)
    await pool.send(FROM, [TO], BODY)
    server.script.mail = [death, OK]
    assert (await pool.send(FROM, [TO], BODY)).code == 250
    assert [message.connection for message in server.messages] == [1, 2]


async def test_a_server_that_dropped_its_clients_is_no_failure(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    await pool.send(FROM, [TO], BODY)
    await server.drop_connections()
    await pool.send(FROM, [TO], BODY)
    assert [message.connection for message in server.messages] == [1, 2]


async def test_a_fresh_connection_that_dies_is_not_replaced(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    server.script.mail = [CUT, OK]
    failure = await failure_of(pool)
    assert (failure.verdict, failure.phase, server.connections) == (Outcome.RETRY, Phase.MAIL, 1)


async def test_a_refused_mail_leaves_the_connection_usable(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    server.script.rcpt["no@example.com"] = (550, "5.1.1 no such user")
    assert (await failure_of(pool, ["no@example.com"])).verdict is Outcome.REJECT
    await pool.send(FROM, [TO], BODY)
    assert server.messages[0].connection == 1
    assert (1, "RSET") in server.commands  # else the server would answer 503 to a nested MAIL


async def test_cancelling_cuts_the_connection(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    server.script.end_of_data = [HANG, OK]
    sending = asyncio.create_task(pool.send(FROM, [TO], BODY))
    await asyncio.wait_for(server.hanging.wait(), 5)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert pool.statistics.open == 0
    await pool.send(FROM, [TO], BODY)
    assert server.messages[0].connection == 2


async def test_stop_takes_leave_is_safe_twice_and_unstarted(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    await pool.send(FROM, [TO], BODY)
    await pool.stop()
    await pool.stop()
    assert (1, "QUIT") in server.commands
    with pytest.raises(RuntimeError, match="not running"):
        await pool.send(FROM, [TO], BODY)
    await SmtpPool(SmtpSettings(host="127.0.0.1", port=1)).stop()


async def test_waiters_are_bounded(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server, max_connections=1, max_waiters=0)
    server.script.end_of_data = [HANG]
    sending = asyncio.create_task(pool.send(FROM, [TO], BODY))
    await asyncio.wait_for(server.hanging.wait(), 5)
    assert pool.statistics.busy == 1
    failure = await failure_of(pool)
    assert (failure.verdict, failure.pause_s) == (Outcome.PAUSE, 1.0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["mail", "data", "end_of_data"])
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [((451, "4.3.0 later"), Outcome.RETRY), ((550, "5.7.1 no"), Outcome.REJECT), ((421, "4.3.2 busy"), Outcome.PAUSE)],
)
async def test_the_answer_of_each_phase_decides(
    server: ScriptedSmtp, pool_of: PoolOf, phase: str, answer: tuple[int, str], outcome: Outcome
) -> None:
    pool = await pool_of(server)
    setattr(server.script, phase, [answer])
    failure = await failure_of(pool)
    assert (failure.verdict, failure.phase, failure.code, failure.reply) == (outcome, Phase(phase), *answer)
    assert (failure.pause_s is not None) == (outcome is Outcome.PAUSE)
    assert str(failure) == f"{phase}: {answer[0]} {answer[1]}"
    assert server.messages == []


@pytest.mark.parametrize(
    ("phase", "act", "outcome"),
    [
        ("greeting", CUT, Outcome.RETRY),
        ("ehlo", CUT, Outcome.RETRY),
        ("mail", CUT, Outcome.RETRY),
        ("data", CUT, Outcome.RETRY),
        ("data", CUT_IN_BODY, Outcome.UNKNOWN),
        ("end_of_data", CUT, Outcome.UNKNOWN),
        ("end_of_data", ACCEPT_AND_CUT, Outcome.UNKNOWN),
        ("greeting", HANG, Outcome.RETRY),
        ("ehlo", HANG, Outcome.RETRY),
        ("mail", HANG, Outcome.RETRY),
        ("data", HANG, Outcome.RETRY),
        ("end_of_data", HANG, Outcome.UNKNOWN),
    ],
)
async def test_silence_is_unknown_only_after_the_message_was_begun(
    server: ScriptedSmtp, pool_of: PoolOf, phase: str, act: Answer, outcome: Outcome
) -> None:
    # Short where the server is silent. Before the message any silence means the same: it need not be told apart there.
    before, after = (0.15 if act == HANG and outcome is one else 5.0 for one in (Outcome.RETRY, Outcome.UNKNOWN))
    pool = await pool_of(server, connect_timeout_s=before, command_timeout_s=before, data_timeout_s=after)
    setattr(server.script, phase, [act])
    failure = await failure_of(pool)
    assert (failure.verdict, failure.code) == (outcome, None)
    assert pool.statistics.open == 0
    assert len(server.messages) == (act is ACCEPT_AND_CUT)


async def test_accepted_recipients_get_the_mail_and_each_refusal_is_told(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    server.script.rcpt = {"gone@x.example": (550, "5.1.1 no such user"), "full@x.example": [(452, "4.2.2 full")]}
    delivery = await pool.send(FROM, ["gone@x.example", TO, "full@x.example"], BODY)
    assert {address: (reply.code, reply.verdict) for address, reply in delivery.recipients.items()} == {
        "gone@x.example": (550, Outcome.REJECT),
        TO: (250, Outcome.SENT),
        "full@x.example": (452, Outcome.RETRY),
    }
    assert server.messages[0].recipients == [TO]


@pytest.mark.parametrize(
    ("codes", "outcome"), [((550, 551), Outcome.REJECT), ((550, 450), Outcome.RETRY), ((450, 550), Outcome.RETRY)]
)
async def test_all_refused(server: ScriptedSmtp, pool_of: PoolOf, codes: tuple[int, int], outcome: Outcome) -> None:
    pool = await pool_of(server)
    server.script.rcpt = {f"{at}@x.example": (code, "no") for at, code in enumerate(codes)}
    failure = await failure_of(pool, ["0@x.example", "1@x.example"])
    assert (failure.verdict, failure.phase) == (outcome, Phase.RCPT)
    assert [reply.code for reply in failure.recipients.values()] == list(codes)
    assert ("DATA" in [line for _, line in server.commands]) is server.pipelining  # said before the answers were known
    assert server.messages == []


async def test_refusals_are_known_even_if_the_rest_fails(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    server.script.rcpt["gone@x.example"] = (550, "5.1.1 no such user")
    server.script.end_of_data = [(451, "4.3.0 later")]
    failure = await failure_of(pool, ["gone@x.example", TO])
    assert failure.verdict is Outcome.RETRY
    assert {address: reply.verdict for address, reply in failure.recipients.items()} == {
        "gone@x.example": Outcome.REJECT
    }


async def test_nobody_listens(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    pool = await pool_of(server)
    await server.stop()
    failure = await failure_of(pool)
    assert (failure.verdict, failure.phase) == (Outcome.RETRY, Phase.CONNECT)
    await server.start()
    assert (await pool.send(FROM, [TO], BODY)).code == 250


async def test_a_server_without_esmtp_is_spoken_to_in_smtp(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    server.script.ehlo = (502, "not implemented")
    pool = await pool_of(server)
    assert (await pool.send(FROM, [TO], BODY)).code == 250
