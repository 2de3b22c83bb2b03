"""Groups of commands (RFC 2920) at a server that answers a whole group as it is told: in one piece, in many, or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.services.email.smtp import SmtpPool, SmtpSettings
from gateway.services.email.smtp_answers import Outcome, Phase
from tests.support.eventually import eventually
from tests.support.smtp_pool import BODY, FROM, TO, failure_of

OTHER = "b@example.com"
EHLO = b"250-raw\r\n250 PIPELINING\r\n"
FINE = b"250 2.1.0 ok\r\n"
GO_ON = b"354 go on\r\n"


class RawServer:
    """Answers each group that ends in DATA with the next of ``groups``, piece by piece, and closes after None."""

    def __init__(self) -> None:
        self.groups: list[list[bytes | None]] = []
        self.heard: list[bytes] = []  # groups, and what followed them
        self.texts: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        writer.write(b"220 raw\r\n")
        await reader.readline()
        writer.write(EHLO)
        try:
            while True:
                self.heard.append(await reader.readuntil(b"DATA\r\n"))
                for piece in self.groups.pop(0):
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                self.texts.append(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"250 2.0.0 taken\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def raw() -> RawServer:
    return RawServer()


@pytest.fixture
async def pool(raw: RawServer) -> AsyncIterator[SmtpPool]:
    listening = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    made = SmtpPool(SmtpSettings(host="127.0.0.1", port=port, tls="none", command_timeout_s=2.0, data_timeout_s=5.0))
    await made.start()
    yield made
    for writer in raw.writers:  # it knows no QUIT
        writer.close()
    await eventually(lambda: made.statistics.open == 0)
    await made.stop()
    listening.close()


async def test_the_envelope_goes_out_as_one_group_and_the_text_after_354(raw: RawServer, pool: SmtpPool) -> None:
    raw.groups = [[FINE, FINE, FINE, GO_ON]] * 2
    for _ in range(2):
        delivery = await pool.send(FROM, [TO, OTHER], BODY)
    assert list(delivery.recipients) == [TO, OTHER]
    group = f"MAIL FROM:<{FROM}>\r\nRCPT TO:<{TO}>\r\nRCPT TO:<{OTHER}>\r\nDATA\r\n".encode()
    assert (raw.heard, len(raw.texts), raw.connections) == ([group, group], 2, 1)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_replies_are_told_apart_however_they_are_cut(raw: RawServer, pool: SmtpPool, size: int) -> None:
    said = b"250-2.1.0 one\r\n250 2.1.0 two\r\n" + b"550 5.1.1 gone\r\n" + b"250 2.1.5 ok\r\n" + GO_ON
    raw.groups = [[said[at : at + size] for at in range(0, len(said), size)]]
    delivery = await pool.send(FROM, [TO, OTHER], BODY)
    assert {address: (reply.code, reply.reply) for address, reply in delivery.recipients.items()} == {
        TO: (550, "5.1.1 gone"),
        OTHER: (250, "2.1.5 ok"),
    }


async def test_nobody_accepted_but_354_gets_no_message(raw: RawServer, pool: SmtpPool) -> None:
    raw.groups = [[FINE + b"550 5.1.1 gone\r\n" + GO_ON], [FINE + FINE + GO_ON]]
    failure = await failure_of(pool)
    assert (failure.verdict, failure.phase, failure.code) == (Outcome.REJECT, Phase.RCPT, 550)
    assert (pool.statistics.open, raw.texts) == (0, [])
    await pool.send(FROM, [TO], BODY)
    assert (raw.connections, len(raw.texts)) == (2, 1)


async def test_a_refused_sender_ends_the_mail_whatever_follows(raw: RawServer, pool: SmtpPool) -> None:
    raw.groups = [[b"550 5.7.1 not you\r\n503 5.5.1 MAIL first\r\n503 5.5.1 RCPT first\r\n"]]
    failure = await failure_of(pool)
    assert (failure.verdict, failure.phase, failure.reply) == (Outcome.REJECT, Phase.MAIL, "5.7.1 not you")
    assert (failure.recipients, raw.texts) == ({}, [])


async def test_a_cut_inside_the_group_tells_what_was_answered(raw: RawServer, pool: SmtpPool) -> None:
    raw.groups = [[FINE + b"550 5.1.1 gone\r\n", None]]
    failure = await failure_of(pool, [TO, OTHER])
    assert (failure.verdict, failure.phase, failure.code) == (Outcome.RETRY, Phase.RCPT, None)
    assert {address: reply.code for address, reply in failure.recipients.items()} == {TO: 550}


async def test_421_inside_the_group_pauses(raw: RawServer, pool: SmtpPool) -> None:
    raw.groups = [[FINE + b"421 4.3.2 going down\r\n", None]]
    failure = await failure_of(pool, [TO, OTHER])
    assert (failure.verdict, failure.phase, failure.code) == (Outcome.PAUSE, Phase.RCPT, 421)


@pytest.mark.parametrize("said", [FINE, FINE + b"250-2.1.5 not all\r\n", FINE + b"25"])
async def test_silence_inside_the_group(raw: RawServer, pool: SmtpPool, said: bytes) -> None:
    raw.groups = [[said]]
    failure = await failure_of(pool)
    assert (failure.verdict, failure.phase, pool.statistics.open) == (Outcome.RETRY, Phase.RCPT, 0)


@pytest.mark.parametrize("noise", [b"no reply\r\n", b"\xff\xfe\r\n", b"x" * 9000])
async def test_what_is_no_reply_ends_the_connection(raw: RawServer, pool: SmtpPool, noise: bytes) -> None:
    raw.groups = [[FINE + noise]]
    failure = await failure_of(pool)
    assert (failure.verdict, failure.phase) == (Outcome.RETRY, Phase.RCPT)
    assert ("not SMTP" in str(failure), pool.statistics.open) == (True, 0)


async def test_more_replies_than_commands_never_answer_the_message(raw: RawServer, pool: SmtpPool) -> None:
    raw.groups = [[FINE + FINE + GO_ON + b"250 2.0.0 of nothing\r\n"]]
    failure = await failure_of(pool)
    assert (failure.verdict, failure.phase, raw.texts) == (Outcome.RETRY, Phase.DATA, [])


async def test_words_that_the_ledger_cannot_keep_are_replaced(raw: RawServer, pool: SmtpPool) -> None:
    raw.groups = [[FINE + b"550 5.1.1 \xe9\0 gone\r\n" + b"250 2.1.5 ok\r\n" + GO_ON]]
    delivery = await pool.send(FROM, [TO, OTHER], BODY)
    assert delivery.recipients[TO].reply == "5.1.1 \ufffd\ufffd gone"


@pytest.mark.parametrize("address", ["a\r\nDATA@x.example", "a>b@x.example", "é@x.example"])
async def test_an_address_is_never_a_command(raw: RawServer, pool: SmtpPool, address: str) -> None:
    with pytest.raises(ValueError, match="cannot be said"):
        await pool.send(FROM, [address], BODY)
    assert raw.heard == []
