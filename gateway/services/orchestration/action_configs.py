"""What replaces the built-in policy of actions, by project and kind."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from gateway import audit
from gateway.access import Principal
from gateway.infra.sqlfiles import load_sql
from gateway.infra.uuid7 import uuid7
from gateway.problem import Problem
from gateway.services.orchestration.action_policy import BUILT_IN, ActionPolicy, Risk
from gateway.services.orchestration.actions import ActionKind
from gateway.services.orchestration.projects import Projects

SQL = load_sql("gateway.services.orchestration")


class ActionConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The policy of a kind in a project. ``id`` null: the built-in one. Above low risk a person decides whatever
    ``requiresApproval`` says. ``cooldownSeconds``: between the starts of two executions."""

    id: UUID | None
    project_id: UUID
    action: ActionKind
    enabled: bool
    requires_approval: bool
    risk: Risk
    max_per_hour: int
    max_per_day: int
    cooldown_seconds: int
    updated_by: str | None = None
    updated_at: datetime | None = None


class ActionConfigs:
    """Members see them, owners and operators change them; each change leaves a row in ``admin_audit``. Raises
    ``Problem`` where a method says so, and what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], projects: Projects) -> None:
        self._pool = pool
        self._projects = projects

    async def of(self, caller: Principal, project_id: UUID) -> list[ActionConfig]:
        """One for each kind, built-in ones too. Raises Problem 404."""
        await self._projects.visible(caller, project_id)
        rows = await self._pool.fetch(SQL["action_config_list"], project_id)
        found = {row["action"]: _config(row) for row in rows}
        return [found.get(str(kind)) or _built_in(project_id, kind) for kind in ActionKind]

    async def create(self, caller: Principal, project_id: UUID, kind: ActionKind, policy: ActionPolicy) -> ActionConfig:
        """Raises Problem 404, 403 for who is no owner, 409 ``action_config_exists``."""
        await self._projects.changeable(caller, project_id)
        values = msgspec.structs.astuple(policy)
        async with self._pool.acquire() as connection, connection.transaction():
            arguments = (uuid7(), project_id, kind, *values, caller.id)
            row = await connection.fetchrow(SQL["action_config_insert"], *arguments)
            if row is None:
                message = f"The project has a policy for {kind} already; PUT changes it"
                raise Problem(409, "action_config_exists", message)
            made = _config(row)
            await audit.record(connection, _change(caller, "action_config.create", made))
        return made

    async def replace(self, caller: Principal, config_id: UUID, policy: ActionPolicy) -> ActionConfig:
        """Raises Problem 404, 403 for who is no owner."""
        await self._changeable(caller, config_id)
        values = msgspec.structs.astuple(policy)
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(SQL["action_config_update"], config_id, *values, caller.id)
            changed = _config(row)
            await audit.record(connection, _change(caller, "action_config.replace", changed))
        return changed

    async def delete(self, caller: Principal, config_id: UUID) -> None:
        """Raises Problem 404, 403 for who is no owner."""
        gone = await self._changeable(caller, config_id)
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(SQL["action_config_delete"], config_id) is None:
                raise no_config()
            await audit.record(connection, _change(caller, "action_config.delete", gone))

    async def _changeable(self, caller: Principal, config_id: UUID) -> ActionConfig:
        """Raises Problem: foreign looks like unknown."""
        found = _config(await self._pool.fetchrow(SQL["action_config_get"], config_id))
        try:
            await self._projects.changeable(caller, found.project_id)
        except Problem as problem:
            raise (no_config() if problem.status == 404 else problem) from None
        return found


def no_config() -> Problem:
    return Problem(404, "not_found", "There is no such action policy, or it is not yours")


def _built_in(project_id: UUID, kind: ActionKind) -> ActionConfig:
    policy = BUILT_IN[kind]
    return ActionConfig(
        id=None,
        project_id=project_id,
        action=kind,
        enabled=policy.enabled,
        requires_approval=policy.requires_approval,
        risk=policy.risk,
        max_per_hour=policy.max_per_hour,
        max_per_day=policy.max_per_day,
        cooldown_seconds=policy.cooldown_s,
    )


def _config(row: asyncpg.Record | None) -> ActionConfig:
    if row is None:
        raise no_config()
    fields = dict(row)
    fields |= {"action": ActionKind(fields["action"]), "risk": Risk(fields["risk"])}
    return ActionConfig(cooldown_seconds=fields.pop("cooldown_s"), **fields)


def _change(caller: Principal, action: str, config: ActionConfig) -> audit.Change:
    detail = msgspec.to_builtins(config)
    return audit.Change(actor=caller.id, action=action, subject=str(config.id), detail=detail)
