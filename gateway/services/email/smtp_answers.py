"""What an SMTP server's answer, or its silence, means for a mail. Pure; a table, not a conversation.

Sources: RFC 5321 (4.2.1 reply codes, 3.8 and 4.2.4.2 on 421, 4.5.3.1.10 too many recipients, 4.1.1.4 the answer to DATA
is what counts), RFC 3463 (enhanced codes), RFC 4954 (AUTH), RFC 3207 (STARTTLS), RFC 7504 (521 and 556).
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

REST_S = 60.0  # after 421 or a passing login problem: as long as the first step of the e-mail queue's back-off
REFUSED_REST_S = 300.0  # a refused login or certificate needs a person; more often would lock accounts and fill logs
FULL_REST_S = 1.0  # no free connection in the pool: one of the mails before this one ends soon


class Phase(StrEnum):
    """How far the conversation had come. ``END_OF_DATA`` begins with the first byte after 354 and ends with the answer
    to the final dot: only there can a lost connection mean that the mail was accepted."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    END_OF_DATA = "end_of_data"
    QUIT = "quit"


class Cause(StrEnum):
    """Why there is no usable answer."""

    UNREACHABLE = "unreachable"  # refused, no route, no such host
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    MALFORMED = "malformed"  # bytes that are no reply
    TLS = "tls"  # handshake failed, certificate not trusted
    NOT_OFFERED = "not_offered"  # STARTTLS or AUTH is wanted and the server does not have it
    BUSY = "busy"  # our own pool is full


class Outcome(StrEnum):
    SENT = "sent"  # accepted: this recipient or this mail is the server's now
    RETRY = "retry"  # costs an attempt
    REJECT = "reject"  # permanent: for the recipient at RCPT, for the mail elsewhere
    PAUSE = "pause"  # the server wants none of our mails for now; costs no attempt
    UNKNOWN = "unknown"  # may have been accepted


class Verdict(msgspec.Struct, frozen=True):
    """``pause_s`` is set for PAUSE alone. ``reason`` is a sentence for people, without secrets."""

    outcome: Outcome
    reason: str
    pause_s: float | None = None


_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=\s|$)")
_BEFORE_MAIL = frozenset({Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.STARTTLS, Phase.AUTH})

# Answers that say "log in first" or "your login is bad" wherever they come (RFC 4954, 4 and 6): 530 also stands for
# "STARTTLS first" (RFC 3207, 4). None is the fault of one mail.
_LOGIN_CODES = frozenset({530, 534, 535, 538})

# Code and phase that mean something else than their first digit says; phase None: in each phase.
_EXCEPTIONS: dict[tuple[int, Phase | None], tuple[Outcome, float | None]] = {
    (421, None): (Outcome.PAUSE, REST_S),
    (454, Phase.AUTH): (Outcome.PAUSE, REST_S),
    (432, Phase.AUTH): (Outcome.PAUSE, REFUSED_REST_S),  # password must be changed
    (503, Phase.MAIL): (
        Outcome.RETRY,
        None,
    ),  # bad sequence: the connection's fault, not the mail's
    (503, Phase.RCPT): (Outcome.RETRY, None),
    (503, Phase.DATA): (Outcome.RETRY, None),
    **{(code, None): (Outcome.PAUSE, REFUSED_REST_S) for code in _LOGIN_CODES},
}

_CAUSE_WORDS = {
    Cause.UNREACHABLE: "the server could not be reached",
    Cause.TIMEOUT: "the server did not answer in time",
    Cause.DISCONNECTED: "the connection was lost",
    Cause.MALFORMED: "the server's answer was not SMTP",
    Cause.TLS: "the server's TLS could not be trusted",
    Cause.NOT_OFFERED: "the server does not offer what the settings ask for",
    Cause.BUSY: "all connections are in use",
}

_CAUSE_OUTCOMES: dict[Cause, tuple[Outcome, float | None]] = {
    Cause.TLS: (Outcome.PAUSE, REFUSED_REST_S),
    Cause.NOT_OFFERED: (Outcome.PAUSE, REFUSED_REST_S),
    Cause.BUSY: (Outcome.PAUSE, FULL_REST_S),
}


def enhanced_code(text: str) -> str | None:
    """``'5.1.1'`` of ``'5.1.1 no such user'`` (RFC 3463; RFC 2034 puts it first in each line)."""
    match = _ENHANCED.match(text)
    return match[0] if match else None


def classify(phase: Phase, code: int, text: str) -> Verdict:
    """Judge a reply. The code decides; the enhanced code only where RFC 5321 leaves two readings (552 at RCPT)."""
    reason = f"{phase}: {code} {' '.join(text.split())}".rstrip()
    exception = _EXCEPTIONS.get((code, None)) or _EXCEPTIONS.get((code, phase))
    if exception is not None:
        return Verdict(exception[0], reason, exception[1])
    family = code // 100
    if family == 2 and phase is not Phase.DATA:
        return Verdict(Outcome.SENT, reason)
    if phase is Phase.QUIT or (code == 354 and phase is Phase.DATA):
        return Verdict(Outcome.SENT, reason)
    if family == 4:
        return Verdict(Outcome.PAUSE, reason, REST_S) if phase is Phase.AUTH else Verdict(Outcome.RETRY, reason)
    if family == 5:
        return _permanent(phase, code, text, reason)
    return classify_cause(phase, Cause.MALFORMED, reason)


def classify_cause(phase: Phase, cause: Cause, detail: str = "") -> Verdict:
    """Judge a failure without an answer. After the first byte of the message only UNKNOWN is honest."""
    reason = f"{phase}: {_CAUSE_WORDS[cause]}" + (f" ({detail})" if detail else "")
    if phase is Phase.QUIT:
        return Verdict(Outcome.SENT, reason)
    if phase is Phase.END_OF_DATA:
        return Verdict(Outcome.UNKNOWN, reason)
    outcome, pause_s = _CAUSE_OUTCOMES.get(cause, (Outcome.RETRY, None))
    return Verdict(outcome, reason, pause_s)


def _permanent(phase: Phase, code: int, text: str, reason: str) -> Verdict:
    if phase in _BEFORE_MAIL:  # the server refuses us, not this mail: no mail may fail for it
        return Verdict(Outcome.PAUSE, reason, REFUSED_REST_S)
    if phase is Phase.RCPT and code == 552 and enhanced_code(text) in (None, "5.5.3"):
        return Verdict(Outcome.RETRY, reason)  # older servers' "too many recipients" (RFC 5321, 4.5.3.1.10)
    return Verdict(Outcome.REJECT, reason)


class RecipientReply(msgspec.Struct, frozen=True):
    """What the server said to one RCPT TO. ``verdict`` is SENT once the message itself was accepted as well."""

    code: int
    reply: str
    verdict: Outcome


class Delivery(msgspec.Struct, frozen=True):
    """The server took the message for at least one recipient. ``code`` and ``reply`` answer the final dot.

    ``recipients`` has each address that was asked for: SENT, REJECT, or RETRY (send again to that one alone).
    """

    code: int
    reply: str
    recipients: dict[str, RecipientReply]
    phase: Phase = Phase.END_OF_DATA


class SmtpFailure(Exception):
    """The message was taken for nobody, or (UNKNOWN) nobody knows. ``str()`` is a sentence for people.

    ``code`` is None where no answer came, ``pause_s`` is set for PAUSE alone. ``recipients`` has what was answered to
    each RCPT before the failure: REJECT is final there whatever became of the rest.
    """

    def __init__(
        self,
        judged: Verdict,
        phase: Phase,
        code: int | None = None,
        reply: str | None = None,
        recipients: dict[str, RecipientReply] | None = None,
    ) -> None:
        super().__init__(judged.reason)
        self.verdict = judged.outcome
        self.pause_s = judged.pause_s
        self.phase = phase
        self.code = code
        self.reply = reply
        self.recipients = recipients or {}
