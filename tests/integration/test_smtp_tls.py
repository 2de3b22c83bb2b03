"""TLS and login."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.services.email.smtp_answers import Outcome, Phase
from tests.support.smtp_pool import BODY, FROM, TO, PoolOf, failure_of, pool_of, server
from tests.support.smtp_server import OK, Answer, Certificate, ScriptedSmtp

__all__ = ["pool_of", "server"]  # fixtures


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return Certificate()


@pytest.fixture
def ca_file(certificate: Certificate, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_bytes(certificate.ca_pem)
    return str(path)


@pytest.mark.parametrize(("offered", "mode"), [("starttls", "starttls"), ("starttls", "auto"), ("tls", "tls")])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "X-OTHER PLAIN"])
async def test_login_over_tls(
    pool_of: PoolOf, certificate: Certificate, ca_file: str, offered: str, mode: str, mechanism: str
) -> None:
    server = ScriptedSmtp(tls=offered, certificate=certificate, users={"shop": "s3cret"}, mechanisms=mechanism)
    await server.start()
    pool = await pool_of(server, host="localhost", tls=mode, ca_file=ca_file, user="shop", password="s3cret")
    await pool.check()
    await pool.send(FROM, [TO], BODY)
    assert (server.messages[0].tls, server.messages[0].user) == (True, "shop")
    await pool.stop()
    await server.stop()


@pytest.mark.parametrize(("offered", "mode"), [("starttls", "starttls"), ("starttls", "auto"), ("tls", "tls")])
async def test_an_unknown_certificate_pauses(
    pool_of: PoolOf, certificate: Certificate, offered: str, mode: str
) -> None:
    server = ScriptedSmtp(tls=offered, certificate=certificate)
    await server.start()
    failure = await failure_of(await pool_of(server, host="localhost", tls=mode))
    assert (failure.verdict, failure.pause_s) == (Outcome.PAUSE, 300)
    assert "TLS could not be trusted" in str(failure)
    assert not any(line.startswith("MAIL") for _, line in server.commands)
    await server.stop()


async def test_starttls_that_is_not_offered_is_never_replaced_by_plain_text(
    server: ScriptedSmtp, pool_of: PoolOf
) -> None:
    failure = await failure_of(await pool_of(server, tls="starttls"))
    assert (failure.verdict, failure.phase) == (Outcome.PAUSE, Phase.STARTTLS)


async def test_auto_sends_in_plain_text_where_no_tls_is_offered(server: ScriptedSmtp, pool_of: PoolOf) -> None:
    await (await pool_of(server, tls="auto")).send(FROM, [TO], BODY)
    assert not server.messages[0].tls


@pytest.mark.parametrize(
    ("changes", "users", "answer", "words"),
    [
        ({"user": "shop", "password": "wrong"}, {"shop": "s3cret"}, OK, "535"),
        ({}, {"shop": "s3cret"}, OK, "530"),
        ({"user": "shop", "password": "s3cret"}, None, OK, "does not offer"),
        ({"user": "shop", "password": "s3cret"}, {"shop": "s3cret"}, (454, "4.7.0 later"), "454"),
        ({"user": "shop", "password": "s3cret"}, {"shop": "s3cret"}, (534, "5.7.9 weak"), "534"),
    ],
)
async def test_login_refusals_pause_and_keep_the_password_to_themselves(
    pool_of: PoolOf, changes: dict[str, str], users: dict[str, str] | None, answer: Answer, words: str
) -> None:
    server = ScriptedSmtp(users=users)
    server.script.auth = answer
    await server.start()
    failure = await failure_of(await pool_of(server, **changes))
    assert failure.verdict is Outcome.PAUSE
    assert words in str(failure)
    assert "s3cret" not in str(failure)
    await server.stop()
