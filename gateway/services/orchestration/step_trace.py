"""Steps in a trace: below the attempt of their run's job, above the calls of models and of GitHub.

Source: OpenTelemetry's semantic conventions for generative AI, spans of agents.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final
from uuid import UUID

from gateway.infra.tracing import Attributes, Span, span
from gateway.llm.model import Spent
from gateway.llm.telling import convention_name
from gateway.services.orchestration.plan import Step, StepStatus
from gateway.services.orchestration.runs import StepEnd

_ANALYSIS: Final = "analyse repository"


def step_span(run_id: UUID, step: Step) -> AbstractContextManager[Span]:
    facts: Attributes = {
        "gateway.run.id": str(run_id),
        "gateway.step.id": str(step.id),
        "gateway.step.position": step.position,
    }
    if step.agent_slug is None:
        return span(_ANALYSIS, "internal", facts)
    agent: Attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": step.agent_slug}
    return span(f"invoke_agent {step.agent_slug}", "internal", {**facts, **agent})


def note_end(traced: Span, end: StepEnd, spent: Spent) -> None:
    """How it ended, and what all its calls took together. A step that is to be tried again has not failed."""
    traced.note({"gateway.step.status": str(end.status), "gateway.demo": end.demo})
    if end.provider is not None:
        traced.note({"gen_ai.provider.name": convention_name(end.provider)})
    if spent.calls:
        tokens = {"gen_ai.usage.input_tokens": spent.input_tokens, "gen_ai.usage.output_tokens": spent.output_tokens}
        traced.note({**tokens, "gateway.model_calls": spent.calls, "gateway.cost_micros": spent.cost_micros})
    if end.status is StepStatus.FAILED:
        traced.fail(end.error_kind or "failed")
