"""What a trace says of a call of a model: figures and names, and nothing that was asked or answered.

Source: OpenTelemetry's semantic conventions for generative AI, client spans.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from gateway.infra.tracing import Attributes
from gateway.llm.exchange import Heard, Question
from gateway.llm.providers import GOOGLE, Provider

_NAMES: Final = {GOOGLE: "gcp.gemini"}  # as the conventions call it; the others are called as we do
_NAME_MAX: Final = 128  # characters
_PORTS: Final = {"https": 443, "http": 80}


def convention_name(provider: str) -> str:
    """For ``gen_ai.provider.name``."""
    return _NAMES.get(provider, provider)


def of_question(provider: Provider, question: Question) -> Attributes:
    address = urlsplit(provider.base_url)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": convention_name(provider.name),
        "gen_ai.request.model": question.model,
        "gen_ai.request.max_tokens": question.max_output_tokens,
        "gen_ai.request.stream": True,
        "gen_ai.output.type": "text" if question.schema is None else "json",
        "server.address": address.hostname or "",
        "server.port": address.port or _PORTS.get(address.scheme, 0),
    }


def of_answer(heard: Heard) -> Attributes:
    """As far as there is one. Tokens are told only where the provider counted them."""
    ended = _short(heard.finish_reason or None)
    tokens = {"input": heard.input_tokens, "output": heard.output_tokens}
    facts: dict[str, str | int | list[str] | None] = {
        "gen_ai.response.id": _short(heard.answer_id),
        "gen_ai.response.model": _short(heard.model),
        "gen_ai.response.finish_reasons": None if ended is None else [ended],
        **{f"gen_ai.usage.{name}_tokens": number for name, number in tokens.items()},
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _short(name: object) -> str | None:
    """Servers say what they like. Half a surrogate pair is nothing that can be sent."""
    return None if name is None else str(name)[:_NAME_MAX].encode("utf-8", "replace").decode("utf-8")
