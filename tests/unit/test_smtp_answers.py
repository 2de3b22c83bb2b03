from __future__ import annotations

import itertools

import pytest

from gateway.services.email.smtp_answers import (
    Cause,
    Outcome,
    Phase,
    classify,
    classify_cause,
    enhanced_code,
)

P = Phase
BEFORE_MAIL = [P.CONNECT, P.GREETING, P.EHLO, P.STARTTLS, P.AUTH]


@pytest.mark.parametrize(
    ("phase", "code", "text", "outcome", "pause_s"),
    [
        (P.GREETING, 220, "ready", Outcome.SENT, None),
        (P.AUTH, 235, "2.7.0 ok", Outcome.SENT, None),
        (P.RCPT, 250, "ok", Outcome.SENT, None),
        (P.RCPT, 251, "will forward", Outcome.SENT, None),
        (P.DATA, 354, "go on", Outcome.SENT, None),
        (P.END_OF_DATA, 250, "queued as 1", Outcome.SENT, None),
        (P.QUIT, 500, "what?", Outcome.SENT, None),
        # transient
        (P.MAIL, 451, "4.3.0 try later", Outcome.RETRY, None),
        (P.RCPT, 450, "4.2.0 greylisted", Outcome.RETRY, None),
        (P.RCPT, 452, "4.5.3 too many recipients", Outcome.RETRY, None),
        (P.RCPT, 552, "too many recipients", Outcome.RETRY, None),
        (P.END_OF_DATA, 451, "", Outcome.RETRY, None),
        (P.STARTTLS, 454, "TLS not available", Outcome.RETRY, None),
        (P.GREETING, 450, "", Outcome.RETRY, None),
        (P.MAIL, 503, "5.5.1 nested MAIL", Outcome.RETRY, None),
        # permanent
        (P.RCPT, 550, "5.1.1 no such user", Outcome.REJECT, None),
        (P.RCPT, 552, "5.2.2 mailbox full", Outcome.REJECT, None),
        (P.RCPT, 554, "5.7.1 relay access denied", Outcome.REJECT, None),
        (P.RCPT, 556, "does not accept mail", Outcome.REJECT, None),
        (P.MAIL, 550, "5.7.1 sender refused", Outcome.REJECT, None),
        (P.MAIL, 552, "5.3.4 too large", Outcome.REJECT, None),
        (P.DATA, 554, "no valid recipients", Outcome.REJECT, None),
        (P.END_OF_DATA, 554, "5.7.1 spam", Outcome.REJECT, None),
        # the server wants nothing from us for now
        (P.GREETING, 554, "no SMTP service here", Outcome.PAUSE, 300),
        (P.GREETING, 521, "", Outcome.PAUSE, 300),
        (P.EHLO, 550, "", Outcome.PAUSE, 300),
        (P.AUTH, 535, "5.7.8 bad credentials", Outcome.PAUSE, 300),
        (P.AUTH, 534, "5.7.9 mechanism too weak", Outcome.PAUSE, 300),
        (P.AUTH, 432, "4.7.12 password transition", Outcome.PAUSE, 300),
        (P.AUTH, 454, "4.7.0 temporary", Outcome.PAUSE, 60),
        (P.AUTH, 451, "", Outcome.PAUSE, 60),
        (P.MAIL, 530, "5.7.0 authentication required", Outcome.PAUSE, 300),
        (P.RCPT, 530, "5.7.0 must issue STARTTLS first", Outcome.PAUSE, 300),
        # not SMTP
        (P.DATA, 250, "ok?", Outcome.RETRY, None),
        (P.MAIL, 99, "", Outcome.RETRY, None),
        (P.END_OF_DATA, 354, "", Outcome.UNKNOWN, None),
    ],
)
def test_answers(phase: Phase, code: int, text: str, outcome: Outcome, pause_s: float | None) -> None:
    verdict = classify(phase, code, text)
    assert (verdict.outcome, verdict.pause_s) == (outcome, pause_s)
    assert str(code) in verdict.reason


@pytest.mark.parametrize("phase", list(Phase))
def test_421_rests_in_each_phase(phase: Phase) -> None:
    verdict = classify(phase, 421, "4.3.2 closing")
    assert (verdict.outcome, verdict.pause_s) == (Outcome.PAUSE, 60)


@pytest.mark.parametrize(
    ("phase", "cause"),
    [(phase, cause) for phase, cause in itertools.product(Phase, Cause) if phase not in (P.END_OF_DATA, P.QUIT)],
)
def test_no_answer_before_the_message_is_never_unknown_and_never_final(phase: Phase, cause: Cause) -> None:
    verdict = classify_cause(phase, cause)
    lasting = cause in (Cause.TLS, Cause.NOT_OFFERED, Cause.BUSY)
    assert verdict.outcome is (Outcome.PAUSE if lasting else Outcome.RETRY)
    assert (verdict.pause_s is not None) == lasting


@pytest.mark.parametrize("cause", [Cause.TIMEOUT, Cause.DISCONNECTED, Cause.MALFORMED])
def test_no_answer_after_the_message_is_unknown(cause: Cause) -> None:
    assert classify_cause(P.END_OF_DATA, cause).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("phase", BEFORE_MAIL)
@pytest.mark.parametrize("code", [500, 502, 504, 521, 530, 535, 550, 554])
def test_a_refusal_before_mail_never_fails_a_mail(phase: Phase, code: int) -> None:
    assert classify(phase, code, "no").outcome is Outcome.PAUSE


def test_reasons_are_one_line() -> None:
    assert classify(P.RCPT, 550, "5.1.1 no\nsuch   user").reason == "rcpt: 550 5.1.1 no such user"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("5.1.1 no", "5.1.1"),
        ("4.7.650 x", "4.7.650"),
        ("no 5.1.1", None),
        ("", None),
        ("5.1.1x", None),
    ],
)
def test_enhanced_codes(text: str, code: str | None) -> None:
    assert enhanced_code(text) == code
