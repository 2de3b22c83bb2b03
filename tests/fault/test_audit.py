"""The audit of ``chaos`` finds each broken promise; one that finds nothing would prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fault.audit import Evidence, Findings, Job, Mail, Move, Told, judge
from tests.fault.chaos_plan import draw
from tests.fault.chaos_smtp import Arrived, address

RECIPIENT = address(1, 0)


def evidence() -> Evidence:
    """One mail, accepted, claimed once, sent once."""
    mail = Mail("sent", "<1@x>", False, {RECIPIENT: "accepted"}, ["sent"], Job("completed", 1, 3, 0))
    moves = [
        Move("job", None, "waiting", 5, 0, (0, 0), (0, 0), None),
        Move("job", "waiting", "active", 5, 1, (0, 1), (0, 0), 100.0),
        Move("job", "active", "completed", 5, 0, (1, 1), (0, 0), 100.0),
    ]
    arrived = [Arrived("<1@x>", (RECIPIENT,), 1.0)]
    return Evidence({"1": mail}, moves, arrived, set(), Told({"1": (RECIPIENT,)}), 2, (2, 1.0), set())


def test_a_run_in_which_all_went_well_is_clean() -> None:
    assert judge(evidence()) == Findings([], [], [], [], [], [], [])


def no_row(seen: Evidence) -> None:
    seen.mails.clear()
    seen.arrived.clear()


def never_arrived(seen: Evidence) -> None:
    seen.arrived.clear()


def forgotten_recipient(seen: Evidence) -> None:
    seen.mails["1"].recipients[RECIPIENT] = "pending"


def copy_without_doubt(seen: Evidence) -> None:
    seen.arrived *= 2


def more_copies_than_attempts(seen: Evidence) -> None:
    seen.mails["1"].uncertain = True
    seen.arrived *= 2


def unknown_message(seen: Evidence) -> None:
    seen.arrived.append(Arrived("<2@x>", (RECIPIENT,), 1.0))


def waits_for_ever(seen: Evidence) -> None:
    seen.mails["1"].job = Job("delayed", 1, 3, 0)


def without_a_job(seen: Evidence) -> None:
    seen.mails["1"].job = None


def given_up_early(seen: Evidence) -> None:
    seen.mails["1"] = Mail("failed", "<1@x>", False, {RECIPIENT: "pending"}, ["retry"], Job("failed", 1, 3, 1))
    seen.arrived.clear()


def refused_by_nobody(seen: Evidence) -> None:
    seen.mails["1"] = Mail("failed", "<1@x>", False, {RECIPIENT: "rejected"}, ["rejected"], Job("failed", 1, 3, 0))
    seen.arrived.clear()


def cancelled_and_sent(seen: Evidence) -> None:
    seen.told.asked = seen.told.cancelled = {"1"}
    seen.mails["1"] = Mail("cancelled", "<1@x>", False, {RECIPIENT: "pending"}, [None], Job("cancelled", 0, 3, 1))


def cancelled_and_completed(seen: Evidence) -> None:
    seen.told.asked = seen.told.cancelled = {"1"}


def cancelled_by_nobody(seen: Evidence) -> None:
    cancelled_and_sent(seen)
    seen.told.asked = set()
    seen.arrived.clear()


def accepted_twice(seen: Evidence) -> None:
    seen.mails["2"] = Mail("sent", "<2@x>", False, {RECIPIENT: "accepted"}, ["sent"], Job("completed", 1, 3, 0))
    seen.arrived.append(Arrived("<2@x>", (RECIPIENT,), 1.0))


def strange_answer(seen: Evidence) -> None:
    seen.told.strange.append("/api/v1/emails: 500")


def ended_twice(seen: Evidence) -> None:
    seen.moves.append(seen.moves[-1])


def claimed_without_a_new_fence(seen: Evidence) -> None:
    seen.moves[1].fences = 0


def stall_charged_as_an_attempt(seen: Evidence) -> None:
    seen.moves[2:] = [Move("job", "active", "waiting", 5, 0, (1, 1), (0, 1), 100.0)]


def three_starts_in_a_window_of_two(seen: Evidence) -> None:
    for number, at in enumerate((100.5, 100.9)):
        job = f"other {number}"
        seen.moves += [
            Move(job, None, "waiting", 5, 0, (0, 0), (0, 0), None),
            Move(job, "waiting", "active", 5, 1, (0, 1), (0, 0), at),
        ]


def low_before_high(seen: Evidence) -> None:
    seen.burst = {"job", "high"}
    seen.moves += [
        Move("high", None, "waiting", 6, 0, (0, 0), (0, 0), None),
        Move("high", "waiting", "active", 6, 1, (0, 1), (0, 0), 101.5),
    ]


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        *((spoil, "lost") for spoil in (no_row, never_arrived, forgotten_recipient)),
        *((spoil, "forbidden") for spoil in (copy_without_doubt, more_copies_than_attempts, unknown_message)),
        *((spoil, "stuck") for spoil in (waits_for_ever, without_a_job)),
        *((spoil, "illegal") for spoil in (given_up_early, refused_by_nobody, cancelled_and_sent)),
        *((spoil, "illegal") for spoil in (cancelled_by_nobody, cancelled_and_completed)),
        *((spoil, "illegal") for spoil in (accepted_twice, strange_answer, ended_twice, claimed_without_a_new_fence)),
        (stall_charged_as_an_attempt, "illegal"),
        (three_starts_in_a_window_of_two, "over_limit"),
        (low_before_high, "overtaken"),
    ],
)
def test_what_is_wrong_is_found(spoil: Callable[[Evidence], None], kind: str) -> None:
    seen = evidence()
    spoil(seen)
    found = judge(seen)
    assert getattr(found, kind)
    assert not found.kept


def test_a_second_copy_is_allowed_where_the_mail_admits_its_doubt() -> None:
    seen = evidence()
    seen.mails["1"].uncertain, seen.mails["1"].attempts = True, ["unknown", "sent"]
    seen.arrived *= 2
    found = judge(seen)
    assert len(found.allowed) == 1
    assert found.kept


def test_a_seed_always_draws_the_same_plan_and_others_draw_others() -> None:
    assert draw(7) == draw(7)
    assert len({draw(seed).faults for seed in range(50)}) == 50


def test_every_fault_is_drawn() -> None:
    kinds = {fault.name for seed in range(300) for fault in draw(seed).faults}
    links = {f"{link}_link_{kind}" for link in _LINKS for kind in ("cut", "down", "stall", "half_open", "delay")}
    assert kinds == links | _OTHERS


_LINKS = ("postgres", "valkey", "smtp")
_OTHERS = {
    *("kill", "terminate", "freeze", "block", "postgres_restart", "postgres_kill"),
    *("valkey_flush", "valkey_restart", "valkey_kill", "valkey_freeze"),
    *("smtp_4xx", "smtp_5xx", "smtp_421", "smtp_hang", "smtp_cut_after_data"),
}
