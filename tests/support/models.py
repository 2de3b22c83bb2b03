"""Asking models over a real ledger and a provider of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from gateway.infra.metrics import Metrics
from gateway.llm import ModelsComponent, open_models
from gateway.llm.model import Message, ModelRequest, Speaker
from tests.support.web import settings_for

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "priority": {"type": "integer", "minimum": 1, "maximum": 10}},
    "required": ["summary", "priority"],
    "additionalProperties": False,
}
KEY = "sk-test-5f3a9c1e7b2d4860"


def ask(text: str = "How are you?", **others: Any) -> ModelRequest:
    """A request of agent "general" to gpt-5-mini."""
    given = {
        "model": "gpt-5-mini",
        "messages": (Message(Speaker.SYSTEM, "You are brief."), Message(Speaker.USER, text)),
        "deadline_s": 10.0,
        "purpose": "general",
    }
    return ModelRequest(**(given | others))


@asynccontextmanager
async def asking(
    pool: asyncpg.Pool[asyncpg.Record], *, metrics: Metrics | None = None, demo: bool = False, **settings: Any
) -> AsyncIterator[ModelsComponent]:
    """One replica's ``Models``; ``settings`` by field name."""
    models = open_models(settings_for("postgresql://not-used", **settings), pool, metrics or Metrics(), demo=demo)
    await models.start()
    try:
        yield models
    finally:
        await models.stop()
