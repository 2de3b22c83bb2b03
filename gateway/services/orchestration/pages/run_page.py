"""``/admin/queues/runs/{id}``: one run with its steps, what they brought and cost, and what may be done to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from gateway.idempotency import request_hash
from gateway.infra.uuid7 import uuid7
from gateway.masking import CONTENT_MASK, masked, pretty
from gateway.pages import Asked, Done, Raw, View
from gateway.problem import Problem
from gateway.services.orchestration.actions import ActionStatus
from gateway.services.orchestration.budgets import Budgets, Spending
from gateway.services.orchestration.pages.badges import Badge, badge_of_action, badge_of_run, badge_of_step
from gateway.services.orchestration.pages.money import Budget, Cost, budget_of, cost_of, without_price
from gateway.services.orchestration.pages.queries import line_in
from gateway.services.orchestration.pages.store import SHOWN_TEXT, About, PageStore, ShownAction, ShownStep
from gateway.services.orchestration.pages.waterfall import Bar, bars
from gateway.services.orchestration.plan import StepStatus
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE
from gateway.services.orchestration.run_schemas import REASON_MAX
from gateway.services.orchestration.run_views import run_view
from gateway.services.orchestration.runs import FINAL, Run, RunStatus, no_run, run_id_of
from gateway.services.orchestration.starting import Call, Runs, Started

AGAIN_S: Final = 5  # without scripts, while it runs
_KEY_MAX: Final = 100
_BAD: Final = (StepStatus.FAILED, StepStatus.REFUSED)


class StepRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``output``: for reading, None if there is none; ``more``: how many characters the whole has, None: this is all.
    ``words``: of a model that was cut."""

    step: ShownStep
    badge: Badge
    bar: Bar | None
    cost: Cost
    output: str | None
    more: int | None
    words: str | None


@dataclass(frozen=True, slots=True)
class _Read:
    """All that the page shows of one run."""

    run: Run
    about: About
    steps: list[ShownStep]
    actions: list[ShownAction]
    spending: Spending | None


class RunPage:
    def __init__(self, store: PageStore, runs: Runs, budgets: Budgets) -> None:
        self._store = store
        self._runs = runs
        self._budgets = budgets

    async def load(self, asked: Asked) -> View:
        """Raises Problem 404."""
        read = await self._read(await self._runs.visible(asked.user, run_id_of(asked.path["run_id"])))
        run, may_read = read.run, asked.user.reads_content
        rows = await self._rows(read, may_read)
        failed = sum(row.step.status in _BAD for row in rows)
        return View(
            template="run.html",
            title=f"Run {str(run.id)[:8]}",
            data={
                "run": run_view(run),
                "context": masked(run.context, content=True) if may_read or not run.context else CONTENT_MASK,
                "about": read.about,
                "badge": badge_of_run(run.status, failed),
                "cost": _sum(run, rows),
                "steps": rows,
                "actions": [one.action for one in read.actions] if may_read else [],
            },
            extra={
                "run": run,
                "budget": _budget(run),
                "month": _month(read.spending),
                "took_s": _took(run),
                "failed": failed,
                "waiting": sum(one.action.status is ActionStatus.PENDING for one in read.actions),
                "over": sum(row.step.status not in (StepStatus.WAITING, StepStatus.RUNNING) for row in rows),
                "asked_for": [(one.action, badge_of_action(one.action.status)) for one in read.actions],
                "told": pretty(masked(run.context, content=True)) if may_read else CONTENT_MASK,
                "may_read": may_read,
                "job": f"/queue/{ORCHESTRATION_QUEUE}/{run.id}" if run.state is not None else None,
                "open": run.status not in FINAL,
                "retryable": run.status in FINAL and (failed or run.status is not RunStatus.COMPLETED),
                "key": uuid7(),
            },
            # Who follows a run reads its words; who follows the project, none.
            topics=[f"run:{run.id}" if may_read else f"project:{run.project_id}"] if run.status not in FINAL else [],
            again_s=AGAIN_S if run.status not in FINAL else None,
        )

    async def raw(self, asked: Asked) -> Raw:
        """What a step brought, whole and as it is kept. Raises Problem 404."""
        run = await self._runs.visible(asked.user, run_id_of(asked.path["run_id"]))
        position = asked.path["position"]
        if not (position.isascii() and position.isdigit() and len(position) <= 6):
            raise no_run()
        output, words = await self._store.whole(run.id, int(position))
        name = f"run-{run.id}-step-{position}"
        if output is not None:
            return Raw(content=output.encode(), media_type="application/json", filename=f"{name}.json")
        if words is not None:
            return Raw(content=words.encode(), media_type="text/plain; charset=utf-8", filename=f"{name}.txt")
        raise Problem(404, "not_found", "The step has brought nothing")

    async def cancel(self, asked: Asked) -> Done:
        """Raises Problem 404, 403, and 409 ``already_finished``."""
        run = await self._runs.runnable(asked.user, run_id_of(asked.path["run_id"]))
        reason = line_in(asked.form, "reason", REASON_MAX)
        await self._runs.cancel(run, reason or f"cancelled by {asked.user.id}", asked.user.id)
        detail = {"reason": reason} if reason else {}
        return Done(path=f"/runs/{run.id}", notice="run-cancel", change=("run.cancel", str(run.id), detail))

    async def retry(self, asked: Asked) -> Done:
        """A form that is sent twice starts one run. Raises Problem 404, 402, 403, 409."""
        run = await self._runs.runnable(asked.user, run_id_of(asked.path["run_id"]))
        key = line_in(asked.form, "key", _KEY_MAX)
        request = request_hash("POST", f"/runs/{run.id}/retry", b"")
        answer = await self._runs.retry(Call(caller=asked.user, key=key, request=request), run, _id_of)
        new = msgspec.json.decode(answer.body, type=str)
        change = None if answer.replayed else ("run.retry", str(run.id), {"newId": new})
        return Done(path=f"/runs/{new}", notice="run-retry", change=change)

    async def _read(self, run: Run) -> _Read:
        spending = await self._budgets.of([run.project_id])
        return _Read(
            run,
            await self._store.about(run.id),
            await self._store.steps(run.id),
            await self._store.actions_of(run.id),
            spending.get(run.project_id),
        )

    async def _rows(self, read: _Read, may_read: bool) -> list[StepRow]:
        uncounted = [step.model or "" for step in read.steps if _is_uncounted(step)]
        unknown = await without_price(self._store, uncounted)
        drawn = bars(read.steps, read.run.started_at, _until(read.run))
        return [_row(step, bar, unknown, may_read) for step, bar in zip(read.steps, drawn, strict=True)]


def _row(step: ShownStep, bar: Bar | None, unknown: frozenset[str], may_read: bool) -> StepRow:
    tokens = step.input_tokens + step.output_tokens
    is_unknown = _is_uncounted(step) and (step.model or "") in unknown
    whole = max(step.output_length or 0, step.partial_length or 0)
    return StepRow(
        step=step if may_read else _without_words(step),
        badge=badge_of_step(step.status),
        bar=bar,
        cost=cost_of(step.cost_micros, tokens, unknown=is_unknown, demo=step.demo),
        output=(_readable(step) if may_read else CONTENT_MASK) if step.output is not None else None,
        more=whole if may_read and whole > SHOWN_TEXT else None,
        words=step.partial if may_read else None,
    )


def _is_uncounted(step: ShownStep) -> bool:
    return step.cost_micros == 0 and step.input_tokens + step.output_tokens > 0 and not step.demo


def _without_words(step: ShownStep) -> ShownStep:
    hidden = {name: CONTENT_MASK for name in ("output", "partial", "refusal") if getattr(step, name) is not None}
    return msgspec.structs.replace(step, **hidden)


def _readable(step: ShownStep) -> str:
    """As JSON for reading if it is short; else its beginning as it is kept."""
    text = step.output or ""
    if (step.output_length or 0) > SHOWN_TEXT:
        return text
    try:
        return pretty(masked(msgspec.json.decode(text), content=True))
    except (msgspec.DecodeError, RecursionError):  # nested deeper than is worth reading
        return text


def _sum(run: Run, rows: Sequence[StepRow]) -> Cost:
    unknown = any(row.cost.unknown for row in rows)
    return cost_of(run.cost_micros, run.input_tokens + run.output_tokens, unknown=unknown, demo=run.demo)


def _took(run: Run) -> float | None:
    """Without the time in which it awaits approval."""
    if run.started_at is None:
        return None
    if isinstance(run.result, dict) and "durationMs" in run.result:
        return float(run.result["durationMs"]) / 1000
    return max(0.0, ((run.finished_at or datetime.now(UTC)) - run.started_at).total_seconds())


def _until(run: Run) -> datetime:
    """Up to when there is something to draw."""
    took_s = _took(run)
    if run.started_at is None or took_s is None:
        return datetime.now(UTC)
    return run.started_at + timedelta(seconds=took_s)


def _budget(run: Run) -> Budget | None:
    return None if run.budget_micros is None else budget_of(run.cost_micros, run.budget_micros)


def _month(spending: Spending | None) -> Budget | None:
    if spending is None or spending.budget_micros is None:
        return None
    return budget_of(spending.spent_micros, spending.budget_micros)


def _id_of(started: Sequence[Started]) -> str:
    return str(started[0].run_id)
