"""Runs of agents and calls of models in a trace, sent to a real collector: figures and names, never what was said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from gateway.infra.otel import Tracing
from gateway.infra.tracing import span
from gateway.llm.exchange import Heard
from gateway.llm.model import ModelBusy, ModelError
from gateway.llm.telling import of_answer
from tests.support.eventually import eventually
from tests.support.models import KEY, SCHEMA, ask, asking
from tests.support.openai_server import (
    Answer,
    Call,
    OpenAIServer,
    Reply,
    context_too_long,
    openai_server,
    rate_limited,
    unauthorized,
)
from tests.support.otlp_collector import Collector, Seen, otlp_collector
from tests.support.runs import RUNS, add_agents, agent_of, run_app, said

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
SECRETS = ("Fine", "SECRET", "sk-test", "ada@example.com")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with otlp_collector() as made:
        yield made


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as made:
        yield made


def one(found: list[Seen]) -> Seen:
    [only] = found
    return only


async def test_run_step_and_model_calls_are_one_trace(
    database_url: str, provider: OpenAIServer, collector: Collector
) -> None:
    """Two agents: the first needs a second round, the second is refused by its provider."""

    def reply(call: Call) -> Reply:
        if agent_of(call) == "reviewer":
            return unauthorized()
        if "Answer again" in call.last_text:
            return Answer(said("Fine SECRET"), input_tokens=200, output_tokens=30)
        return Answer("no JSON at all, SECRET", input_tokens=90, output_tokens=10)

    provider.always(reply)
    endpoint = {"otel_exporter_otlp_endpoint": collector.url}
    async with run_app(database_url, provider, **endpoint) as app:
        await add_agents(app, "writer", "reviewer", model="gpt-5-mini")
        project = await app.project(agents=("writer", "reviewer"))
        body = {"projectId": project, "jobType": "batch", "context": {"request": "SECRET for ada@example.com"}}
        answer = await app.call("POST", RUNS, body, headers={"traceparent": CALLER})
        assert answer.status_code == 202, answer.text
        run = answer.json()["data"]["jobId"]
        shown = await app.ended(run)
    await eventually(lambda: len([each for each in collector.spans if each.trace == TRACE]) >= 7, 15)
    own = [each for each in collector.spans if each.trace == TRACE]

    def named(name: str) -> list[Seen]:
        return [each for each in own if each.name == name]

    request, attempt = one(named(f"POST {RUNS}")), one(named("process orchestration-queue"))
    writer, reviewer = one(named("invoke_agent writer")), one(named("invoke_agent reviewer"))
    assert [each.parent for each in (request, attempt, writer, reviewer)] == [
        "00f067aa0ba902b7",
        request.id,
        attempt.id,
        attempt.id,
    ]
    calls = named("chat gpt-5-mini")
    assert sorted(each.parent for each in calls) == sorted([writer.id, writer.id, reviewer.id])
    assert [each.kind for each in (request, attempt, writer, *calls)] == [
        "SERVER",
        "CONSUMER",
        "INTERNAL",
        *["CLIENT"] * 3,
    ]

    assert attempt.facts["messaging.message.id"] == run == writer.facts["gateway.run.id"]
    steps = {step["agentSlug"]: step for step in shown["steps"]}
    assert {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "writer",
        "gen_ai.provider.name": "openai",
        "gateway.step.id": steps["writer"]["id"],
        "gateway.step.status": "completed",
        "gen_ai.usage.input_tokens": 290,
        "gen_ai.usage.output_tokens": 40,
        "gateway.model_calls": 2,
    }.items() <= writer.facts.items()
    assert writer.facts["gateway.cost_micros"] > 0
    assert (reviewer.failed, reviewer.facts["error.type"], reviewer.facts["gateway.step.status"]) == (
        True,
        "auth",
        "failed",
    )
    assert not (attempt.failed or writer.failed), "a batch goes on with the others"
    assert not [secret for secret in SECRETS if secret in str(collector.spans)]


async def test_a_call_says_who_answered_what_it_took_and_why_it_failed(
    pool: asyncpg.Pool[asyncpg.Record], provider: OpenAIServer, collector: Collector
) -> None:
    tracing = Tracing(collector.url, "here")
    await tracing.start()
    settings = {"openai_api_key": KEY, "openai_base_url": provider.url}
    settings |= {"google_api_key": KEY, "google_base_url": provider.url}
    try:
        async with asking(pool, **settings) as models:
            request: dict[str, Any] = {"schema": SCHEMA, "max_output_tokens": 321}
            provider.script(Answer({"summary": "Fine", "priority": 3}, input_tokens=7, output_tokens=9))
            await models.complete(ask("SECRET", **request))
            provider.script(Answer("Fine SECRET", usage=False, finish_reason="length"))
            provider.script(unauthorized(), context_too_long(), rate_limited("60"))
            for model in ("gpt-5-mini-2025-08-07", "my-own-model", "gpt-5-mini", "gemini-2.5-flash"):
                with pytest.raises(ModelError):
                    await models.complete(ask("SECRET", model=model))
            with pytest.raises(ModelBusy), span("the work", "internal", {}):
                await models.complete(ask("SECRET", model="gemini-2.5-flash"))
            provider.script(Answer("Fine", stop_after=0, stop="hang"))
            going = asyncio.create_task(models.complete(ask("SECRET")))
            await provider.called(6)
            going.cancel()
            with suppress(asyncio.CancelledError):
                await going
    finally:
        await tracing.stop()
    await eventually(lambda: len(collector.spans) == 7, 15, "not all spans arrived")
    answered, cut, refused, _, limited, _, _ = collector.spans
    assert answered.facts | {"gen_ai.response.id": "", "gen_ai.response.model": ""} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.request.max_tokens": 321,
        "gen_ai.request.stream": True,
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "",
        "gen_ai.response.model": "",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 9,
        "server.address": "127.0.0.1",
        "server.port": provider.port,
        "gateway.purpose": "general",
    }
    assert not answered.failed and answered.kind == "CLIENT"
    assert [each.name for each in collector.spans] == [
        "chat gpt-5-mini",
        "chat gpt-5-mini",
        "chat other",
        "chat gpt-5-mini",
        "chat gemini-2.5-flash",
        "the work",
        "chat gpt-5-mini",
    ]
    assert cut.facts["gen_ai.request.model"] == "gpt-5-mini-2025-08-07"
    assert (cut.facts["gen_ai.response.finish_reasons"], cut.facts["gen_ai.output.type"]) == (["length"], "text")
    assert "gen_ai.usage.input_tokens" not in cut.facts, "what nobody counted is not made up"
    assert (refused.facts["gen_ai.request.model"], limited.facts["gen_ai.provider.name"]) == (
        "my-own-model",
        "gcp.gemini",
    )
    reasons = [each.facts.get("error.type") for each in collector.spans]
    assert reasons == [None, "cut", "auth", "context_length", "rate_limited", "ModelBusy", "CancelledError"]
    assert [each.failed for each in collector.spans] == [reason is not None for reason in reasons]
    assert not [secret for secret in SECRETS if secret in str(collector.spans)]


def test_what_a_server_says_of_its_answer_is_short_text_that_can_be_sent() -> None:
    heard = Heard()
    heard.model, heard.finish_reason = "model \ud800", "the whole answer once more " * 100
    told = of_answer(heard)
    assert told["gen_ai.response.finish_reasons"] == [heard.finish_reason[:128]]
    assert told["gen_ai.response.model"] == "model ?"
