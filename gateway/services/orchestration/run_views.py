"""What the API shows of runs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.jobs.job import QueueCounts
from gateway.services.orchestration.budgets import cents
from gateway.services.orchestration.plan import Brought, Step, StepStatus, percent, result_of
from gateway.services.orchestration.run_schemas import ProgressView, RunDetail, RunView, StepView, UsageView
from gateway.services.orchestration.runs import FINAL, Run, RunStatus
from gateway.services.orchestration.schemas import OrchestrationJobResult


def run_view(run: Run) -> RunView:
    return RunView(**_run_fields(run, _kept_result(run)))


def run_detail(run: Run, steps: Sequence[Step], brought: Brought) -> RunDetail:
    result = _kept_result(run)
    if result is None and run.status in FINAL:
        duration = run.started_at and run.finished_at and (run.finished_at - run.started_at).total_seconds() * 1000
        result = result_of(run.id, steps, brought, round(duration or 0), run.error)
    return RunDetail(
        **_run_fields(run, result),
        context=run.context,
        state=run.state,
        attempts=run.attempts,
        max_attempts=run.max_attempts,
        progress=_progress(run, steps),
        suggestions_created=brought.suggestions,
        tasks_created=brought.tasks,
        pending_approvals=brought.pending_actions,
        steps=[_step_view(step) for step in steps],
    )


def without_content(detail: RunDetail) -> RunDetail:
    """Figures and states, and nothing that agents were told or wrote."""
    steps = [msgspec.structs.replace(step, output=None, partial_text=None, refusal=None) for step in detail.steps]
    return msgspec.structs.replace(detail, context={}, steps=steps, content_hidden=True)


def stats_of(counts: QueueCounts) -> dict[str, int]:
    """The keys of document 003: jobs by state, and their sum."""
    names = ("waiting", "active", "completed", "failed", "delayed")
    stats = {name: int(getattr(counts, name)) for name in names}
    return stats | {"total": sum(stats.values())}


def _kept_result(run: Run) -> OrchestrationJobResult | None:
    return None if run.result is None else msgspec.convert(run.result, OrchestrationJobResult)


def _run_fields(run: Run, result: OrchestrationJobResult | None) -> dict[str, Any]:
    same = {name: getattr(run, name) for name in _SAME_OF_RUN}
    budget = None if run.budget_micros is None else cents(run.budget_micros)
    return {**same, "job_id": run.id, "budget_cents": budget, "result": result, "usage": _usage(run)}


_SAME_OF_RUN: Final = (frozenset(RunView.__struct_fields__) & frozenset(Run.__struct_fields__)) - {"result"}
_SAME_OF_STEP: Final = frozenset(StepView.__struct_fields__) & frozenset(Step.__struct_fields__)


def _step_view(step: Step) -> StepView:
    return StepView(**{name: getattr(step, name) for name in _SAME_OF_STEP}, usage=_usage(step))


def _usage(spender: Run | Step) -> UsageView:
    return UsageView(
        input_tokens=spender.input_tokens, output_tokens=spender.output_tokens, cost_cents=cents(spender.cost_micros)
    )


def _progress(run: Run, steps: Sequence[Step]) -> ProgressView:
    if run.status is RunStatus.COMPLETED or run.status is RunStatus.AWAITING_APPROVAL:
        return ProgressView(stage=run.status, percent=100)
    at_work = next((step for step in steps if step.status is StepStatus.RUNNING), None)
    stage = at_work.name if at_work is not None else str(run.status)
    return ProgressView(stage=stage, percent=percent(steps, run.max_attempts or 1))
