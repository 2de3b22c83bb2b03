"""What an agent's answer leads to: suggestions, tasks, and actions that a policy decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
import structlog

from gateway.infra.sqlfiles import load_sql
from gateway.infra.uuid7 import uuid7
from gateway.jobs.engine import Engine
from gateway.jobs.job import Inserted, NewJob
from gateway.services.orchestration.action_policy import BUILT_IN, ActionPolicy, Decision, Risk, Used, decide
from gateway.services.orchestration.actions import ActionKind, ActionStatus
from gateway.services.orchestration.asked import AgentFacts, Asked, read_asked, read_points
from gateway.services.orchestration.github.text import clean
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE

log = structlog.get_logger(__name__)

SQL = load_sql("gateway.services.orchestration")
ACT_TASK: Final = "orchestration.act"
ACT_PRIORITY: Final = 7  # somebody decided that it be done: before batches, after what a person waits for
APPROVAL_S: Final = 7 * 86_400.0
SUGGESTION_S: Final = 30 * 86_400.0
# Of one run (T52): who gets agents to write endlessly fills no table and nobody's day.
RUN_POINTS_MAX: Final = 100
RUN_ACTIONS_MAX: Final = 20

Row = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[Row] | asyncpg.pool.PoolConnectionProxy[Row]"


class RunFacts(Protocol):
    """A run, as far as its results need it."""

    @property
    def id(self) -> UUID: ...

    @property
    def project_id(self) -> UUID: ...

    @property
    def dry_run(self) -> bool: ...


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer added. ``actions`` has the status of each that is new; ``act_jobs`` are committed with them and
    want an ``Engine.offer`` after the commit. ``dropped``: what was beyond the bounds of one answer."""

    suggestions: int = 0
    tasks: int = 0
    actions_pending: int = 0
    act_jobs: tuple[Inserted, ...] = ()
    actions: tuple[tuple[UUID, ActionStatus], ...] = ()
    dropped: int = 0


class _Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One action as its row begins."""

    id: UUID
    position: int
    asked: Asked
    risk: Risk
    decision: Decision
    job_id: UUID | None = None


class Outcomes:
    """``approval_s``: seconds until an approval that nobody gave expires."""

    def __init__(self, engine: Engine, *, approval_s: float = APPROVAL_S) -> None:
        self._engine = engine
        self._approval_s = approval_s

    async def record(
        self, connection: Connection, run: RunFacts, step_id: UUID, agent: AgentFacts, output: Mapping[str, Any]
    ) -> Recorded:
        """In the caller's transaction, together with the step's end. The same step again adds nothing.

        In a dry run nothing is kept but the actions, as ``planned``: what would have been done. Raises what asyncpg
        raises, and nothing for what an agent wrote.
        """
        suggestions, lost = read_points(output.get("suggestions"))
        tasks, lost_tasks = read_points(output.get("tasks"))
        asked, lost_actions = read_asked(output.get("actions"), agent)
        dropped = lost + lost_tasks + lost_actions
        place = (run.project_id, run.id, step_id)
        new_suggestions, new_tasks = 0, 0
        if suggestions and not run.dry_run:
            values = (agent.slug, suggestions, RUN_POINTS_MAX, SUGGESTION_S)
            new_suggestions = len(await connection.fetch(SQL["insert_suggestions"], *place, *values))
        if tasks and not run.dry_run:
            new_tasks = len(await connection.fetch(SQL["insert_tasks"], *place, tasks, RUN_POINTS_MAX))
        actions, jobs = await self._act(connection, run, step_id, agent, asked)
        if dropped:
            log.warning("agent_output_bounded", run_id=str(run.id), agent=agent.slug, dropped=dropped)
        return Recorded(
            suggestions=new_suggestions,
            tasks=new_tasks,
            actions_pending=sum(status is ActionStatus.PENDING for _, status in actions),
            act_jobs=tuple(jobs),
            actions=tuple(actions),
            dropped=dropped,
        )

    async def _act(
        self, connection: Connection, run: RunFacts, step_id: UUID, agent: AgentFacts, asked: Sequence[Asked]
    ) -> tuple[list[tuple[UUID, ActionStatus]], list[Inserted]]:
        if not asked:
            return [], []
        counted = await connection.fetchrow(SQL["actions_of_run"], run.id, step_id)
        if counted is not None and counted["own"]:
            return [], []
        room = RUN_ACTIONS_MAX - (counted["others"] if counted else 0)
        rules = await policies(connection, run.project_id)
        decided = [
            _decided(position, one, rules, room=position < room, dry_run=run.dry_run)
            for position, one in enumerate(asked)
        ]
        values = (run.project_id, run.id, step_id, agent.slug, [_row(one) for one in decided], self._approval_s)
        rows = await connection.fetch(SQL["insert_actions"], *values)
        kept = {row["id"] for row in rows}
        jobs = [
            act_job(one.id, one.job_id, run.project_id, one.decision.not_before)
            for one in decided
            if one.id in kept and one.job_id is not None
        ]
        inserted = await self._engine.insert(connection, jobs)
        return [(row["id"], ActionStatus(row["status"])) for row in rows], inserted


class Rule(msgspec.Struct, kw_only=True):
    """The policy of a kind, and its use so far, which grows as actions are decided."""

    policy: ActionPolicy
    used: Used
    now: datetime


async def policies(connection: Connection, project_id: UUID) -> dict[ActionKind, Rule]:
    """The rules as they stand. Not locked: executions count once more, exactly (``act_task``)."""
    rows = await connection.fetch(SQL["action_policies"], project_id, [str(kind) for kind in ActionKind])
    found = {}
    for row in rows:
        kind = ActionKind(row["action"])
        policy = BUILT_IN[kind]
        if row["configured"]:
            policy = ActionPolicy(
                enabled=row["enabled"],
                requires_approval=row["requires_approval"],
                risk=Risk(row["risk"]),
                max_per_hour=row["max_per_hour"],
                max_per_day=row["max_per_day"],
                cooldown_s=row["cooldown_s"],
            )
        used = Used(hour=row["hour"], day=row["day"], last_start=row["last_start"])
        found[kind] = Rule(policy=policy, used=used, now=row["now"])
    return found


def act_job(action_id: UUID, job_id: UUID, project_id: UUID, not_before: datetime | None = None) -> NewJob:
    """The job that executes an approved action."""
    return NewJob(
        id=job_id,
        queue=ORCHESTRATION_QUEUE,
        task=ACT_TASK,
        args={"actionId": str(action_id)},
        priority=ACT_PRIORITY,
        run_at=not_before,
        group=str(project_id),
    )


async def settle_run(connection: Connection, run_id: UUID) -> bool:
    """Complete a run that awaits approval if nothing of it is pending, approved or executing any more; answers whether
    it did. In the caller's transaction, after what ended the action. Holds the run's row."""
    if await connection.fetchval(SQL["hold_run"], run_id) != "awaiting_approval":
        return False
    return await connection.fetchval(SQL["settle_run"], run_id) is not None


async def withdraw(connection: Connection, run_id: UUID, reason: str, by: str) -> list[UUID]:
    """For a run that is cancelled: what waits for a decision or for its execution is not done. Answers which. What is
    being executed goes on."""
    rows = await connection.fetch(SQL["withdraw_actions"], run_id, clean(reason, 500), by)
    return [row["id"] for row in rows]


def _decided(position: int, asked: Asked, rules: dict[ActionKind, Rule], *, room: bool, dry_run: bool) -> _Decided:
    """Decide one action, and count it."""
    rule = rules[asked.kind] if asked.kind else None
    refusal = (
        asked.refusal if room or asked.kind is None else f"the run has asked for {RUN_ACTIONS_MAX} actions already"
    )
    if rule is None or refusal is not None:
        decision = Decision(status=ActionStatus.REFUSED, reason=refusal or "unknown")
    else:
        decision = decide(rule.policy, rule.used, rule.now, dry_run=dry_run)
        if decision.status is not ActionStatus.REFUSED:
            starts = decision.status is ActionStatus.APPROVED
            rule.used = rule.used.and_one((decision.not_before or rule.now) if starts else None)
    return _Decided(
        id=uuid7(),
        position=position,
        asked=asked,
        risk=rule.policy.risk if rule else Risk.HIGH,
        decision=decision,
        job_id=uuid7() if decision.status is ActionStatus.APPROVED else None,
    )


def _row(decided: _Decided) -> dict[str, Any]:
    asked, decision = decided.asked, decided.decision
    return {
        "id": decided.id,
        "position": decided.position,
        "action": asked.action,
        "arguments": asked.arguments,
        "rationale": asked.rationale,
        "risk": decided.risk,
        "status": decision.status,
        "reason": decision.reason,
        "not_before": decision.not_before,
        "job_id": decided.job_id,
    }
