"""Asking, trying again, cancelling and deleting: rows, job and idempotent answer in one transaction."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec

from gateway.access import Principal
from gateway.feature import Platform
from gateway.idempotency import Answer, run_idempotent
from gateway.infra.uuid7 import uuid7
from gateway.jobs.errors import JobNotFound, WrongState
from gateway.jobs.job import Inserted
from gateway.llm import default_model
from gateway.problem import Problem
from gateway.services.conversations.queues import MessageJobData, Profile, UserLimit, job_of, limit_of
from gateway.services.conversations.research import Research, Stage
from gateway.services.conversations.schemas import (
    AcceptedMessage,
    AskBody,
    MessageView,
    Page,
    message_view,
    not_found,
    state_view,
)
from gateway.services.conversations.store import OPEN, Asked, Connection, Conversation, Message, MessageStore
from gateway.services.conversations.telling import MessageEnds

_TITLE_MAX: Final = 80
_MICROS_PER_CENT: Final = 10_000


Work = Callable[[Connection, list[Inserted]], Awaitable[Answer]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and how the request is recognised when it comes again (``idempotency.request_hash``)."""

    caller: Principal
    key: str | None
    request: bytes


class Conversations:
    """Only its owner sees a conversation: not even who may see everything else. Raises ``Problem``, ``QueueFull``, and
    what asyncpg raises."""

    def __init__(self, platform: Platform, store: MessageStore, ends: MessageEnds) -> None:
        self.store = store
        self._ends = ends
        self._settings = platform.settings
        self._pool = platform.pool
        self._engine = platform.engine

    async def ask(self, call: Call, profile: Profile, body: AskBody) -> Answer:
        """Raises Problem 404 for a conversation that is not the caller's, 429 ``rate_limited``."""
        asked = Asked(
            id=uuid7(),
            conversation_id=body.conversation_id or uuid7(),
            profile=profile,
            auth_method=self._auth_method(call.caller),
            question=body.message,
            file_ids=body.file_ids,
            model=body.model or default_model(self._settings),
            job_id=uuid7(),
        )

        async def work(connection: Connection, inserted: list[Inserted]) -> Answer:
            if body.conversation_id is None:
                await self.store.begin_conversation(
                    connection, asked.conversation_id, call.caller.id, _title(body.message)
                )
            elif not await self.store.touch(connection, asked.conversation_id, call.caller.id):
                raise not_found()
            await self._spend_allowance(connection, call.caller, profile)
            await self.store.ask(connection, asked)
            research = self._new_research() if profile is Profile.DEEP_RESEARCH else None
            if research is not None:
                await self.store.begin_research(connection, asked.id, research)
            return await self._accept(connection, inserted, asked, call.caller, research)

        return await self._once(call, work)

    async def retry(self, call: Call, message_id: UUID) -> Answer:
        """A new job for a message that failed or was cancelled; a research goes on where it stopped. Raises Problem
        404, 409 ``not_failed``, 409 ``budget_used_up``, 429 ``rate_limited``."""
        message = await self._settled(call.caller, message_id)
        research = await self.store.research(message_id)
        asked = Asked(
            id=message.id,
            conversation_id=message.conversation_id,
            profile=message.profile,
            auth_method=self._auth_method(call.caller),
            question=message.question,
            file_ids=message.file_ids,
            model=message.model,
            job_id=uuid7(),
        )

        async def work(connection: Connection, inserted: list[Inserted]) -> Answer:
            if not await self.store.reopen(connection, message_id, asked.job_id):
                status = await self.store.status(connection, message_id)
                if status is None:
                    raise not_found()
                said = f"the message is {status}; only one that failed or was cancelled is tried again"
                raise Problem(409, "not_failed", said)
            if research is not None and (reason := research.used_up(message.cost_micros)):
                raise Problem(409, "budget_used_up", f"a retry would fail again: {reason}; begin a new research")
            await self._spend_allowance(connection, call.caller, message.profile)
            return await self._accept(connection, inserted, asked, call.caller, research)

        return await self._once(call, work)

    async def cancel(self, caller: Principal, message_id: UUID) -> MessageView:
        """End a message at once; a model that is being asked is cut within about a second, and what had come is kept.
        Cancelling twice is no mistake. Raises Problem 404, 409 ``already_finished``."""
        message = await self._settled(caller, message_id)
        if message.status in OPEN:
            job_id = await self.store.cancel(message_id, f"cancelled by {caller.id}")
            if job_id is not None:
                await self._end_job(job_id, f"cancelled by {caller.id}")
                await self._ends.tell([message_id])
            message = await self._owned(caller, message_id)
        if message.status != "cancelled":
            raise Problem(
                409, "already_finished", f"the message is {message.status}; only an open one can be cancelled"
            )
        return await self.view(caller, message_id)

    async def delete(self, caller: Principal, conversation_id: UUID) -> None:
        """With its messages and what was researched; what is at work ends. Raises Problem 404."""
        async with self._pool.acquire() as connection, connection.transaction():
            jobs = await self.store.delete(connection, conversation_id, caller.id)
        if jobs is None:
            raise not_found()
        for job_id in jobs:
            await self._end_job(job_id, "its conversation was deleted")

    async def view(self, caller: Principal, message_id: UUID) -> MessageView:
        """Raises Problem 404."""
        message = await self._owned(caller, message_id)
        if message.profile is not Profile.DEEP_RESEARCH:
            return message_view(message)
        research = await self.store.research(message.id)
        if research is None:  # deleted in between
            raise not_found()
        return message_view(message, state_view(research, await self.store.notes(research.id)))

    async def message(self, caller: Principal, message_id: UUID, profile: Profile) -> Message:
        """Raises Problem 404, also for one of another profile."""
        message = await self._owned(caller, message_id)
        if message.profile is not profile:
            raise not_found()
        return message

    async def of_job(self, caller: Principal, job_id: UUID, profile: Profile) -> Message:
        """Raises Problem 404."""
        message = await self.store.of_job(job_id, caller.id)
        if message is None or message.profile is not profile:
            raise not_found()
        return message

    async def conversation(
        self, caller: Principal, conversation_id: UUID, page: Page
    ) -> tuple[Conversation, list[MessageView]]:
        """With one message more than the page has, if there is a next one. Raises Problem 404."""
        found = await self.store.conversation(conversation_id, caller.id)
        if found is None:
            raise not_found()
        messages = await self.store.page(conversation_id, page.before, page.limit + 1)
        return found, [message_view(message) for message in messages]

    async def may_listen(self, caller: Principal, conversation_id: str) -> bool:
        """To ``conversation:{id}``: its owner alone."""
        found = _uuid(conversation_id)
        return found is not None and await self.store.owns_conversation(found, caller.id)

    async def may_follow(self, caller: Principal, job_id: str) -> bool:
        """``job:{id}``: whose message it is."""
        found = _uuid(job_id)
        return found is not None and await self.store.owns_job(found, caller.id)

    async def _owned(self, caller: Principal, message_id: UUID) -> Message:
        message = await self.store.get(message_id, caller.id)
        if message is None:
            raise not_found()
        return message

    async def _settled(self, caller: Principal, message_id: UUID) -> Message:
        """As its job left it, also if that has ended by itself a moment ago."""
        if (await self._owned(caller, message_id)).status in ("failed", "cancelled"):
            await self._ends.follow(message_id)
        return await self._owned(caller, message_id)

    async def _spend_allowance(self, connection: Connection, caller: Principal, profile: Profile) -> None:
        """Raises Problem 429 ``rate_limited``. In the transaction that accepts: what is refused costs nothing."""
        limit = limit_of(profile, self._settings)
        if not limit.most or await self.store.take_allowance(connection, caller.id, profile, limit):
            return
        wait_s = max(1, math.ceil(await self.store.allowance_wait_s(connection, caller.id, profile, limit)))
        raise rate_limited(profile, limit, wait_s)

    async def _accept(
        self,
        connection: Connection,
        inserted: list[Inserted],
        asked: Asked,
        caller: Principal,
        research: Research | None,
    ) -> Answer:
        data = MessageJobData(
            user_id=caller.id,
            conversation_id=asked.conversation_id,
            message_id=asked.id,
            auth_method=asked.auth_method,
            requested_at=datetime.now(UTC),
        )
        job = job_of(asked.profile, asked.job_id, data)
        self._engine.admit([job])
        inserted += await self._engine.insert(connection, [job])
        accepted = AcceptedMessage(
            job_id=asked.job_id,
            message_id=asked.id,
            conversation_id=asked.conversation_id,
            status="queued",
            mode=self._engine.mode,
            state_id=None if research is None else research.id,
        )
        return Answer.of(202, {"success": True, "data": accepted})

    async def _once(self, call: Call, work: Work) -> Answer:
        inserted: list[Inserted] = []
        answer = await run_idempotent(
            self._pool, call.caller.id, call.key, call.request, lambda connection: work(connection, inserted)
        )
        if inserted and not answer.replayed:
            await self._engine.offer(inserted)
        return answer

    async def _end_job(self, job_id: UUID, reason: str) -> None:
        with suppress(WrongState, JobNotFound):  # it has ended meanwhile
            await self._engine.cancel_running(job_id, reason)

    def _new_research(self) -> Research:
        cents = self._settings.deep_research_budget_cents
        return Research(
            id=uuid7(),
            stage=Stage.PLAN,
            percent=0,
            iteration=0,
            round=0,
            max_iterations=self._settings.deep_research_max_iterations,
            budget_micros=cents * _MICROS_PER_CENT or None,
            questions=[],
            plan=None,
        )

    def _auth_method(self, caller: Principal) -> str:
        if self._settings.auth_mode == "none":
            return "none"
        return "api_key" if caller.kind == "key" else "jwt"


def rate_limited(profile: Profile, limit: UserLimit, wait_s: int) -> Problem:
    what = "chat messages" if profile is Profile.CHAT else "researches"
    message = f"At most {limit.most} {what} in {limit.window_s:g} s; the next one in {wait_s} s"
    limits = {"ratelimit-limit": str(limit.most), "ratelimit-remaining": "0", "ratelimit-reset": str(wait_s)}
    return Problem(429, "rate_limited", message, headers={"Retry-After": str(wait_s), **limits})


def _title(text: str) -> str:
    return " ".join(text[:500].split())[:_TITLE_MAX]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
