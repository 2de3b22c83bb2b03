"""How runs, steps, actions and budgets stand: a word, a sign beside it, and a colour of the dashboard. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.services.orchestration.actions import ActionStatus
from gateway.services.orchestration.budgets import WARN_PERCENT, BudgetState
from gateway.services.orchestration.plan import StepStatus
from gateway.services.orchestration.runs import RunStatus


class Badge(msgspec.Struct, frozen=True):
    """``look``: a class of the dashboard's style sheet."""

    word: str
    look: str
    sign: str


_RUNS: Final = {
    RunStatus.QUEUED: Badge("queued", "waiting", "○"),
    RunStatus.RUNNING: Badge("running", "active", "●"),
    RunStatus.AWAITING_APPROVAL: Badge("awaiting approval", "paused", "⏳"),
    RunStatus.COMPLETED: Badge("completed", "completed", "✓"),
    RunStatus.FAILED: Badge("failed", "failed", "✕"),
    RunStatus.CANCELLED: Badge("cancelled", "cancelled", "⊘"),
}
_STEPS: Final = {
    StepStatus.WAITING: Badge("waiting", "waiting", "○"),
    StepStatus.RUNNING: Badge("running", "active", "●"),
    StepStatus.COMPLETED: Badge("completed", "completed", "✓"),
    StepStatus.FAILED: Badge("failed", "failed", "✕"),
    StepStatus.REFUSED: Badge("refused", "failed", "✕"),
    StepStatus.CANCELLED: Badge("cancelled", "cancelled", "⊘"),
}
_ACTIONS: Final = {
    ActionStatus.PENDING: Badge("waits for a person", "paused", "⏳"),
    ActionStatus.APPROVED: Badge("approved", "active", "●"),
    ActionStatus.REJECTED: Badge("rejected", "cancelled", "⊘"),
    ActionStatus.EXPIRED: Badge("expired", "cancelled", "⊘"),
    ActionStatus.REFUSED: Badge("refused by policy", "cancelled", "⊘"),
    ActionStatus.PLANNED: Badge("planned (dry run)", "waiting", "○"),
    ActionStatus.EXECUTING: Badge("executing", "active", "●"),
    ActionStatus.EXECUTED: Badge("executed", "completed", "✓"),
    ActionStatus.FAILED: Badge("failed", "failed", "✕"),
}

_BUDGETS: Final = {
    BudgetState.NONE: Badge("no budget", "waiting", "○"),
    BudgetState.OK: Badge("in budget", "completed", "✓"),
    BudgetState.WARNING: Badge(f"over {WARN_PERCENT} %", "paused", "!"),
    BudgetState.EXHAUSTED: Badge("spent", "failed", "✕"),
}


def badge_of_run(status: RunStatus, failed: int) -> Badge:
    """``failed``: how many of its steps did. With one, nothing is simply completed (T25)."""
    plain = _RUNS[status]
    if failed and status in (RunStatus.COMPLETED, RunStatus.AWAITING_APPROVAL):
        return Badge(f"{plain.word} with errors", "paused", "!")
    return plain


def badge_of_step(status: StepStatus) -> Badge:
    return _STEPS[status]


def badge_of_action(status: ActionStatus) -> Badge:
    return _ACTIONS[status]


def badge_of_budget(state: BudgetState) -> Badge:
    return _BUDGETS[state]
