"""Answers without a model, for ``gateway dev`` without a key: they fit what is asked, and say what they are."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec
import structlog

from gateway.infra.metrics import Metrics
from gateway.llm.example import example_of
from gateway.llm.model import ModelAnswer, ModelFailed, ModelRequest, OnToken, Spent

log = structlog.get_logger(__name__)

LABEL: Final = "Demonstration, no model was asked"
PROVIDER: Final = "demo"
_GAP_S: Final = 0.02  # between two words: slow enough to be seen, fast enough for a demonstration
_LONGEST_S: Final = 3.0
_PLAIN: Final = "Set OPENAI_API_KEY, ANTHROPIC_API_KEY or GOOGLE_API_KEY, and a model answers here."


class DemoModels:
    """``Models`` that asks nobody. A component, for symmetry."""

    name = "models"

    def __init__(self, metrics: Metrics, gap_s: float = _GAP_S) -> None:
        self._metrics = metrics
        self._gap_s = gap_s

    async def start(self) -> None:
        log.warning("models_are_a_demonstration", reason="no key of a model provider is set")

    async def stop(self) -> None:
        return

    async def complete(self, request: ModelRequest, on_token: OnToken | None = None) -> ModelAnswer:
        began = time.perf_counter()
        parsed: dict[str, Any] | None = None
        text = f"{LABEL}. {_PLAIN}"
        if request.schema is not None:
            parsed = example_of(request.schema, LABEL)
            text = f"{LABEL}.\n{msgspec.json.format(msgspec.json.encode(parsed), indent=2).decode()}"
        try:
            async with asyncio.timeout(request.deadline_s):
                await self._say(text, on_token)
        except TimeoutError as error:
            message = f"{PROVIDER}: no whole answer in {request.deadline_s:g} s"
            raise ModelFailed("timeout", message) from error
        seconds = time.perf_counter() - began
        self._metrics.model_call(PROVIDER, "answered", seconds)
        log.info(
            "model_call", provider=PROVIDER, model=PROVIDER, purpose=request.purpose, outcome="answered", demo=True
        )
        return ModelAnswer(
            text=text,
            model=request.model,
            provider=PROVIDER,
            spent=Spent(latency_ms=round(seconds * 1000)),
            parsed=parsed,
            demo=True,
        )

    async def _say(self, text: str, on_token: OnToken | None) -> None:
        words = text.split(" ")
        gap_s = min(self._gap_s, _LONGEST_S / len(words))
        for number, word in enumerate(words):
            if number:
                await asyncio.sleep(gap_s)
            if on_token is not None:
                on_token(word if number == 0 else f" {word}")
