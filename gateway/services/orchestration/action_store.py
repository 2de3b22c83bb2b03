"""Actions as rows: one method per named statement, or one transaction where an ending may complete a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.sqlfiles import load_sql
from gateway.realtime.channel import Channel, Publisher, Topic
from gateway.services.orchestration.action_policy import BUILT_IN, ActionPolicy, Risk
from gateway.services.orchestration.actions import ActionKind, ActionStatus
from gateway.services.orchestration.outcomes import Connection, settle_run

SQL = load_sql("gateway.services.orchestration")

Row: TypeAlias = asyncpg.Record
_BATCH: Final = 100


class Action(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One thing that an agent wants done. ``reason``: why it was decided so, or ended so. ``decidedBy`` is a principal,
    or "policy". ``proposed``: what the agent asked for, where a person changed it. ``outcome``: ids and addresses of
    what was made. ``executedAt``: when its execution began. ``contentHidden``: arguments and rationale are left out, as
    the caller is no member and lacks the scope admin:content."""

    id: UUID
    project_id: UUID
    run_id: UUID
    step_id: UUID
    agent_slug: str
    action: str
    arguments: dict[str, Any]
    proposed: dict[str, Any] | None
    rationale: str
    risk: Risk
    status: ActionStatus
    reason: str | None
    expires_at: datetime | None
    decided_by: str | None
    decided_at: datetime | None
    comment: str | None
    not_before: datetime | None
    job_id: UUID | None
    outcome: dict[str, Any] | None
    created_at: datetime
    executed_at: datetime | None
    content_hidden: bool = False


class ActionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """None is no condition. ``member``: only of his projects; ``before``: the last action of the page before."""

    project_id: UUID | None = None
    member: str | None = None
    status: ActionStatus | None = None
    run_id: UUID | None = None
    before: UUID | None = None


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """Who decided, and what he said. ``arguments``: what shall be done instead of what was asked."""

    by: str
    comment: str | None
    arguments: dict[str, Any] | None = None


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """An action as its execution finds it. ``begun``: this call began it; else ``status`` says how it stands, and
    ``policy`` and ``starts`` (of the last day) why it has to wait. ``now`` is the ledger's."""

    id: UUID
    project_id: UUID
    run_id: UUID
    action: ActionKind
    arguments: dict[str, Any]
    status: ActionStatus
    reason: str | None
    job_id: UUID
    outcome: dict[str, Any] | None
    created_at: datetime
    decided_by: str | None
    repository: str | None
    created_by: str
    archived: bool
    begun: bool
    policy: ActionPolicy
    starts: list[datetime]
    now: datetime


class Place(msgspec.Struct, frozen=True):
    """An action, and whose it is."""

    id: UUID
    run_id: UUID
    project_id: UUID


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """An open action whose job has ended (``state``), or is gone (None). ``task``: the job's."""

    place: Place
    status: ActionStatus
    task: str | None
    state: str | None
    error: str | None


class ActionStore:
    """Raises what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self.pool = pool

    async def page(self, wanted: ActionFilter, limit: int) -> list[Action]:
        """Newest first."""
        values = (wanted.project_id, wanted.member, wanted.status, wanted.run_id, wanted.before)
        return [_action(row) for row in await self.pool.fetch(SQL["action_list"], *values, limit)]

    async def get(self, action_id: UUID) -> Action | None:
        row = await self.pool.fetchrow(SQL["action_get"], action_id)
        return None if row is None else _action(row)

    async def approve(self, connection: Connection, action_id: UUID, decided: Decided, job_id: UUID) -> bool:
        """False: it is not pending any more. In the transaction that inserts the job."""
        values = (decided.by, decided.comment, decided.arguments, job_id)
        return await connection.fetchval(SQL["action_approve"], action_id, *values) is not None

    async def reject(self, connection: Connection, place: Place, decided: Decided) -> bool:
        """False: it is not pending any more. Completes the run if it waited for nothing else."""
        await connection.execute(SQL["hold_run"], place.run_id)
        if await connection.fetchval(SQL["action_reject"], place.id, decided.by, decided.comment) is None:
            return False
        await settle_run(connection, place.run_id)
        return True

    async def expire(self, place: Place) -> bool:
        """False: somebody decided meanwhile."""
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL["hold_run"], place.run_id)
            if await connection.fetchval(SQL["action_expire"], place.id) is None:
                return False
            await settle_run(connection, place.run_id)
        return True

    async def overdue(self) -> list[Place]:
        rows = await self.pool.fetch(SQL["actions_overdue"], _BATCH)
        return [_place(row) for row in rows]

    async def left(self) -> list[Left]:
        rows = await self.pool.fetch(SQL["actions_left"], _BATCH)
        return [
            Left(
                place=_place(row),
                status=ActionStatus(row["status"]),
                task=row["task"],
                state=row["state"],
                error=row["error"],
            )
            for row in rows
        ]

    async def start(self, action_id: UUID) -> Started | None:
        """None: there is none. Counts the execution against the policy, over all replicas."""
        row = await self.pool.fetchrow(SQL["action_start"], action_id, _BUILT_IN_RULES)
        return None if row is None else _started(row)

    async def end(
        self, place: Place, status: ActionStatus, reason: str | None, outcome: dict[str, Any] | None = None
    ) -> bool:
        """False: it had ended. Completes the run if it waited for nothing else."""
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL["hold_run"], place.run_id)
            if await connection.fetchval(SQL["action_end"], place.id, status, reason, outcome) is None:
                return False
            await settle_run(connection, place.run_id)
        return True

    async def make_task(self, place: Place, title: str, detail: str, priority: int) -> dict[str, Any]:
        """The task and the action's end in one transaction. Answers the outcome."""
        outcome = {"taskId": str(place.id)}
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL["hold_run"], place.run_id)
            await connection.execute(SQL["action_task"], place.id, title, detail, priority)
            await connection.fetchval(SQL["action_end"], place.id, ActionStatus.EXECUTED, None, outcome)
            await settle_run(connection, place.run_id)
        return outcome

    async def hand_over(self, connection: Connection, started: Started, to_job: UUID, outcome: dict[str, Any]) -> bool:
        """False: it was handed over before. In the transaction that inserts the other job."""
        values = (started.id, started.job_id, to_job, outcome)
        return await connection.fetchval(SQL["action_hand_over"], *values) is not None


def announce(publisher: Publisher, place: Place, status: ActionStatus) -> None:
    """Tell who follows the run or the project that an action stands otherwise. After the commit."""
    channels = (Channel(Topic.JOB, str(place.run_id)), Channel(Topic.PROJECT, str(place.project_id)))
    fields = {"jobId": str(place.run_id), "actionId": str(place.id), "status": str(status)}
    publisher.publish(channels, "run:approval", fields)


_BUILT_IN_RULES: Final = {
    str(kind): {
        "enabled": policy.enabled,
        "max_per_hour": policy.max_per_hour,
        "max_per_day": policy.max_per_day,
        "cooldown_s": policy.cooldown_s,
    }
    for kind, policy in BUILT_IN.items()
}


def _action(row: Row) -> Action:
    fields = dict(row)
    return Action(**{**fields, "risk": Risk(fields["risk"]), "status": ActionStatus(fields["status"])})


def _place(row: Row) -> Place:
    return Place(row["id"], row["run_id"], row["project_id"])


def _started(row: Row) -> Started:
    fields = dict(row)
    rule = {name: fields.pop(name) for name in ("enabled", "max_per_hour", "max_per_day", "cooldown_s")}
    policy = BUILT_IN[ActionKind(fields["action"])] if rule["enabled"] is None else ActionPolicy(**rule)
    fields |= {"action": ActionKind(fields["action"]), "status": ActionStatus(fields["status"])}
    return Started(**fields, policy=policy)
