"""What agents may do in a project, and the decision on one action (O24). Pure: no I/O, no clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from gateway.services.orchestration.actions import ActionKind, ActionStatus

MAX_PER_HOUR: Final = 3
MAX_PER_DAY: Final = 10
COOLDOWN_S: Final = 900


class Risk(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ActionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rule for one kind of action in one project. Above low risk a person decides, whatever
    ``requires_approval`` says. ``cooldown_s``: seconds from the start of one execution to the next."""

    enabled: bool = True
    requires_approval: bool = True
    risk: Risk = Risk.MEDIUM
    max_per_hour: int = MAX_PER_HOUR
    max_per_day: int = MAX_PER_DAY
    cooldown_s: int = COOLDOWN_S

    @property
    def asks(self) -> bool:
        return self.requires_approval or self.risk is not Risk.LOW


BUILT_IN: Final[dict[ActionKind, ActionPolicy]] = {
    ActionKind.CREATE_TASK: ActionPolicy(requires_approval=False, risk=Risk.LOW),
    ActionKind.SEND_EMAIL: ActionPolicy(risk=Risk.HIGH),
    ActionKind.COMMENT_ISSUE: ActionPolicy(risk=Risk.MEDIUM),
    ActionKind.OPEN_ISSUE: ActionPolicy(risk=Risk.MEDIUM),
}


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the limits is taken, by what was done and by what may still be. ``last_start``: of the last execution
    there was or will be."""

    hour: int = 0
    day: int = 0
    last_start: datetime | None = None

    def and_one(self, start: datetime | None) -> Used:
        return Used(hour=self.hour + 1, day=self.day + 1, last_start=start or self.last_start)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``not_before``: of an approved one that the cooldown holds back."""

    status: ActionStatus
    reason: str
    not_before: datetime | None = None


def decide(policy: ActionPolicy, used: Used, now: datetime, *, dry_run: bool = False) -> Decision:
    """What becomes of an action that its agent may ask for and whose arguments fit. In a dry run: what would."""
    decided = _decided(policy, used, now)
    if not dry_run or decided.status is ActionStatus.REFUSED:
        return decided
    would = "it would wait for approval" if decided.status is ActionStatus.PENDING else "it would be done"
    return Decision(status=ActionStatus.PLANNED, reason=f"dry run: {would} ({decided.reason})")


def _decided(policy: ActionPolicy, used: Used, now: datetime) -> Decision:
    if not policy.enabled:
        return _refused("the project's policy has it switched off")
    if used.hour >= policy.max_per_hour:
        return _refused(f"the limit of {policy.max_per_hour} an hour is used up")
    if used.day >= policy.max_per_day:
        return _refused(f"the limit of {policy.max_per_day} a day is used up")
    if policy.asks:
        why = f"its risk is {policy.risk}" if policy.risk is not Risk.LOW else "the policy asks for approval"
        return Decision(status=ActionStatus.PENDING, reason=why)
    ready = None if used.last_start is None else used.last_start + timedelta(seconds=policy.cooldown_s)
    if ready is not None and ready > now:
        reason = f"low risk; the cooldown of {policy.cooldown_s} s holds it back until {ready:%Y-%m-%dT%H:%M:%SZ}"
        return Decision(status=ActionStatus.APPROVED, reason=reason, not_before=ready)
    return Decision(status=ActionStatus.APPROVED, reason="low risk, no approval asked for")


def _refused(reason: str) -> Decision:
    return Decision(status=ActionStatus.REFUSED, reason=reason)
