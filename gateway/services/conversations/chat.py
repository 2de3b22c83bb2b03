"""The task ``chat.answer``: the conversation so far, the model, the answer as a row."""

from __future__ import annotations

from typing import Any, Final

from gateway.jobs.registry import Task, TaskContext
from gateway.llm.model import ModelAnswer, ModelRequest, Spent
from gateway.realtime.words import Words
from gateway.services.conversations.answering import Answering, Turn
from gateway.services.conversations.prompts import HISTORY_CHARS, HISTORY_MESSAGES, chat_messages
from gateway.services.conversations.queues import CHAT_TASK, MessageJobData, Profile
from gateway.services.conversations.store import Connection

_STAGE: Final = "answering"
_BEGUN: Final = 10  # percent
_OUTPUT_TOKENS: Final = 4096


class ChatTask:
    """Performs ``chat.answer``."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    def task(self) -> Task[MessageJobData]:
        return Task(
            name=CHAT_TASK,
            queue=Profile.CHAT,
            args=MessageJobData,
            perform=self.perform,
            no_replay="a chat job only names its message; try that again: POST /api/messages/{id}/retry",
        )

    async def perform(self, data: MessageJobData, context: TaskContext) -> dict[str, Any]:
        """The ids, and what it cost. Raises ``Retry``, ``Fail``, ``Snooze`` or ``Cancel``."""
        return await self._answering.attempt(data, context, lambda: self._perform(data, context))

    async def _perform(self, data: MessageJobData, context: TaskContext) -> dict[str, Any]:
        turn = await self._answering.begin(data, context, _STAGE, _BEGUN)
        turn.tell.started()
        await turn.progress(_STAGE, _BEGUN)
        answer = await self._answering.ask(turn, await self._request(turn), Words(turn.tell.tokens))
        await self._keep(turn, answer)
        return paid(answer.spent)

    async def _request(self, turn: Turn) -> ModelRequest:
        message = turn.message
        history = await self._answering.store.history(message, HISTORY_MESSAGES, HISTORY_CHARS)
        return ModelRequest(
            model=message.model,
            messages=chat_messages(history, message.question),
            deadline_s=turn.deadline_s,
            purpose=Profile.CHAT,
            max_output_tokens=_OUTPUT_TOKENS,
        )

    async def _keep(self, turn: Turn, answer: ModelAnswer) -> None:
        store, text = self._answering.store, answer.refusal or answer.text

        async def record(connection: Connection) -> bool:
            kept = await store.answer(connection, turn.held, text, answer)
            if kept:
                await store.spend(connection, turn.message.id, answer.spent)
            return kept

        if not await self._answering.surely(record):
            await self._answering.unwanted(turn, answer)
        await turn.progress("done", 100)
        await self._answering.tell_end(turn)


def paid(spent: Spent) -> dict[str, Any]:
    return {
        "inputTokens": spent.input_tokens,
        "outputTokens": spent.output_tokens,
        "costMicros": spent.cost_micros,
    }
