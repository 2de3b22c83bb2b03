"""The task ``deep-research.iterate``: one iteration of a research. Its results and the job of the next one are
committed together, so that a process that dies has at most one iteration repeated, and none is paid twice once it is
recorded."""

from __future__ import annotations

from typing import Any, Final

import structlog

from gateway.infra.uuid7 import uuid7
from gateway.jobs.engine import Engine
from gateway.jobs.errors import Fail
from gateway.jobs.job import Inserted
from gateway.jobs.registry import Task, TaskContext
from gateway.llm.model import ModelAnswer, ModelRequest
from gateway.realtime.words import Words
from gateway.services.conversations.answering import Answering, Turn
from gateway.services.conversations.chat import paid
from gateway.services.conversations.prompts import (
    HISTORY_CHARS,
    HISTORY_MESSAGES,
    SCHEMAS,
    report,
    research_messages,
)
from gateway.services.conversations.queues import RESEARCH_TASK, MessageJobData, Profile, job_of
from gateway.services.conversations.research import Research, Stage, after
from gateway.services.conversations.store import Connection

log = structlog.get_logger(__name__)

_STEP_TOKENS: Final = 4096
_REPORT_TOKENS: Final = 8192


class ResearchTask:
    """Performs ``deep-research.iterate``."""

    def __init__(self, answering: Answering, engine: Engine) -> None:
        self._answering = answering
        self._store = answering.store
        self._engine = engine

    def task(self) -> Task[MessageJobData]:
        return Task(
            name=RESEARCH_TASK,
            queue=Profile.DEEP_RESEARCH,
            args=MessageJobData,
            perform=self.perform,
            no_replay="the job of an iteration only names its message; try that again: POST /api/messages/{id}/retry",
        )

    async def perform(self, data: MessageJobData, context: TaskContext) -> dict[str, Any]:
        """The ids, the iteration, and what it cost. Raises ``Retry``, ``Fail``, ``Snooze`` or ``Cancel``."""
        return await self._answering.attempt(data, context, lambda: self._perform(data, context))

    async def _perform(self, data: MessageJobData, context: TaskContext) -> dict[str, Any]:
        turn = await self._answering.begin(data, context, None, 0)
        research = await self._store.research(turn.message.id)
        if research is None or research.stage is Stage.DONE:
            raise Fail("its state is gone")
        if context.job.id == turn.message.job_id:  # the first one since it was asked
            turn.tell.started()
        await turn.progress(research.stage, research.percent)
        context.log(f"iteration {research.iteration + 1} of at most {research.max_iterations}: {research.stage}")
        await self._check_budget(turn, research)
        writing = research.stage is Stage.WRITING
        words = Words(turn.tell.tokens if writing else None)
        answer = await self._answering.ask(turn, await self._request(turn, research), words)
        if answer.refusal is not None and not writing:
            await self._answering.give_up(turn, "refusal", "the model refused", answer.spent, answer.refusal)
        following = after(research, answer.parsed or {}, turn.message.question)
        await self._keep(turn, data, (research, following), answer)
        return {"stage": research.stage, "iteration": following.iteration, **paid(answer.spent)}

    async def _check_budget(self, turn: Turn, research: Research) -> None:
        if reason := research.used_up(turn.message.cost_micros):
            await self._answering.give_up(turn, "budget", reason)

    async def _request(self, turn: Turn, research: Research) -> ModelRequest:
        message, writing = turn.message, research.stage is Stage.WRITING
        history = await self._store.history(message, HISTORY_MESSAGES, HISTORY_CHARS)
        notes = [
            {"stage": note.stage, "subject": note.subject, **note.output}
            for note in await self._store.notes(research.id)
        ]
        return ModelRequest(
            model=message.model,
            messages=research_messages(research, history, message.question, notes),
            deadline_s=turn.deadline_s,
            purpose=Profile.DEEP_RESEARCH,
            schema=None if writing else SCHEMAS[research.stage],
            schema_name=research.stage,
            max_output_tokens=_REPORT_TOKENS if writing else _STEP_TOKENS,
        )

    async def _keep(
        self, turn: Turn, data: MessageJobData, step: tuple[Research, Research], answer: ModelAnswer
    ) -> None:
        """Results and next job in one transaction; then tell."""
        research, following = step
        done, inserted = following.stage is Stage.DONE, list[Inserted]()
        text = answer.refusal or report(answer.text)

        async def record(connection: Connection) -> bool:
            inserted.clear()
            if not await self._store.hold(connection, turn.held):
                return False
            output = {"characters": len(text)} if done else answer.parsed or {}
            await self._store.note(connection, research, turn.context.job.id, output, answer)
            await self._store.advance(connection, following)
            await self._store.spend(connection, turn.message.id, answer.spent)
            if done:
                return await self._store.answer(connection, turn.held, text, answer)
            next_job = job_of(Profile.DEEP_RESEARCH, uuid7(), data)
            await self._store.chain(connection, turn.message.id, next_job.id, following, answer.demo)
            inserted.extend(await self._engine.insert(connection, [next_job]))
            return True

        if not await self._answering.surely(record):
            await self._answering.unwanted(turn, answer)
        await self._engine.offer(inserted)
        log.info("research_iterated", message=str(data.message_id), stage=research.stage, iteration=following.iteration)
        turn.tell.state(research.id)
        if done:
            await turn.progress(following.stage, following.percent)
            await self._answering.tell_end(turn)
        else:
            turn.context.log(f"next: {following.stage}, by job {inserted[0].id}")
