"""What is asked of a language model, and what it answers. Pure: no I/O, no provider's words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

import msgspec


class Speaker(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Message(msgspec.Struct, frozen=True):
    speaker: Speaker
    text: str


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``model`` is a name of the price table, e.g. "gpt-5-mini" or "claude-sonnet-4-5"; it decides the provider.

    ``schema``: a JSON Schema that the answer must fit (an object); None: free text. ``deadline_s``: seconds left for
    all rounds together. ``purpose`` stands in logs and metrics: bounded words such as an agent's slug.
    ``budgeted``: what it costs must be known, since somebody set a bound to it; a model without a price is refused.
    """

    model: str
    messages: tuple[Message, ...]
    deadline_s: float
    purpose: str
    schema: dict[str, Any] | None = None
    schema_name: str = "answer"
    max_output_tokens: int = 4096
    budgeted: bool = False


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What calls cost so far: of failed and repaired rounds too. ``cost_micros`` is millionths of a US dollar."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    latency_ms: int = 0
    calls: int = 0

    def plus(self, other: Spent) -> Spent:
        return Spent(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_micros=self.cost_micros + other.cost_micros,
            latency_ms=self.latency_ms + other.latency_ms,
            calls=self.calls + other.calls,
        )


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``parsed`` is the object that fits the schema; None without one, and when the model refused (``refusal`` says how
    it put it). ``repaired``: it took the second round. ``demo``: no model answered, the labelled demonstration did."""

    text: str
    model: str
    provider: str
    spent: Spent
    parsed: dict[str, Any] | None = None
    refusal: str | None = None
    repaired: bool = False
    demo: bool = False


class ModelError(Exception):
    """A call that brought no answer. ``kind`` is a bounded word: unavailable, rate_limited, timeout, auth, bad_request,
    context_length, bad_answer, cut, not_configured, unknown_model. ``spent`` is what it cost all the same, ``partial``
    the text that had come in the last round."""

    def __init__(self, kind: str, message: str, *, spent: Spent | None = None, partial: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.spent = spent or Spent()
        self.partial = partial


class ModelBusy(ModelError):
    """Again in ``after_s``: the provider's lane rests (429, 529) or the model's limit is used up. Costs no attempt."""

    def __init__(
        self, kind: str, message: str, *, after_s: float, spent: Spent | None = None, partial: str = ""
    ) -> None:
        super().__init__(kind, message, spent=spent, partial=partial)
        self.after_s = after_s


class ModelFailed(ModelError):
    """It may work next time (5xx, time-out, a stream that broke, an answer that did not fit twice)."""


class ModelRefusedCall(ModelError):
    """It never will without a change: key, model name, request, context length, not configured."""


OnToken = Callable[[str], None]
"""Gets each piece of text as it comes. Must not block."""


class Models(Protocol):
    async def complete(self, request: ModelRequest, on_token: OnToken | None = None) -> ModelAnswer:
        """One answer, of at most two rounds (the second to repair what did not fit the schema).

        Raises ``ModelBusy``, ``ModelFailed`` or ``ModelRefusedCall``; nothing else about the provider. Cancelled, it
        ends the call; what that cost is told by ``spent_when_cancelled``.
        """
        ...


def note_spent(cancelled: asyncio.CancelledError, spent: Spent) -> None:
    """For adapters: let the caller know what a cancelled call cost. A subclass of CancelledError would not be taken for
    a cancellation by ``asyncio.timeout``."""
    vars(cancelled)["model_spent"] = spent


def spent_when_cancelled(cancelled: asyncio.CancelledError) -> Spent:
    """What the call cost that this cancellation ended; nothing if none was under way."""
    found = vars(cancelled).get("model_spent")
    return found if isinstance(found, Spent) else Spent()
