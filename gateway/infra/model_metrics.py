"""What Prometheus reads of calls to language models (M14). Labels are bounded: agents beyond a number are "other"."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

_AGENTS_MAX: Final = 100
_OTHER: Final = "other"
_MICROS_PER_CENT: Final = 10_000
_SECONDS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class ModelMetrics:
    """Counters of one process."""

    def __init__(self, into: CollectorRegistry) -> None:
        self._calls = Counter(
            "gateway_model_calls", "Calls of model providers, by outcome.", ["provider", "outcome"], registry=into
        )
        self._duration = Histogram(
            "gateway_model_call_duration_seconds",
            "Time from a call to the end of its answer.",
            ["provider"],
            buckets=_SECONDS,
            registry=into,
        )
        self._tokens = Counter(
            "gateway_llm_tokens",
            "Tokens, by direction (input, output).",
            ["agent", "model", "direction"],
            registry=into,
        )
        self._cost = Counter(
            "gateway_llm_cost_cents", "What the tokens cost, in US cents.", ["agent", "model"], registry=into
        )
        self._misfits = Counter(
            "gateway_model_misfits", "Answers that did not fit their schema.", ["agent", "model"], registry=into
        )
        self._agents: set[str] = set()

    def call(self, provider: str, outcome: str, seconds: float | None = None) -> None:
        """``seconds`` None: no call was made, or it has been measured already."""
        self._calls.labels(provider, outcome).inc()
        if seconds is not None:
            self._duration.labels(provider).observe(seconds)

    def spent(self, agent: str, model: str, *, tokens: tuple[int, int], cost_micros: int) -> None:
        """``tokens``: in and out."""
        agent = self._bounded(agent)
        for direction, number in zip(("input", "output"), tokens, strict=True):
            self._tokens.labels(agent, model, direction).inc(number)
        self._cost.labels(agent, model).inc(cost_micros / _MICROS_PER_CENT)

    def misfit(self, agent: str, model: str) -> None:
        self._misfits.labels(self._bounded(agent), model).inc()

    def _bounded(self, agent: str) -> str:
        if agent not in self._agents:
            if len(self._agents) >= _AGENTS_MAX:
                return _OTHER
            self._agents.add(agent)
        return agent
