"""The SMTP server of a chaos run: takes mails, and refuses, hangs or breaks off while told to."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from tests.support.smtp_server import ACCEPT_AND_CUT, CUT, HANG, Act, Answer, Received, ScriptedSmtp

MESSAGE_ID = re.compile(rb"^Message-ID:\s*(<[^>]+>)", re.MULTILINE | re.IGNORECASE)

# By fault: the phases at which it may strike, and what is answered.
_ANSWERS: dict[str, list[tuple[str, Act | tuple[int, str]]]] = {
    "smtp_4xx": [
        *(("mail", (451, "4.3.0 later")), ("rcpt", (450, "4.2.1 later")), ("rcpt", (452, "4.5.3 later"))),
        *(("data", (451, "4.3.0 later")), ("end_of_data", (451, "4.3.0 later"))),
    ],
    "smtp_5xx": [("rcpt", (550, "5.1.1 nobody of that name")), ("end_of_data", (554, "5.7.1 refused"))],
    "smtp_421": [("mail", (421, "4.3.2 shutting down")), ("end_of_data", (421, "4.3.2 shutting down"))],
    "smtp_hang": [("greeting", HANG), ("mail", HANG), ("rcpt", HANG), ("data", HANG), ("end_of_data", HANG)],
    "smtp_cut_after_data": [("end_of_data", ACCEPT_AND_CUT), ("end_of_data", CUT)],
}
_CHANCE = 0.4  # of striking, at each phase where it can: some mails get through all along


@dataclass(frozen=True)
class Arrived:
    """One message at the server. ``at``: ``time.monotonic()``."""

    message_id: str
    recipients: tuple[str, ...]
    at: float


class Sink(ScriptedSmtp):
    """``refused``: what got a 5xx: an address, or the number of a mail that was refused as a whole. ``faults``: those
    that are on."""

    def __init__(self, seed: int, answer_s: float) -> None:
        super().__init__()
        self.script.rule = self._answer
        self.script.delay_s = answer_s
        self.refused: set[str] = set()
        self.arrived: list[Arrived] = []
        self.faults: set[str] = set()
        self._random = random.Random(f"smtp {seed}")

    def _answer(self, phase: str, subject: str, _seen: int) -> Answer | None:
        for fault in sorted(self.faults):
            choices = [answer for at, answer in _ANSWERS[fault] if at == phase]
            if choices and self._random.random() < _CHANCE:
                answer = self._random.choice(choices)
                if fault == "smtp_5xx":
                    self.refused.add(subject if phase == "rcpt" else number_of(subject))
                return answer
        return None

    async def keep(self, message: Received) -> None:
        found = MESSAGE_ID.search(message.data)
        message_id = found[1].decode() if found else ""
        self.arrived.append(Arrived(message_id, tuple(message.recipients), message.at))


def address(number: int, index: int) -> str:
    """Recipient ``index`` of the run's mail ``number``: no two mails share one, but for those sent again."""
    return f"m{number}.{index}@example.com"


def number_of(recipient: str) -> str:
    return recipient.partition(".")[0]
