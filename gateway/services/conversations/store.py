"""Conversations, messages and states of research as rows. Thin: a method for each statement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from gateway.infra.postgres import storable_text
from gateway.infra.sqlfiles import load_sql
from gateway.jobs.duties import rows_of
from gateway.llm.model import ModelAnswer, Spent
from gateway.services.conversations.prompts import Exchange
from gateway.services.conversations.queues import Profile, UserLimit
from gateway.services.conversations.research import Research, Stage
from gateway.services.conversations.text import cleaned

SQL = load_sql(__package__)

Row = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[Row] | asyncpg.pool.PoolConnectionProxy[Row]"

OPEN = ("queued", "running")


class Conversation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: UUID
    title: str
    created_at: datetime
    updated_at: datetime


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question that is to be kept."""

    id: UUID
    conversation_id: UUID
    profile: Profile
    auth_method: str
    question: str
    file_ids: list[str]
    model: str
    job_id: UUID


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """As it stands now. ``status``: queued, running, completed, failed or cancelled; ``job_state``: of the job that
    works on it, None when that is kept no more. ``job_id``: the one that its caller knows."""

    id: UUID
    conversation_id: UUID
    profile: Profile
    question: str
    file_ids: list[str]
    model: str
    job_id: UUID
    current_job_id: UUID
    status: str
    stage: str
    percent: int
    answer: str | None
    partial: str | None
    refused: bool
    demo: bool
    provider: str | None
    error: str | None
    error_kind: str | None
    input_tokens: int
    output_tokens: int
    cost_micros: int
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    job_state: str | None = None


class Held(msgspec.Struct, frozen=True):
    """A message and the attempt that works on it; only with these three may it be answered."""

    message_id: UUID
    job_id: UUID
    fence: int


class EndedMessage(msgspec.Struct, frozen=True):
    id: UUID
    conversation_id: UUID
    job_id: UUID
    status: str


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What an iteration brought."""

    number: int
    stage: Stage
    subject: str | None
    output: dict[str, Any]
    demo: bool
    cost_micros: int
    created_at: datetime


class MessageStore:
    """Raises what asyncpg raises. Methods that take a ``connection`` belong to the caller's transaction."""

    def __init__(self, pool: asyncpg.Pool[Row]) -> None:
        self.pool = pool

    async def begin_conversation(self, connection: Connection, conversation_id: UUID, owner: str, title: str) -> None:
        await connection.execute(SQL["conversation_insert"], conversation_id, owner, title)

    async def touch(self, connection: Connection, conversation_id: UUID, owner: str) -> bool:
        return await connection.fetchval(SQL["conversation_touch"], conversation_id, owner) is not None

    async def conversation(self, conversation_id: UUID, owner: str) -> Conversation | None:
        row = await self.pool.fetchrow(SQL["conversation_get"], conversation_id, owner)
        return Conversation(**row) if row else None

    async def conversations(self, owner: str, before: UUID | None, limit: int) -> list[Conversation]:
        return [Conversation(**row) for row in await self.pool.fetch(SQL["conversation_list"], owner, before, limit)]

    async def delete(self, connection: Connection, conversation_id: UUID, owner: str) -> list[UUID] | None:
        """Delete it with all messages; answers the jobs that were at work. None: it is not there."""
        if await connection.fetchval(SQL["conversation_hold"], conversation_id, owner) is None:
            return None
        rows = await connection.fetch(SQL["conversation_close"], conversation_id)
        await connection.execute(SQL["conversation_delete"], conversation_id)
        return [row["current_job_id"] for row in rows]

    async def owns_conversation(self, conversation_id: UUID, owner: str) -> bool:
        return await self.pool.fetchval(SQL["conversation_owned"], conversation_id, owner) is True

    async def owns_job(self, job_id: UUID, owner: str) -> bool:
        return await self.pool.fetchval(SQL["job_owned"], job_id, owner) is True

    async def take_allowance(self, connection: Connection, owner: str, profile: Profile, limit: UserLimit) -> bool:
        return await connection.fetchval(SQL["allowance_take"], owner, profile, limit.most, limit.window_s) is True

    async def allowance_wait_s(self, connection: Connection, owner: str, profile: Profile, limit: UserLimit) -> float:
        wait_s = await connection.fetchval(SQL["allowance_wait"], owner, profile, limit.most, limit.window_s)
        return float(wait_s or 0.0)

    async def prune_allowances(self) -> int:
        """Answers how many."""
        return rows_of(await self.pool.execute(SQL["allowances_prune"]))

    async def ask(self, connection: Connection, asked: Asked) -> None:
        await connection.execute(
            SQL["message_insert"],
            *(asked.id, asked.conversation_id, asked.profile, asked.auth_method, asked.question, asked.file_ids),
            *(asked.model, asked.job_id),
        )

    async def get(self, message_id: UUID, owner: str) -> Message | None:
        row = await self.pool.fetchrow(SQL["message_get"], message_id, owner)
        return _message(row, now=True) if row else None

    async def of_job(self, job_id: UUID, owner: str) -> Message | None:
        row = await self.pool.fetchrow(SQL["message_of_job"], job_id, owner)
        return _message(row, now=True) if row else None

    async def page(self, conversation_id: UUID, before: UUID | None, limit: int) -> list[Message]:
        rows = await self.pool.fetch(SQL["message_list"], conversation_id, before, limit)
        return [_message(row, now=True) for row in rows]

    async def begin(self, held: Held, stage: str | None, percent: int) -> Message | None:
        row = await self.pool.fetchrow(SQL["message_begin"], *_of(held), stage, percent)
        return _message(row) if row else None

    async def where(self, message_id: UUID) -> tuple[str, UUID] | None:
        """Status and the job that works on it; None: the message is gone."""
        row = await self.pool.fetchrow(SQL["message_state"], message_id)
        return (row["status"], row["current_job_id"]) if row else None

    async def status(self, connection: Connection, message_id: UUID) -> str | None:
        row = await connection.fetchrow(SQL["message_state"], message_id)
        return row["status"] if row else None

    async def history(self, message: Message, limit: int, longest: int) -> list[Exchange]:
        """What was said before it, newest first."""
        rows = await self.pool.fetch(SQL["history"], message.conversation_id, message.id, limit, longest)
        return [Exchange(row["question"], row["answer"]) for row in rows]

    async def hold(self, connection: Connection, held: Held) -> bool:
        return await connection.fetchval(SQL["message_hold"], *_of(held)) is not None

    async def answer(self, connection: Connection, held: Held, text: str, answer: ModelAnswer) -> bool:
        refused = answer.refusal is not None
        facts = (storable_text(text), refused, answer.demo, answer.provider)
        return await connection.fetchval(SQL["message_answer"], *_of(held), *facts) is not None

    async def fail(self, connection: Connection, held: Held, kind: str, error: str) -> bool:
        return await connection.fetchval(SQL["message_fail"], *_of(held), kind, storable_text(error)) is not None

    async def spend(self, connection: Connection, message_id: UUID, spent: Spent, partial: str | None = None) -> None:
        await connection.execute(
            SQL["message_spend"],
            *(message_id, spent.input_tokens, spent.output_tokens, spent.cost_micros),
            storable_text(partial) if partial else None,
        )

    async def cancel(self, message_id: UUID, reason: str) -> UUID | None:
        """The job at work; None: it is not open."""
        found: UUID | None = await self.pool.fetchval(SQL["message_cancel"], message_id, reason)
        return found

    async def reopen(self, connection: Connection, message_id: UUID, job_id: UUID) -> bool:
        return await connection.fetchval(SQL["message_reopen"], message_id, job_id) is not None

    async def follow(self, message_id: UUID | None, limit: int) -> list[UUID]:
        return [row["id"] for row in await self.pool.fetch(SQL["messages_follow"], message_id, limit)]

    async def untold(self, message_ids: Collection[UUID], limit: int) -> list[EndedMessage]:
        rows = await self.pool.fetch(SQL["messages_untold"], list(message_ids), limit)
        return [EndedMessage(**row) for row in rows]

    async def told(self, ends: Sequence[tuple[UUID, str]]) -> None:
        await self.pool.execute(SQL["messages_told"], [one for one, _ in ends], [status for _, status in ends])

    async def begin_research(self, connection: Connection, message_id: UUID, research: Research) -> None:
        await connection.execute(
            SQL["state_insert"],
            *(research.id, message_id, research.stage, research.max_iterations, research.budget_micros),
        )

    async def research(self, message_id: UUID) -> Research | None:
        row = await self.pool.fetchrow(SQL["state_get"], message_id)
        return Research(**{**dict(row), "stage": Stage(row["stage"])}) if row else None

    async def notes(self, state_id: UUID) -> list[Note]:
        rows = await self.pool.fetch(SQL["note_list"], state_id)
        return [Note(**{**dict(row), "stage": Stage(row["stage"])}) for row in rows]

    async def note(
        self, connection: Connection, research: Research, job_id: UUID, output: dict[str, Any], answer: ModelAnswer
    ) -> None:
        """What the iteration brought that ``research`` said was next."""
        await connection.execute(
            SQL["note_insert"],
            *(research.id, research.iteration + 1, job_id, research.stage, research.subject),
            *(cleaned(output), answer.demo, answer.spent.cost_micros),
        )

    async def advance(self, connection: Connection, research: Research) -> None:
        await connection.execute(
            SQL["state_advance"],
            *(research.id, research.stage, research.percent, research.iteration, research.round),
            *(cleaned(research.questions), cleaned(research.plan)),
        )

    async def chain(
        self, connection: Connection, message_id: UUID, job_id: UUID, following: Research, demo: bool
    ) -> None:
        await connection.execute(SQL["message_chain"], message_id, job_id, following.stage, following.percent, demo)


def _of(held: Held) -> tuple[UUID, UUID, int]:
    return held.message_id, held.job_id, held.fence


_FIELDS = tuple(name for name in Message.__struct_fields__ if name not in ("profile", "status", "job_state"))


def _message(row: Row, *, now: bool = False) -> Message:
    """``now``: the row is of ``messages_now``."""
    facts = {name: row[name] for name in _FIELDS} | {"profile": Profile(row["profile"])}
    if not now:
        return Message(**facts, status=row["status"])
    status = row["status_now"]
    if status != row["status"] and status in ("failed", "cancelled"):  # its job knows, and it will know soon
        facts |= {"error": row["job_error"], "error_kind": "job" if status == "failed" else "cancelled"}
    return Message(**facts, status=status, job_state=row["job_state"])
