"""Models over a real provider's wire and a real ledger: answers, schemas, money, and each way in which a call fails."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.infra.metrics import Metrics
from gateway.llm import ModelsComponent, default_model
from gateway.llm.model import (
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelRefusedCall,
    spent_when_cancelled,
)
from tests.support.eventually import eventually
from tests.support.models import KEY, SCHEMA, ask, asking
from tests.support.openai_server import (
    Answer,
    Drop,
    Failure,
    OpenAIServer,
    Reply,
    Silence,
    bad_request,
    broken,
    context_too_long,
    openai_server,
    overloaded,
    unauthorized,
    unknown_model,
)
from tests.support.web import settings_for

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
GOOD = {"summary": "Fine", "priority": 3}
WAITS_FOR_A_LANE = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'model_lanes'::regclass"


@asynccontextmanager
async def world(pool: Pool, **settings: Any) -> AsyncIterator[tuple[OpenAIServer, ModelsComponent]]:
    async with (
        openai_server() as provider,
        asking(pool, **_given(provider, settings)) as models,
    ):
        yield provider, models


async def failure_of(models: ModelsComponent, **request: Any) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await models.complete(ask(**request))
    return raised.value


async def test_an_answer_streams_and_is_accounted_for(pool: Pool) -> None:
    async with world(pool) as (provider, models):
        provider.script(Answer("All is well here.", input_tokens=1200, output_tokens=300))
        pieces: list[str] = []
        answer = await models.complete(ask(), pieces.append)
    assert answer.text == "".join(pieces) == "All is well here."
    assert len(pieces) == 2
    assert (answer.provider, answer.model, answer.parsed, answer.demo) == ("openai", "gpt-5-mini", None, False)
    # 1,200 tokens at 0.25 dollars a million and 300 at 2 dollars.
    assert answer.spent.cost_micros == 300 + 600
    assert (answer.spent.input_tokens, answer.spent.output_tokens, answer.spent.calls) == (1200, 300, 1)
    (call,) = provider.calls
    assert call.key == KEY
    assert call.messages == [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "How are you?"},
    ]
    assert call.body["max_completion_tokens"] == 4096


async def test_a_schema_is_demanded_and_the_answer_read(pool: Pool) -> None:
    async with world(pool) as (provider, models):
        provider.script(Answer(f"```json\n{json.dumps(GOOD)}\n```"))
        answer = await models.complete(ask(schema=SCHEMA, schema_name="review"))
        assert answer.parsed == GOOD
        assert not answer.repaired
        form = provider.calls[0].body["response_format"]["json_schema"]
        assert (form["name"], form["schema"], form["strict"]) == ("review", SCHEMA, True)
        # An endpoint of one's own may ignore it: it is said in words too, in the one system message.
        assert [message["role"] for message in provider.calls[0].messages] == ["system", "user"]
        assert '"priority"' in provider.calls[0].messages[0]["content"]


async def test_one_round_repairs_what_does_not_fit(pool: Pool) -> None:
    metrics = Metrics()
    async with world(pool, metrics=metrics) as (provider, models):
        provider.script(Answer({"summary": "x", "priority": 99}), Answer(GOOD))
        answer = await models.complete(ask(schema=SCHEMA))
        assert (answer.parsed, answer.repaired, answer.spent.calls) == (GOOD, True, 2)
        assert answer.spent.input_tokens == 200
        again = provider.calls[1]
        assert again.messages[-2] == {"role": "assistant", "content": '{"summary": "x", "priority": 99}'}
        assert "priority: 99 is greater than the maximum of 10" in again.last_text
    assert _value(metrics, "gateway_model_misfits_total") == 1


@pytest.mark.parametrize("bad", ["Sorry, here you go!", {"priority": 1}, "[]"])
async def test_a_second_misfit_is_a_bad_answer_with_both_rounds_paid(pool: Pool, bad: Any) -> None:
    async with world(pool) as (provider, models):
        provider.always(Answer(bad))
        error = await failure_of(models, schema=SCHEMA)
    assert (type(error), error.kind, error.spent.calls) == (ModelFailed, "bad_answer", 2)
    assert (error.spent.input_tokens, error.spent.output_tokens) == (200, 40)
    assert error.spent.cost_micros > 0
    assert error.partial == Answer(bad).text


async def test_a_refusal_is_an_answer(pool: Pool) -> None:
    async with world(pool) as (provider, models):
        provider.script(Answer("", refusal="I will not do that."), Answer("", finish_reason="content_filter"))
        answer = await models.complete(ask(schema=SCHEMA))
        assert (answer.refusal, answer.parsed, answer.spent.calls) == ("I will not do that.", None, 1)
        filtered = await models.complete(ask(schema=SCHEMA))
        assert "content filter" in (filtered.refusal or "")


@pytest.mark.parametrize(
    ("reply", "kind", "partial"),
    [
        (Answer(""), "bad_answer", ""),
        (Answer("   \n "), "bad_answer", "   \n "),
        (Answer("Half of it", finish_reason="length"), "cut", "Half of it"),
        (Answer("a" * 60, stop_after=2, stop="cut"), "cut", "a" * 24),
        (Answer("a" * 60, stop_after=2, stop="end"), "cut", "a" * 24),
        (Answer("a" * 60, stop_after=2, stop="garbage"), "cut", "a" * 24),
        (Answer("a" * 60, stop_after=2, stop="hang"), "timeout", "a" * 24),
        (Answer("a" * 60, stop_after=0, stop="cut"), "unavailable", ""),
        (Answer("a" * 60, stop_after=0, stop="garbage"), "unavailable", ""),
        (Silence(), "timeout", ""),
        (Drop(), "unavailable", ""),
        (broken(500), "unavailable", ""),
        (broken(502), "unavailable", ""),
        (Failure(500, body=b"<html>no JSON</html>"), "unavailable", ""),
        (Failure(200, body=b"<html>Please log in</html>"), "unavailable", ""),
        (Failure(200, body=b'data: {"choices": 5}\n\n'), "unavailable", ""),
        (Failure(200, body=b"data: 5\n\n"), "unavailable", ""),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_may_work_next_time_fails(pool: Pool, reply: Reply, kind: str, partial: str) -> None:
    async with world(pool, model_stall_timeout_s=2 if kind == "timeout" else 60) as (provider, models):
        provider.script(reply)
        error = await failure_of(models)
        assert (type(error), error.kind, error.partial) == (ModelFailed, kind, partial), error
        assert len(provider.calls) == 1  # no retry behind our back
        if partial.strip():
            assert error.spent.output_tokens > 0
            assert error.spent.cost_micros > 0
        await eventually(lambda: provider.open_calls == 0)
        assert (await models.complete(ask())).text == "Fine."


async def test_nobody_listens(pool: Pool) -> None:
    async with asking(pool, openai_base_url="http://127.0.0.1:9/v1") as models:
        error = await failure_of(models)
    assert (type(error), error.kind) == (ModelFailed, "unavailable")
    assert error.spent.cost_micros == 0


async def test_the_deadline_ends_a_call_and_keeps_what_had_come(pool: Pool) -> None:
    async with world(pool) as (provider, models):
        provider.script(Answer("a" * 2400, gap_s=0.05))
        error = await failure_of(models, deadline_s=2)
        assert (type(error), error.kind) == (ModelFailed, "timeout")
        assert set(error.partial) == {"a"}
        assert error.spent.output_tokens == -(-len(error.partial) // 4)
        await eventually(lambda: provider.disconnects == 1)


async def test_the_deadline_is_for_both_rounds(pool: Pool) -> None:
    async with world(pool) as (provider, models):
        provider.script(Answer("no JSON", wait_s=0.3), Answer(GOOD, wait_s=5))
        error = await failure_of(models, deadline_s=2.5, schema=SCHEMA)
        assert (error.kind, error.spent.calls, len(provider.calls)) == ("timeout", 2, 2)
        assert error.spent.input_tokens > 100  # the first round's figure and the second's estimate


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (unauthorized(), "auth"),
        (Failure(403, "Country not supported"), "auth"),
        (Failure(400, "API key not valid. Please pass a valid API key.", None, "INVALID_ARGUMENT"), "auth"),
        (Failure(429, "You exceeded your current quota", "insufficient_quota", "insufficient_quota"), "auth"),
        (unknown_model(), "unknown_model"),
        (bad_request(), "bad_request"),
        (Failure(422, "Unprocessable"), "bad_request"),
        (context_too_long(), "context_length"),
        (
            Failure(400, "prompt is too long: 210000 tokens > 200000 maximum", None, "invalid_request_error"),
            "context_length",
        ),
        (Failure(413, "Request too large"), "context_length"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_never_works_is_refused_and_does_not_close_the_lane(pool: Pool, reply: Reply, kind: str) -> None:
    async with world(pool) as (provider, models):
        provider.script(*[reply] * 6)
        for _ in range(6):
            error = await failure_of(models)
            assert (type(error), error.kind) == (ModelRefusedCall, kind)
            assert KEY not in str(error)
        assert len(provider.calls) == 6
        assert (await models.complete(ask())).text == "Fine."


@pytest.mark.parametrize(
    "reply",
    [
        overloaded(),
        Failure(503, "The model is overloaded. Please try again later."),
        Failure(429, body=b"slow down"),
        Answer("a" * 60, stop_after=2, stop="error"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_too_much_is_busy(pool: Pool, reply: Reply) -> None:
    async with world(pool) as (provider, models):
        provider.script(reply)
        error = await failure_of(models)
        assert isinstance(error, ModelBusy)
        assert 4 < error.after_s <= 5


async def test_the_provider_is_chosen_by_the_model(pool: Pool) -> None:
    async with openai_server() as anthropic, openai_server() as google:
        settings = {
            "anthropic_api_key": "sk-ant-test",
            "anthropic_base_url": anthropic.url,
            "google_api_key": "google-test",
            "google_base_url": google.url.replace("/v1", "/v1beta/openai/"),
        }
        async with asking(pool, **settings) as models:
            claude = await models.complete(ask(model="claude-sonnet-4-5-20250929", schema=SCHEMA))
            gemini = await models.complete(ask(model="gemini-2.5-flash"))
            assert default_model(settings_for("postgresql://x", **settings)) == "claude-haiku-4-5"
        assert (claude.provider, gemini.provider) == ("anthropic", "google")
        assert claude.spent.cost_micros == (100 * 3_000_000 + 20 * 15_000_000) // 1_000_000
        (call,) = anthropic.calls
        assert (call.key, call.model, call.path) == (
            "sk-ant-test",
            "claude-sonnet-4-5-20250929",
            "/v1/chat/completions",
        )
        assert "JSON Schema" in call.messages[0]["content"]  # response_format is ignored there
        assert call.body["max_tokens"] == 4096
        assert google.calls[0].path == "/v1beta/openai/chat/completions"
        assert google.calls[0].key == "google-test"


async def test_without_a_key_nothing_is_asked(pool: Pool) -> None:
    async with asking(pool) as models:
        error = await failure_of(models)
        assert (type(error), error.kind) == (ModelRefusedCall, "not_configured")
        assert "OPENAI_API_KEY" in str(error)
        claude = await failure_of(models, model="claude-opus-4-5")
        assert "ANTHROPIC_API_KEY" in str(claude)


async def test_an_unknown_model_names_the_known_ones(pool: Pool) -> None:
    async with asking(pool, openai_api_key=KEY) as models:
        error = await failure_of(models, model="gtp-5-mini")
    assert (type(error), error.kind) == (ModelRefusedCall, "unknown_model")
    assert "gpt-5-mini" in str(error)


async def test_an_endpoint_of_one_s_own_serves_any_model_at_no_recorded_price(pool: Pool) -> None:
    metrics = Metrics()
    async with openai_server() as provider, asking(pool, metrics=metrics, openai_base_url=provider.url) as models:
        answer = await models.complete(ask(model="llama-4-scout:70b"))
        assert (answer.spent.cost_micros, answer.spent.input_tokens) == (0, 100)
        assert provider.calls[0].key == "none"
        assert provider.calls[0].body["max_tokens"] == 4096
    assert 'model="other"' in metrics.text().decode()
    assert "llama" not in metrics.text().decode()


async def test_the_newest_valid_price_counts(pool: Pool) -> None:
    insert = (
        "INSERT INTO model_prices (model, provider, input_micros, output_micros, valid_from) "
        "VALUES ('gpt-5-mini', 'openai', $1, $1, now() + $2 * interval '1 hour')"
    )
    await pool.execute(insert, 1_000_000, -1)
    await pool.execute(insert, 7_000_000, 1)
    async with world(pool) as (_, models):
        assert (await models.complete(ask())).spent.cost_micros == 120


async def test_where_nobody_counts_tokens_are_estimated(pool: Pool) -> None:
    async with world(pool) as (provider, models):
        provider.script(Answer("b" * 400, usage=False))
        answer = await models.complete(ask("a" * 4000))
    assert answer.spent.output_tokens == 100
    assert 1000 < answer.spent.input_tokens < 1050


async def test_cancelling_ends_the_call_and_tells_what_it_cost(pool: Pool) -> None:
    async with world(pool) as (provider, models):
        answer = Answer("a" * 480, stop_after=20, stop="wait")
        provider.script(answer)
        came: list[str] = []
        running = asyncio.create_task(models.complete(ask(), came.append))
        await eventually(lambda: len(came) == 20)
        running.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await running
        assert spent_when_cancelled(cancelled.value).output_tokens == 60
        await eventually(lambda: provider.disconnects == 1)


async def test_cancelled_between_two_rounds_the_first_is_told(pool: Pool) -> None:
    async with world(pool) as (provider, models):
        misfit = Answer("no JSON", stop_after=1, stop="wait")
        provider.script(misfit)
        running = asyncio.create_task(models.complete(ask(schema=SCHEMA)))
        await provider.called()
        async with pool.acquire() as other, other.transaction():
            await other.execute("LOCK TABLE model_lanes IN ACCESS EXCLUSIVE MODE")
            misfit.go.set()
            await eventually(lambda: provider.open_calls == 0)
            await eventually(lambda: pool.fetchval(WAITS_FOR_A_LANE))
            running.cancel()
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await running
        spent = spent_when_cancelled(cancelled.value)
        assert (spent.calls, spent.input_tokens) == (1, 100)


async def test_a_key_that_a_provider_repeats_is_not_told(pool: Pool) -> None:
    """Keys of servers of one's own look like anything."""
    key = "own/key 0815"
    async with world(pool, openai_api_key=key) as (provider, models):
        for status in (400, 404, 429, 500):
            provider.script(Failure(status, f"The credential {key} is not for this."))
            with pytest.raises(ModelError) as raised:
                await models.complete(ask())
            assert key not in str(raised.value)
            await pool.execute("UPDATE model_lanes SET paused_until = NULL, kind = NULL")


async def test_it_is_counted_by_agent_and_model(pool: Pool) -> None:
    metrics = Metrics()
    async with world(pool, metrics=metrics) as (provider, models):
        await models.complete(ask(purpose="researcher", model="gpt-5-mini-2025-08-07"))
        provider.script(broken())
        await failure_of(models)
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if sample.name.startswith(("gateway_model", "gateway_llm"))
    }
    of = (("agent", "researcher"), ("direction", "output"), ("model", "gpt-5-mini"))
    assert found["gateway_llm_tokens_total", *of] == 20
    assert found["gateway_llm_cost_cents_total", of[0], of[2]] == pytest.approx(65e-4)
    for outcome in ("answered", "unavailable"):
        assert found["gateway_model_calls_total", ("outcome", outcome), ("provider", "openai")] == 1
    assert found["gateway_model_call_duration_seconds_count", ("provider", "openai")] == 2


def test_agents_without_end_share_one_label() -> None:
    metrics = Metrics()
    for number in range(300):
        metrics.model_spent(f"agent-{number}", "gpt-5", tokens=(1, 1), cost_micros=1)
    text = metrics.text().decode()
    assert text.count("gateway_llm_cost_cents_total{") == 101
    assert 'agent="other"' in text


async def test_neither_prompts_nor_keys_are_logged(
    pool: Pool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with world(pool) as (provider, models):
        with caplog.at_level(logging.DEBUG):
            provider.script(Answer("no JSON SECRET-ANSWER"), unauthorized())
            with pytest.raises(ModelError):
                await models.complete(ask("SECRET-PROMPT", schema=SCHEMA))
    said = "".join(capsys.readouterr()) + caplog.text
    assert "model_call" in said
    assert "SECRET" not in said
    assert KEY not in said


def _given(provider: OpenAIServer, settings: dict[str, Any]) -> dict[str, Any]:
    return {"openai_api_key": KEY, "openai_base_url": provider.url} | settings


def _value(metrics: Metrics, name: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if sample.name == name
    )
