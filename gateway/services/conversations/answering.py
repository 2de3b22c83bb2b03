"""What answering a chat message and an iteration of a research have in common: how an attempt begins, how the model is
asked, and that what was paid is recorded, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import structlog

from gateway.infra.postgres import LEDGER_ERRORS, is_unavailable
from gateway.jobs.errors import Cancel, Fail, Retry, Snooze
from gateway.jobs.registry import TaskContext
from gateway.llm.model import (
    ModelAnswer,
    ModelBusy,
    ModelError,
    ModelRefusedCall,
    ModelRequest,
    Models,
    Spent,
    spent_when_cancelled,
)
from gateway.realtime.channel import Publisher
from gateway.realtime.words import Words
from gateway.services.conversations.queues import MessageJobData
from gateway.services.conversations.store import Connection, Held, Message, MessageStore
from gateway.services.conversations.telling import MessageEnds, Teller

log = structlog.get_logger(__name__)

MARGIN_S: Final = 2.0  # of an attempt's time, for what comes after the answer
_AGAIN_S: Final = 1.0
_LEDGER_RETRY_S: Final = 0.25

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """An attempt that works on a message."""

    message: Message
    context: TaskContext
    tell: Teller

    async def progress(self, stage: str, percent: int) -> None:
        """On the job and on the channels. What the message itself says stands in its row."""
        await self.context.progress(percent, stage)
        self.tell.progress(stage, percent)

    @property
    def held(self) -> Held:
        return Held(self.message.id, self.context.job.id, self.context.job.fence)

    @property
    def deadline_s(self) -> float:
        return max(1.0, self.context.deadline_s - MARGIN_S)


class Done(Exception):
    """There is nothing left to do: an earlier attempt of this job did it."""


class Answering:
    def __init__(self, store: MessageStore, models: Models, publisher: Publisher) -> None:
        self.store = store
        self.ends = MessageEnds(store, publisher)
        self._models = models
        self._publisher = publisher

    async def attempt(
        self, data: MessageJobData, context: TaskContext, work: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Do the work of a task. The ledger's absence before anything was paid costs no attempt (invariant F)."""
        facts = {"messageId": str(data.message_id), "conversationId": str(data.conversation_id)}
        try:
            return facts | await work()
        except Done:
            return facts
        except LEDGER_ERRORS as error:
            if not is_unavailable(error):
                raise
            raise Snooze(f"the ledger does not answer: {error}", after_s=_AGAIN_S) from error

    async def begin(self, data: MessageJobData, context: TaskContext, stage: str | None, percent: int) -> Turn:
        """Raises ``Done``, or ``Cancel`` where nobody wants the answer any more."""
        held = Held(data.message_id, context.job.id, context.job.fence)
        message = await self.store.begin(held, stage, percent)
        if message is not None:
            tell = Teller(self._publisher, message.conversation_id, message.id, message.job_id)
            return Turn(message, context, tell)
        found = await self.store.where(data.message_id)
        if found is None:
            raise Cancel("its conversation was deleted")
        status, current_job_id = found
        if status == "completed" or current_job_id != context.job.id:
            raise Done
        raise Cancel("the message was cancelled")

    async def ask(self, turn: Turn, request: ModelRequest, words: Words) -> ModelAnswer:
        """The model's answer; nothing cuts the attempt after it, so that it is recorded. Raises ``Snooze``, ``Retry``
        or ``Fail``, with what was spent recorded."""
        context = turn.context
        try:
            answer = await self._answer(request, words)
        except asyncio.CancelledError as cancelled:
            await _in_any_case(self._paid(turn, spent_when_cancelled(cancelled), words.text))
            raise
        except ModelBusy as busy:
            await self._paid(turn, busy.spent, busy.partial)
            raise Snooze(str(busy), after_s=busy.after_s) from busy
        except ModelError as error:
            final = isinstance(error, ModelRefusedCall) or context.job.attempt >= context.job.max_attempts
            await self._paid(turn, error.spent, error.partial)
            if final:
                await self.give_up(turn, error.kind, str(error))
            raise Retry(f"{error.kind}: {error}") from error
        context.irrevocable()
        return answer

    async def _answer(self, request: ModelRequest, words: Words) -> ModelAnswer:
        try:
            return await self._models.complete(request, words)
        finally:
            words.flush()

    async def give_up(
        self, turn: Turn, kind: str, reason: str, spent: Spent | None = None, words: str | None = None
    ) -> NoReturn:
        """The message has failed for good. Raises ``Fail``. ``words``: what the model said; it stands in the message,
        for those who may read that, and not in the job, which every viewer reads."""

        async def record(connection: Connection) -> bool:
            if spent is not None:
                await self.store.spend(connection, turn.message.id, spent)
            whole = reason if words is None else f"{reason}: {words}"
            return await self.store.fail(connection, turn.held, kind, whole)

        if await self.surely(record):
            await self.tell_end(turn)
        raise Fail(f"{kind}: {reason}")

    async def surely(self, record: Callable[[Connection], Awaitable[T]]) -> T:
        """Record in one transaction, also when the ledger is away for a while: what was paid is not paid again."""
        while True:
            try:
                async with self.store.pool.acquire() as connection, connection.transaction():
                    return await record(connection)
            except LEDGER_ERRORS as error:
                if not is_unavailable(error):
                    raise
                log.warning("message_waits_for_ledger", error=str(error))
                await asyncio.sleep(_LEDGER_RETRY_S)

    async def tell_end(self, turn: Turn) -> None:
        """What cannot be told now is told by the chore."""
        with suppress(*LEDGER_ERRORS):
            await self.ends.tell([turn.message.id])

    async def unwanted(self, turn: Turn, answer: ModelAnswer) -> NoReturn:
        """The answer came too late: cancelled, deleted, or another attempt has the message. Only its cost is kept."""
        await self._paid(turn, answer.spent, answer.text)
        raise Cancel("the message was cancelled, or its conversation deleted")

    async def _paid(self, turn: Turn, spent: Spent, partial: str) -> None:
        await self.surely(lambda connection: self.store.spend(connection, turn.message.id, spent, partial))


async def _in_any_case(recording: Awaitable[T]) -> None:
    """Although the attempt is being cut: that ends the work, not the record of what was paid."""
    task = asyncio.ensure_future(recording)
    with suppress(asyncio.CancelledError):
        await asyncio.shield(task)
    if not task.done():
        await asyncio.wait([task])
