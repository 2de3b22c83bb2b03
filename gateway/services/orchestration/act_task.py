"""``orchestration.act``: does one approved action, once as far as the world allows.

What is ours (tasks, the request of a mail) is committed together with the action's end. What is GitHub's carries the
action's id: after a crash between its answer and our commit the next try finds what is there.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from gateway.feature import Platform
from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.infra.uuid7 import uuid7
from gateway.jobs.errors import Cancel, Fail, QueueFull, Retry, Snooze
from gateway.jobs.job import NewJob
from gateway.jobs.registry import Task, TaskContext
from gateway.services.orchestration.action_policy import ActionPolicy
from gateway.services.orchestration.action_store import ActionStore, Place, Started, announce
from gateway.services.orchestration.actions import (
    OPEN,
    ActionStatus,
    CommentIssue,
    CreateTask,
    OpenIssue,
    SendEmail,
    read_arguments,
)
from gateway.services.orchestration.approvals import REQUEST_TASK
from gateway.services.orchestration.github import GitHub, GitHubBusy, GitHubFailed, GitHubRefused
from gateway.services.orchestration.outcomes import ACT_TASK
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE

log = structlog.get_logger(__name__)

EMAIL_QUEUE: Final = "email-queue"
_LEDGER_RETRY_S: Final = 0.25
_AGAIN_S: Final = 1.0


class ActArgs(msgspec.Struct, frozen=True, rename="camel"):
    action_id: str


class ActionRunner:
    """Performs ``orchestration.act``."""

    def __init__(self, platform: Platform, github: GitHub) -> None:
        self._store = ActionStore(platform.pool)
        self._pool = platform.pool
        self._engine = platform.engine
        self._publisher = platform.publisher
        self._github = github

    def task(self) -> Task[ActArgs]:
        return Task(
            name=ACT_TASK,
            queue=ORCHESTRATION_QUEUE,
            args=ActArgs,
            perform=self.perform,
            no_replay="an action is done once; a new run may ask for it again",
        )

    async def perform(self, args: ActArgs, context: TaskContext) -> dict[str, Any]:
        """What came of it. Raises ``Snooze`` while limits leave no room and while GitHub or the ledger rest, ``Retry``
        for what may pass, ``Fail`` for what never will and ``Cancel`` when its run was; the action has ended then."""
        try:
            return await self._perform(UUID(args.action_id), context)
        except LEDGER_ERRORS as error:
            if not is_unavailable(error):
                raise
            raise Snooze(f"the ledger does not answer: {error}", after_s=_AGAIN_S) from error

    async def _perform(self, action_id: UUID, context: TaskContext) -> dict[str, Any]:
        started = await self._store.start(action_id)
        if started is None:
            raise Fail(f"the action {action_id} does not exist any more")
        if started.status is ActionStatus.EXECUTED:  # a crash came between its end and the job's
            return started.outcome or {}
        place = Place(started.id, started.run_id, started.project_id)
        await self._demand_room(started, place)
        try:
            outcome = await self._do(started, place, context)
        except GitHubBusy as error:
            raise Snooze(str(error), after_s=error.after_s) from error
        except GitHubRefused as error:
            raise await self._ended(place, ActionStatus.FAILED, str(error)) from error
        except GitHubFailed as error:
            if context.job.attempt < context.job.max_attempts:
                raise Retry(str(error), uncertain=True) from error
            reason = f"{error}; GitHub may have done it all the same"
            raise await self._ended(place, ActionStatus.FAILED, reason) from error
        log.info("action_done", action_id=str(place.id), action=started.action, outcome=outcome)
        return outcome

    async def _demand_room(self, started: Started, place: Place) -> None:
        """Returns when the execution may go on."""
        if started.status is ActionStatus.REJECTED:  # its run was cancelled after the approval: nobody's failure
            raise Cancel(started.reason or "the action is rejected")
        if started.status not in OPEN:
            raise Fail(f"the action is {started.status}: {started.reason}")
        if started.begun:
            announce(self._publisher, place, ActionStatus.EXECUTING)
        elif started.status is ActionStatus.APPROVED:
            if not started.policy.enabled:
                raise await self._ended(place, ActionStatus.REFUSED, "its kind was switched off after the approval")
            wait_s = room_in_s(started.policy, started.starts, started.now)
            raise Snooze(f"the limits of {started.action} leave no room for {wait_s:.0f} s", after_s=wait_s)
        if started.archived:
            raise await self._ended(place, ActionStatus.REFUSED, "the project is archived")

    async def _do(self, started: Started, place: Place, context: TaskContext) -> dict[str, Any]:
        if not context.still_held():
            raise Snooze("its lease ran out before anything was done", after_s=_AGAIN_S)
        match read_arguments(started.action, started.arguments):
            case CreateTask(title, detail, priority):
                outcome = await self._store.make_task(place, title, detail, priority)
                announce(self._publisher, place, ActionStatus.EXECUTED)
                return outcome
            case SendEmail() as mail:
                return await self._request_mail(started, mail)
            case CommentIssue(number, body):
                repository = await self._repository(started, place)
                await context.progress(None, f"comments on {repository}#{number}")
                key, since = f"action:{started.id}", started.created_at
                url = await self._github.comment(repository, number, body, key, since=since)
            case OpenIssue(title, body):
                repository = await self._repository(started, place)
                await context.progress(None, f"opens an issue in {repository}")
                key, since = f"action:{started.id}", started.created_at
                url = await self._github.open_issue(repository, title, body, key, since=since)
        context.irrevocable()  # the world has it: what is left is to say so
        context.log(f"done: {url}")
        await context.progress(100, "done")
        return await self._executed(place, {"url": url})

    async def _repository(self, started: Started, place: Place) -> str:
        if started.repository is None:
            raise await self._ended(place, ActionStatus.FAILED, "the project names no repository")
        return started.repository

    async def _request_mail(self, started: Started, mail: SendEmail) -> dict[str, Any]:
        """The mail's own feature makes it, under the action's id; the action ends when that job does."""
        owner = started.created_by if started.decided_by in (None, "policy") else started.decided_by
        outcome = {"emailId": str(started.id)}
        job = NewJob(
            id=uuid7(),
            queue=EMAIL_QUEUE,
            task=REQUEST_TASK,
            args={
                "id": str(started.id),
                "owner": owner,
                "draft": {
                    "to": mail.to,
                    "subject": mail.subject,
                    "text": mail.text,
                    "referenceType": "orchestration_action",
                    "referenceId": str(started.id),
                },
            },
        )
        try:
            self._engine.admit([job])
        except QueueFull as error:
            raise Snooze(str(error), after_s=float(error.retry_after_s)) from error
        inserted = []
        async with self._pool.acquire() as connection, connection.transaction():
            if await self._store.hand_over(connection, started, job.id, outcome):
                inserted = await self._engine.insert(connection, [job])
        await self._engine.offer(inserted)
        return outcome

    async def _executed(self, place: Place, outcome: dict[str, Any]) -> dict[str, Any]:
        """While the ledger is away the answer is kept here and told again."""
        while True:
            try:
                await self._store.end(place, ActionStatus.EXECUTED, None, outcome)
                break
            except LEDGER_ERRORS as error:
                if not is_unavailable(error):
                    raise
                log.warning("outcome_waits_for_ledger", action_id=str(place.id), error=str(error))
                await asyncio.sleep(_LEDGER_RETRY_S)
        announce(self._publisher, place, ActionStatus.EXECUTED)
        return outcome

    async def _ended(self, place: Place, status: ActionStatus, reason: str) -> Fail:
        """The action ends, and the job with it: nothing fails that looks like success."""
        await self._store.end(place, status, reason)
        announce(self._publisher, place, status)
        log.warning("action_not_done", action_id=str(place.id), status=status, reason=reason)
        return Fail(reason)


def room_in_s(policy: ActionPolicy, starts: list[datetime], now: datetime) -> float:
    """Seconds until the limits allow another start; at least one. Pure. ``starts``: those of the last day."""
    ordered = sorted(starts)
    times = [now]
    if ordered:
        times.append(ordered[-1] + timedelta(seconds=policy.cooldown_s))
    for most, span in ((policy.max_per_hour, timedelta(hours=1)), (policy.max_per_day, timedelta(days=1))):
        if len(ordered) >= most:
            times.append(ordered[-most] + span)
    return max(_AGAIN_S, (max(times) - now).total_seconds())
