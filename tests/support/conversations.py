"""Conversations of the tests: who asks, what the model answers at each stage, and waiting for ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from gateway.realtime.channel import Channel, Topic
from gateway.runtime import Runtime
from tests.support.eventually import eventually
from tests.support.openai_server import Answer, Call, OpenAIServer, Reply
from tests.support.people import As, data, people
from tests.support.realtime import Ear
from tests.support.web import serving, settings_for

PROFILES = "chat,deep-research"
STAGES = ("plan", "literature_search", "analysis", "writing")


@dataclass(frozen=True)
class Room:
    """One gateway with both profiles, called in this process."""

    client: httpx.AsyncClient
    runtime: Runtime
    who: As

    async def ask(self, message: str = "Hello?", *, name: str = "ann", **fields: Any) -> dict[str, Any]:
        answer = await self.post("/api/chat", name, {"message": message, **fields})
        accepted: dict[str, Any] = data(answer, 202)
        return accepted

    async def research(self, message: str = "Why is the sky blue?", *, name: str = "ann", **fields: Any) -> Any:
        return data(await self.post("/api/deep-research/start", name, {"message": message, **fields}), 202)

    async def post(self, path: str, name: str = "ann", body: Any = None, **headers: str) -> httpx.Response:
        return await self.client.post(path, json=body, headers=self.who(name) | headers)

    async def get(self, path: str, name: str = "ann") -> httpx.Response:
        return await self.client.get(path, headers=self.who(name))

    async def message(self, accepted: dict[str, Any], name: str = "ann") -> dict[str, Any]:
        found: dict[str, Any] = data(await self.get(f"/api/messages/{accepted['messageId']}", name))
        return found

    async def ended(
        self, accepted: dict[str, Any], status: str = "completed", *, name: str = "ann", timeout: float = 15.0
    ) -> dict[str, Any]:
        """The message, once it has ended so."""

        async def check() -> dict[str, Any]:
            found = await self.message(accepted, name)
            assert found["status"] == status, found
            return found

        return await eventually(check, timeout)

    async def listen(self, accepted: dict[str, Any]) -> Ear:
        """To the conversation, from its beginning."""
        ear = Ear()
        await ear.join(self.runtime.realtime, Channel(Topic.CONVERSATION, accepted["conversationId"]), 0)
        return ear


@asynccontextmanager
async def conversing(
    database_url: str, provider: OpenAIServer | None, *, demo: bool = False, **settings: Any
) -> AsyncIterator[Room]:
    """``settings`` by field name; limits for each user are out of the way."""
    own = {"openai_api_key": "sk-test", "openai_base_url": provider.url} if provider is not None else {}
    given = {
        "gateway_profiles": PROFILES,
        "chat_rate_limit_per_minute": 0,
        "deep_research_rate_limit_per_5min": 0,
        "lock_duration_ms": 9000,  # longer than a busy machine stands still
        "stalled_interval_ms": 1000,
        "model_default": "gpt-5-mini",
        **own,
        **settings,
    }
    async with serving(settings_for(database_url, **given), demo=demo) as (client, runtime):
        yield Room(client, runtime, people(runtime))


def stage_of(call: Call) -> str:
    """Which iteration of a research asks."""
    return next(stage for stage in STAGES if f"Step: {stage}" in call.text)


def researcher(questions: int = 2, further: int = 0) -> Any:
    """For ``OpenAIServer.always``: a model that does research. Each answer takes 100 tokens in and 20 out."""

    def answer(call: Call) -> Reply:
        match stage_of(call):
            case "plan":
                return Answer({"approach": "Think.", "questions": [f"Question {n}?" for n in range(1, questions + 1)]})
            case "literature_search":
                finding = {"claim": "It scatters.", "basis": "model_knowledge", "confidence": "high"}
                return Answer({"queries": ["rayleigh scattering"], "findings": [finding], "gaps": []})
            case "analysis":
                more = [] if "conclusions" in call.last_text else [f"Further {n}?" for n in range(1, further + 1)]
                return Answer({"conclusions": ["Scattering."], "conflicts": [], "furtherQuestions": more})
            case _:
                return Answer("# Report\n\nBecause light scatters.")

    return answer
