"""The decision on one action, and when its limits have room again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.services.orchestration.act_task import room_in_s
from gateway.services.orchestration.action_policy import BUILT_IN, ActionPolicy, Risk, Used, decide
from gateway.services.orchestration.actions import ActionKind, read_arguments, storable

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FREE = ActionPolicy(requires_approval=False, risk=Risk.LOW)


def before(**units: float) -> datetime:
    return NOW - timedelta(**units)


def test_the_defaults_are_those_of_the_specification() -> None:
    assert {kind: policy.asks for kind, policy in BUILT_IN.items()} == {
        ActionKind.CREATE_TASK: False,
        ActionKind.SEND_EMAIL: True,
        ActionKind.COMMENT_ISSUE: True,
        ActionKind.OPEN_ISSUE: True,
    }
    assert {(rule.max_per_hour, rule.max_per_day, rule.cooldown_s) for rule in BUILT_IN.values()} == {(3, 10, 900)}


@pytest.mark.parametrize(
    ("policy", "used", "status", "reason"),
    [
        (FREE, Used(), "approved", "low risk, no approval asked for"),
        (FREE, Used(hour=3, day=3), "refused", "the limit of 3 an hour is used up"),
        (FREE, Used(hour=0, day=10), "refused", "the limit of 10 a day is used up"),
        (FREE, Used(hour=1, day=1, last_start=before(minutes=16)), "approved", "low risk, no approval asked for"),
        (
            *(FREE, Used(hour=1, day=1, last_start=before(minutes=5)), "approved"),
            "low risk; the cooldown of 900 s holds it back until 2026-03-01T12:10:00Z",
        ),
        (ActionPolicy(requires_approval=False, risk=Risk.MEDIUM), Used(), "pending", "its risk is medium"),
        (ActionPolicy(requires_approval=True, risk=Risk.LOW), Used(), "pending", "the policy asks for approval"),
        (ActionPolicy(risk=Risk.HIGH), Used(last_start=before(seconds=1)), "pending", "its risk is high"),
        (ActionPolicy(enabled=False), Used(), "refused", "the project's policy has it switched off"),
    ],
)
def test_decisions_carry_their_reason(policy: ActionPolicy, used: Used, status: str, reason: str) -> None:
    decision = decide(policy, used, NOW)
    assert (decision.status, decision.reason) == (status, reason)


def test_the_cooldown_is_told() -> None:
    held = decide(FREE, Used(last_start=before(minutes=5)), NOW)
    assert held.not_before == NOW + timedelta(minutes=10)


@pytest.mark.parametrize(
    ("policy", "status"), [(FREE, "planned"), (ActionPolicy(), "planned"), (ActionPolicy(enabled=False), "refused")]
)
def test_a_dry_run_plans(policy: ActionPolicy, status: str) -> None:
    assert decide(policy, Used(), NOW, dry_run=True).status == status


@pytest.mark.parametrize(
    ("starts", "wait_s"),
    [
        ([], 1),
        ([before(minutes=5)], 600),
        ([before(minutes=59), before(minutes=40), before(minutes=20)], 60),
        ([before(minutes=59), before(minutes=40), before(minutes=1)], 14 * 60),
        ([before(minutes=61), before(minutes=59), before(minutes=40), before(minutes=20)], 60),
        ([before(hours=23, minutes=n) for n in range(10)], 3600 - 9 * 60),
        ([before(hours=20, minutes=n) for n in range(12)], 4 * 3600 - 9 * 60),
    ],
)
def test_when_there_is_room_again(starts: list[datetime], wait_s: float) -> None:
    assert room_in_s(FREE, starts[::-1], NOW) == wait_s


def test_arguments_are_cleaned() -> None:
    mail = {"to": [" ada@example.com", "ada@example.com"], "subject": "a\nb\u200b", "text": "x\r\ny\x00\u202e"}
    read = read_arguments(ActionKind.SEND_EMAIL, mail)
    assert (read.to, read.subject, read.text) == (["ada@example.com"], "a b", "x\ny")  # type: ignore[union-attr]


def test_what_does_not_fit_is_kept_as_far_as_it_can_be() -> None:
    assert storable({"a": "b\x00"}) == {"a": "b\ufffd"}
    assert storable([1]) == {"value": [1]}
    assert storable(object()) == {"unreadable": True}
    assert storable("\ud800") == {"unreadable": True}
    assert list(storable({"a": "x" * 20_000})) == ["cut"]
