"""Was every promise kept? Judges the evidence of one run: rows, moves of jobs, messages at the mail server, and what
callers were told. Pure; ``test_audit`` shows that it finds what it looks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.fault.chaos_smtp import Arrived, number_of

OPEN_JOBS: Final = frozenset({"waiting", "delayed", "active"})
OPEN_MAILS: Final = frozenset({"scheduled", "pending", "processing"})
# Claims of one moment may overtake each other on their way from Redis to the ledger. Longer than this is no accident.
OVERTAKING_S: Final = 1.0


@dataclass
class Told:
    """``accepted``: mails that were answered with 202, with their recipients; ``cancelled``: those whose cancel was
    confirmed; ``asked``: those that somebody tried to cancel; ``unanswered``: recipients of sends that may or may not
    have been accepted; ``strange``: answers that no caller should get."""

    accepted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    strange: list[str] = field(default_factory=list)


@dataclass
class Job:
    state: str
    attempts: int
    max_attempts: int
    stalls: int


@dataclass
class Mail:
    """A mail's row. ``recipients``: their statuses; ``attempts``: their outcomes, None where nobody knows it yet."""

    status: str
    message_id: str
    uncertain: bool
    recipients: dict[str, str]
    attempts: list[str | None]
    job: Job | None


@dataclass
class Move:
    """A job went from one state to another (``chaos_record``). ``attempts`` and ``stalls``: before and after."""

    job: str
    old: str | None
    new: str
    priority: int
    fences: int
    attempts: tuple[int, int]
    stalls: tuple[int, int]
    claimed_at: float | None


@dataclass
class Evidence:
    """``refused``: recipients and numbers of mails that the server answered with 5xx; ``burst``: jobs that became ready
    at one moment when everything was well again."""

    mails: dict[str, Mail]
    moves: list[Move]
    arrived: list[Arrived]
    refused: set[str]
    told: Told
    max_stalls: int
    rate: tuple[int, float]  # starts, seconds
    burst: set[str]


@dataclass
class Findings:
    """Each entry names what is wrong. ``allowed``: second copies that invariant C allows; everything else is a broken
    promise."""

    lost: list[str]
    allowed: list[str]
    forbidden: list[str]
    stuck: list[str]
    illegal: list[str]
    over_limit: list[str]
    overtaken: list[str]

    @property
    def kept(self) -> bool:
        return not (self.lost or self.forbidden or self.stuck or self.illegal or self.over_limit or self.overtaken)


def judge(seen: Evidence) -> Findings:
    copies = Counter((each.message_id, recipient) for each in seen.arrived for recipient in each.recipients)
    allowed, forbidden = _second_copies(seen, copies)
    return Findings(
        lost=[*_lost(seen, copies)],
        allowed=allowed,
        forbidden=forbidden,
        stuck=[*_stuck(seen)],
        illegal=[*_illegal_ends(seen, copies), *_illegal_rows(seen), *_illegal_moves(seen.moves), *seen.told.strange],
        over_limit=[*_over_limit(seen.moves, *seen.rate)],
        overtaken=[*_overtaken(seen)],
    )


Copies = Counter[tuple[str, str]]


def _lost(seen: Evidence, copies: Copies) -> Iterator[str]:
    for mail_id in seen.told.accepted:
        mail = seen.mails.get(mail_id)
        if mail is None:
            yield f"{mail_id}: accepted, and has no row"
            continue
        for recipient, status in mail.recipients.items():
            if status == "accepted" and not copies[mail.message_id, recipient]:
                yield f"{mail_id}: said to be accepted for {recipient}, and never arrived"
            if status == "pending" and mail.status == "sent" and (mail.job is None or mail.job.state != "failed"):
                yield f"{mail_id}: said to be sent, and {recipient} was forgotten"


def _second_copies(seen: Evidence, copies: Copies) -> tuple[list[str], list[str]]:
    allowed, forbidden = [], []
    by_message_id = {mail.message_id: (mail_id, mail) for mail_id, mail in seen.mails.items()}
    for (message_id, recipient), number in copies.items():
        mail_id, mail = by_message_id.get(message_id, (message_id, None))
        if mail is None or recipient not in mail.recipients:
            forbidden.append(f"{message_id}: arrived for {recipient}, and no row says so")
        elif number > 1:
            honest = mail.uncertain and number <= len(mail.attempts)
            words = f"{mail_id}: {number} times for {recipient}, attempts {mail.attempts}, uncertain {mail.uncertain}"
            (allowed if honest else forbidden).extend([words] * (number - 1))
    return allowed, forbidden


def _stuck(seen: Evidence) -> Iterator[str]:
    for mail_id, mail in seen.mails.items():
        state = None if mail.job is None else mail.job.state
        if state is None or state in OPEN_JOBS or mail.status in OPEN_MAILS:
            yield f"{mail_id}: {mail.status}, job {state}"


def _illegal_ends(seen: Evidence, copies: Copies) -> Iterator[str]:
    for mail_id, mail in seen.mails.items():
        if mail.job is None:
            continue
        why = _dishonest(mail, mail.job, seen)
        if why is not None:
            yield f"{mail_id}: {mail.status}, job {mail.job.state}: {why}"
        if mail.status == "cancelled" and mail_id not in seen.told.asked:
            yield f"{mail_id}: cancelled, and nobody asked for it"
        # The mail may be sent all the same: by an attempt whose answer came late. No further attempt begins.
        if mail_id in seen.told.cancelled and mail.job.state != "cancelled":
            yield f"{mail_id}: its cancel was confirmed, and its job is {mail.job.state}"
        for recipient, status in mail.recipients.items():
            if status != "accepted" and copies[mail.message_id, recipient] and not _admits_doubt(mail):
                yield f"{mail_id}: {mail.status}, arrived for {recipient} whose row says {status}"


def _admits_doubt(mail: Mail) -> bool:
    return mail.uncertain or mail.status == "unknown"


def _dishonest(mail: Mail, job: Job, seen: Evidence) -> str | None:
    """Why this is no end that a mail may have; None if it is one."""
    statuses = Counter(mail.recipients.values())
    for recipient, status in mail.recipients.items():
        if status == "rejected" and not {recipient, number_of(recipient)} & seen.refused:
            return f"{recipient} was not refused by the server"
    if job.state == "completed" and (mail.status != "sent" or statuses["pending"] or not statuses["accepted"]):
        return f"recipients {dict(statuses)}"
    if job.state == "failed":
        spent = job.attempts >= job.max_attempts or job.stalls >= seen.max_stalls
        if statuses["pending"] and not spent:
            return f"given up after {job.attempts} attempts and {job.stalls} stalls"
        if mail.status not in ({"sent"} if statuses["accepted"] else {"failed", "unknown"}):
            return f"recipients {dict(statuses)}"
    if not 0 <= job.attempts <= job.max_attempts:
        return f"{job.attempts} of {job.max_attempts} attempts"
    return None


def _illegal_rows(seen: Evidence) -> Iterator[str]:
    for mail_id, mail in seen.mails.items():
        told = seen.told.accepted.get(mail_id)
        if told is None and not set(mail.recipients) <= seen.told.unanswered:
            yield f"{mail_id}: a mail that nobody was told of"
        if told is not None and set(told) != set(mail.recipients):
            yield f"{mail_id}: for {sorted(mail.recipients)}, and accepted for {sorted(told)}"


# (old, new) -> the changes of (attempts, stalls) that may come with it. A settlement keeps or gives back the attempt; a
# rescue gives it back and counts a stall.
_CHANGES: Final[dict[tuple[str | None, str], set[tuple[int, int]]]] = {
    (None, "waiting"): {(0, 0)},
    (None, "delayed"): {(0, 0)},
    ("delayed", "waiting"): {(0, 0)},
    ("waiting", "delayed"): {(0, 0)},
    ("waiting", "cancelled"): {(0, 0)},
    ("delayed", "cancelled"): {(0, 0)},
    ("waiting", "active"): {(1, 0)},
    ("active", "completed"): {(0, 0)},
    ("active", "delayed"): {(0, 0), (-1, 0)},
    ("active", "waiting"): {(-1, 0), (-1, 1)},
    ("active", "failed"): {(0, 0), (-1, 1)},
    ("active", "cancelled"): {(0, 0), (-1, 0), (-1, 1)},
}


def _illegal_moves(moves: Sequence[Move]) -> Iterator[str]:
    states: dict[str, str] = {}
    for move in moves:
        if states.get(move.job) != move.old:
            yield f"{move.job}: was {states.get(move.job)}, and moved from {move.old} to {move.new}"
        states[move.job] = move.new
        change = (move.attempts[1] - move.attempts[0], move.stalls[1] - move.stalls[0])
        if (move.old, move.new) == ("failed", "waiting"):  # a retry by hand: everything anew
            legal = (move.attempts[1], move.stalls[1]) == (0, 0)
        else:
            legal = change in _CHANGES.get((move.old, move.new), set())
        if not legal or move.fences != (move.new == "active"):
            yield f"{move.job}: {move.old} to {move.new} with attempts, stalls {change} and {move.fences} fences"


def _over_limit(moves: Sequence[Move], most: int, window_s: float) -> Iterator[str]:
    """A claim is a start. The ledger's clock is read before the claims of one statement and after them, so that no
    tolerance is needed."""
    claims = sorted(move.claimed_at for move in moves if move.new == "active" and move.claimed_at is not None)
    for first, last in zip(claims, claims[most:], strict=False):
        if last - first < window_s:
            yield f"{most + 1} starts in {last - first:.3f} s, limit {most} in {window_s:g} s"


def _overtaken(seen: Evidence) -> Iterator[str]:
    """Of the burst: who started long before somebody of higher priority, though both were ready."""
    firsts: dict[str, Move] = {}
    for move in seen.moves:
        if move.new == "active" and move.job in seen.burst:
            firsts.setdefault(move.job, move)
    claims = [(move.claimed_at or 0.0, move.priority, move.job) for move in firsts.values()]
    for at, priority, job in claims:
        later = [other for other in claims if other[1] > priority and other[0] > at + OVERTAKING_S]
        if later:
            yield f"{job} (priority {priority}) started {later[0][0] - at:.2f} s before {later[0][2]} ({later[0][1]})"
