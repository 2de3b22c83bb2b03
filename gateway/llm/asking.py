"""One request to a model: its rounds, and what they cost together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from gateway.infra.metrics import Metrics
from gateway.infra.tracing import Attributes, span
from gateway.llm.exchange import Heard, Question, tokens_of
from gateway.llm.lanes import Ending, Lanes
from gateway.llm.model import (
    ModelAnswer,
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelRequest,
    OnToken,
    Spent,
    note_spent,
)
from gateway.llm.providers import Provider
from gateway.llm.schema import Misfit, read_answer
from gateway.llm.store import Price
from gateway.llm.telling import of_answer, of_question

log = structlog.get_logger(__name__)

# A caller who waits less says nothing of the provider by going away: many models think as long before their first word,
# and one project's short time limits must not close a lane for all others.
PATIENT_S: Final = 30.0


class Client(Protocol):
    async def ask(self, question: Question, heard: Heard, on_token: OnToken | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Served:
    """A model with who serves it and what it costs. ``price`` None: nothing is known, so nothing is counted."""

    model: str
    provider: Provider
    price: Price | None

    @property
    def label(self) -> str:
        """For metrics and logs: names that people make up have none of their own."""
        return self.price.model if self.price is not None else "other"

    @property
    def limited_as(self) -> str:
        """Under which name its limits stand: a dated name shares those of the plain one."""
        return self.price.model if self.price is not None else self.model


@dataclass(frozen=True, slots=True)
class Desk:
    """What every request needs. ``client`` opens the provider's at the first use."""

    lanes: Lanes
    metrics: Metrics
    client: Callable[[Provider], Awaitable[Client]]


class Asking:
    """Made for one request. ``ends``: on the loop's clock."""

    def __init__(self, desk: Desk, served: Served, request: ModelRequest, on_token: OnToken | None) -> None:
        self._desk = desk
        self._served = served
        self._request = request
        self._on_token = on_token
        self._ends = asyncio.get_running_loop().time() + request.deadline_s
        self._spent = Spent()

    async def answer(self, question: Question) -> ModelAnswer:
        try:
            return await self._rounds(question)
        except asyncio.CancelledError as cancelled:  # wherever it came: between two rounds the first is paid
            note_spent(cancelled, self._spent)
            raise

    async def _rounds(self, question: Question) -> ModelAnswer:
        heard = await self._round(question)
        schema = self._request.schema
        if heard.refusal or schema is None:
            return self._answer(heard)
        try:
            return self._answer(heard, read_answer(heard.text, schema))
        except Misfit as misfit:
            problem = str(misfit)
        self._misfit()
        heard = await self._round(question.with_repair(heard.text, problem))
        if heard.refusal:
            return self._answer(heard, repaired=True)
        try:
            return self._answer(heard, read_answer(heard.text, schema), repaired=True)
        except Misfit as misfit:
            self._misfit()
            message = f"{self._served.model} answered twice what does not fit. {misfit}"
            raise ModelFailed("bad_answer", message, spent=self._spent, partial=heard.text) from misfit

    def _misfit(self) -> None:
        self._desk.metrics.model_misfit(self._request.purpose, self._served.label)
        log.info("model_answer_misfit", model=self._served.label, purpose=self._request.purpose)

    def _answer(self, heard: Heard, parsed: dict[str, Any] | None = None, *, repaired: bool = False) -> ModelAnswer:
        return ModelAnswer(
            text=heard.text,
            model=self._served.model,
            provider=self._served.provider.name,
            spent=self._spent,
            parsed=parsed,
            refusal=heard.refusal or None,
            repaired=repaired,
        )

    async def _round(self, question: Question) -> Heard:
        """One call. What it cost is in ``self._spent``, and in whatever is raised."""
        provider, heard = self._served.provider, Heard()
        try:
            ticket = await self._desk.lanes.admit(
                provider.name, self._served.limited_as, question.input_estimate + question.max_output_tokens
            )
        except ModelBusy as busy:
            self._desk.metrics.model_call(provider.name, "waited")
            busy.spent = self._spent
            raise
        began = time.perf_counter()
        try:
            ending = await self._traced_call(question, heard)
        except asyncio.CancelledError:
            self._account(question, heard, began, "cancelled")
            raise
        error = ending.error
        outcome = error.kind if error is not None else "refusal" if heard.refusal else "answered"
        tokens = self._account(question, heard, began, outcome)
        await self._desk.lanes.close(ticket, tokens, ending)
        if error is not None:
            error.spent, error.partial = self._spent, heard.text
            raise error
        return heard

    async def _traced_call(self, question: Question, heard: Heard) -> Ending:
        facts: Attributes = {
            **of_question(self._served.provider, question),
            "gateway.purpose": self._request.purpose,
        }
        with span(f"chat {self._served.label}", "client", facts) as step:
            try:
                ending = await self._call(question, heard)
            finally:
                step.note(of_answer(heard))
            if ending.error is not None:
                step.fail(ending.error.kind)
        return ending

    async def _call(self, question: Question, heard: Heard) -> Ending:
        """Put the answer into ``heard``; says why it is none."""
        provider = self._served.provider
        patient = self._ends - asyncio.get_running_loop().time() >= PATIENT_S
        try:
            async with asyncio.timeout_at(self._ends):
                client = await self._desk.client(provider)
                await client.ask(question, heard, self._on_token)
        except TimeoutError:
            # With text it was at work: the time was too short, or the answer too long.
            message = f"{provider.name}: no whole answer in {self._request.deadline_s:g} s"
            return Ending(ModelFailed("timeout", message), fault=not heard.text if heard.text or patient else None)
        except ModelError as error:
            return Ending(error, fault=isinstance(error, ModelFailed))
        problem = heard.ending(provider.name)
        return Ending(problem, fault=problem is not None and heard.finish_reason is None)

    def _account(self, question: Question, heard: Heard, began: float, outcome: str) -> int:
        """Add what this round cost, count and log it; answers its tokens. Where the provider did not say how many there
        were, they are estimated from the texts."""
        served, metrics = self._served, self._desk.metrics
        inputs, outputs = heard.input_tokens, heard.output_tokens
        if inputs is None or outputs is None:
            worked = heard.begun or outcome in ("timeout", "cancelled")
            inputs, outputs = (question.input_estimate if worked else 0), tokens_of(heard.text + heard.refusal)
        cost = 0 if served.price is None else served.price.cost_micros(inputs, outputs)
        seconds = time.perf_counter() - began
        spent = Spent(
            input_tokens=inputs, output_tokens=outputs, cost_micros=cost, latency_ms=round(seconds * 1000), calls=1
        )
        self._spent = self._spent.plus(spent)
        metrics.model_call(served.provider.name, outcome, seconds)
        metrics.model_spent(self._request.purpose, served.label, tokens=(inputs, outputs), cost_micros=cost)
        log.info(
            "model_call",
            provider=served.provider.name,
            model=served.label,
            purpose=self._request.purpose,
            outcome=outcome,
            input_tokens=inputs,
            output_tokens=outputs,
            cost_micros=cost,
            latency_ms=spent.latency_ms,
        )
        return inputs + outputs
