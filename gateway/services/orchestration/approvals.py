"""People's decisions on what agents want to do. What waits for one is a row: it holds no slot and survives restarts."""

from __future__ import annotations

from datetime import UTC
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from gateway import audit
from gateway.access import Principal
from gateway.feature import Platform
from gateway.infra.uuid7 import uuid7
from gateway.problem import Problem
from gateway.services.orchestration.action_store import (
    Action,
    ActionFilter,
    ActionStore,
    Decided,
    Left,
    Place,
    announce,
)
from gateway.services.orchestration.actions import ActionKind, ActionStatus, read_arguments
from gateway.services.orchestration.outcomes import act_job
from gateway.services.orchestration.projects import Projects

log = structlog.get_logger(__name__)

FOLLOW_S: Final = 2.0  # how long an action may be open after its job has ended
EXPIRE_S: Final = 5.0
REQUEST_TASK: Final = "email.request"  # of the e-mail feature; its jobs end actions that ask for mails


class Approvals:
    """Raises ``Problem`` where a method says so, and what asyncpg raises."""

    def __init__(self, platform: Platform, projects: Projects) -> None:
        self.store = ActionStore(platform.pool)
        self._pool = platform.pool
        self._engine = platform.engine
        self._publisher = platform.publisher
        self._projects = projects

    async def page(self, caller: Principal, wanted: ActionFilter, limit: int) -> list[Action]:
        """Those of projects that the caller may see. Raises Problem 404 for a project that he may not."""
        if wanted.project_id is not None:
            await self._projects.visible(caller, wanted.project_id)
        member = None if caller.sees_all else caller.id
        found = await self.store.page(msgspec.structs.replace(wanted, member=member), limit)
        projects = {action.project_id for action in found}
        readable = {one: await self._projects.may_read(caller, one) for one in projects}
        return [action if readable[action.project_id] else without_content(action) for action in found]

    async def get(self, caller: Principal, action_id: UUID) -> Action:
        """Raises Problem 404: unknown and foreign look the same."""
        found = await self.store.get(action_id)
        if found is None:
            raise no_action()
        try:
            await self._projects.visible(caller, found.project_id)
        except Problem:
            raise no_action() from None
        return found if await self._projects.may_read(caller, found.project_id) else without_content(found)

    async def approve(self, caller: Principal, action_id: UUID, comment: str | None, edited: Any = None) -> Action:
        """Have it done, by a job that is committed with the decision. ``edited``: other arguments than the agent's.

        Raises Problem 404; 403 for who is no owner; 409 ``already_decided`` and ``approval_expired``; 422 for arguments
        that do not fit.
        """
        found = await self._decidable(caller, action_id)
        decided = Decided(by=caller.id, comment=comment, arguments=_edited(found, edited))
        job_id = uuid7()
        async with self._pool.acquire() as connection, connection.transaction():
            if not await self.store.approve(connection, action_id, decided, job_id):
                raise await self._too_late(action_id)
            inserted = await self._engine.insert(connection, [act_job(action_id, job_id, found.project_id)])
            await audit.record(connection, _change("action.approve", found, decided))
        await self._engine.offer(inserted)
        return await self._told(found, ActionStatus.APPROVED)

    async def reject(self, caller: Principal, action_id: UUID, comment: str | None) -> Action:
        """Raises Problem as ``approve`` does."""
        found = await self._decidable(caller, action_id)
        decided = Decided(by=caller.id, comment=comment)
        async with self._pool.acquire() as connection, connection.transaction():
            if not await self.store.reject(connection, place_of(found), decided):
                raise await self._too_late(action_id)
            await audit.record(connection, _change("action.reject", found, decided))
        return await self._told(found, ActionStatus.REJECTED)

    async def expire(self) -> None:
        """A chore: what nobody decided in time is not done."""
        while overdue := await self.store.overdue():
            for place in overdue:
                if await self.store.expire(place):
                    log.info("approval_expired", action_id=str(place.id), run_id=str(place.run_id))
                    announce(self._publisher, place, ActionStatus.EXPIRED)

    async def follow(self) -> None:
        """A chore: end actions whose jobs have ended without them. That is how a mail's request ends, and what is left
        of a job that was killed, cancelled or deleted."""
        for left in await self.store.left():
            status, reason = ending_of(left)
            if await self.store.end(left.place, status, reason):
                log.info("action_ended", action_id=str(left.place.id), status=status, reason=reason)
                announce(self._publisher, left.place, status)

    async def _decidable(self, caller: Principal, action_id: UUID) -> Action:
        found = await self.get(caller, action_id)
        await self._projects.changeable(caller, found.project_id)
        if found.status is not ActionStatus.PENDING:
            raise decided_already(found)
        return found

    async def _too_late(self, action_id: UUID) -> Problem:
        found = await self.store.get(action_id)
        return no_action() if found is None else decided_already(found)

    async def _told(self, found: Action, status: ActionStatus) -> Action:
        announce(self._publisher, place_of(found), status)
        return await self.store.get(found.id) or found


def ending_of(left: Left) -> tuple[ActionStatus, str | None]:
    """How an open action ends whose job has. Pure."""
    if left.task == REQUEST_TASK and left.state == "completed":
        return ActionStatus.EXECUTED, None
    begun = left.status is ActionStatus.EXECUTING and left.task != REQUEST_TASK
    doubt = "; nobody knows whether it was done" if begun else ""
    if left.state is None:
        return ActionStatus.FAILED, f"its job is gone{doubt}"
    how = {"completed": "ended without saying what became of it"}.get(left.state, left.state)
    return ActionStatus.FAILED, f"its job {how}{': ' + left.error if left.error else ''}{doubt}"


def without_content(action: Action) -> Action:
    """What an agent wants in kind, and not in words."""
    hidden: dict[str, Any] = {"arguments": {}, "proposed": None, "rationale": "", "content_hidden": True}
    return msgspec.structs.replace(action, **hidden)


def place_of(action: Action) -> Place:
    return Place(action.id, action.run_id, action.project_id)


def no_action() -> Problem:
    return Problem(404, "not_found", "There is no such action, or it is not yours")


def decided_already(found: Action) -> Problem:
    if found.status in (ActionStatus.PENDING, ActionStatus.EXPIRED):
        return Problem(409, "approval_expired", "Nobody decided in time: the approval has expired")
    by = f" by {found.decided_by}" if found.decided_by else ""
    at = f" at {found.decided_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if found.decided_at else ""
    return Problem(409, "already_decided", f"The action is {found.status} already{by}{at}; it can be decided once")


def _edited(found: Action, edited: Any) -> dict[str, Any] | None:
    if edited is None:
        return None
    try:
        read: dict[str, Any] = msgspec.to_builtins(read_arguments(ActionKind(found.action), edited))
    except ValueError as error:
        details = [{"field": "editedArguments", "message": str(error)}]
        raise Problem(422, "invalid_arguments", f"editedArguments: {error}", details=details) from None
    return read


def _change(action: str, found: Action, decided: Decided) -> audit.Change:
    detail = {
        "action": found.action,
        "projectId": str(found.project_id),
        "runId": str(found.run_id),
        "comment": decided.comment,
        "edited": decided.arguments is not None,
    }
    return audit.Change(actor=decided.by, action=action, subject=str(found.id), detail=detail)
