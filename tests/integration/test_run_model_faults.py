"""What models and their providers do wrong, seen from a run: what is kept, what is tried again, what it counts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.openai_server import (
    Answer,
    Drop,
    OpenAIServer,
    Reply,
    Silence,
    broken,
    openai_server,
    overloaded,
    rate_limited,
)
from tests.support.runs import RunApp, add_agents, answering, run_app, said

STALL_S = 3  # longer than a busy machine stands still


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        server.always(answering())
        yield server


@pytest.fixture
async def app(database_url: str, provider: OpenAIServer) -> AsyncIterator[RunApp]:
    async with run_app(database_url, provider, model_stall_timeout_s=STALL_S) as made:
        await add_agents(made, "scout", timeoutS=20)
        yield made


GOOD = Answer(said("Fine"))
STORY = Answer("Once upon a time")
MISFIT = Answer({"summary": 7})


@pytest.mark.parametrize(
    "replies",
    [
        [STORY, STORY],
        [MISFIT, MISFIT],
        [STORY, Answer("")],
        [Answer(said("Long"), finish_reason="length")],
        [Answer(said("Half"), stop_after=2, stop="cut")],
        [Answer(said("Half"), stop_after=2, stop="end")],
        [Answer(said("Half"), stop_after=2, stop="garbage")],
        [Answer(said("Half"), stop_after=2, stop="hang")],
        [broken(500)],
        [broken(503)],
        [Drop()],
        [Silence()],
    ],
)
async def test_what_may_pass_is_tried_again_and_counts(
    app: RunApp, provider: OpenAIServer, replies: list[Reply]
) -> None:
    provider.script(*replies)
    run = await app.ended(await app.start(await app.project(), "single_agent", agentSlug="scout"))
    assert (run["status"], run["attempts"], len(provider.calls)) == ("completed", 2, len(replies) + 1)
    (step,) = run["steps"]
    assert (step["status"], step["attempts"], step["partialText"], step["errorKind"]) == ("completed", 2, None, None)
    job = await app.job(run["id"])
    assert [error["kind"] for error in job["errors"]] == ["error"]


@pytest.mark.parametrize(
    ("reply", "kind", "partial"),
    [
        (STORY, "bad_answer", True),
        (MISFIT, "bad_answer", True),
        (Answer(""), "bad_answer", False),
        (Answer(said("Long"), finish_reason="length"), "cut", True),
        (Answer(said("Half"), stop_after=2, stop="cut"), "cut", True),
        (Answer(said("Half"), stop_after=2, stop="end"), "cut", True),
        (Answer(said("Half"), stop_after=2, stop="garbage"), "cut", True),
        (Answer(said("Half"), stop_after=2, stop="hang"), "timeout", True),
        (broken(500), "unavailable", False),
        (Silence(), "timeout", False),
    ],
)
async def test_what_does_not_pass_is_kept_with_its_kind_and_cost(
    database_url: str, provider: OpenAIServer, reply: Reply, kind: str, partial: bool
) -> None:
    provider.always(reply)
    async with run_app(database_url, provider, model_stall_timeout_s=STALL_S, orchestration_attempts=1) as app:
        await add_agents(app, "scout", timeoutS=20)
        run = await app.ended(await app.start(await app.project(), "single_agent", agentSlug="scout"))
    (step,) = run["steps"]
    assert (run["status"], step["status"], step["errorKind"]) == ("failed", "failed", kind)
    assert run["error"] == f"scout: {step['error']}"
    assert bool(step["partialText"]) is partial
    assert step["output"] is None
    answered = isinstance(reply, Answer)
    assert (run["usage"]["inputTokens"] > 0) is (answered or kind == "timeout")
    assert run["usage"] == step["usage"]


@pytest.mark.parametrize("reply", [rate_limited("1"), rate_limited(), overloaded()])
async def test_a_provider_that_is_busy_is_waited_for(app: RunApp, provider: OpenAIServer, reply: Reply) -> None:
    provider.script(reply)
    run = await app.ended(await app.start(await app.project(), "single_agent", agentSlug="scout"), 25)
    assert (run["status"], run["attempts"], run["steps"][0]["attempts"]) == ("completed", 1, 1)
    assert len(provider.calls) == 2
    assert [error["kind"] for error in (await app.job(run["id"]))["errors"]] == ["snoozed"]


@pytest.mark.parametrize("where", ["project", "run"])
async def test_a_budget_is_not_spent_on_a_model_without_a_price(
    app: RunApp, provider: OpenAIServer, where: str
) -> None:
    await add_agents(app, "local", model="our-llama")
    bounded = await app.project(**({"monthlyBudgetCents": 100} if where == "project" else {}))
    of_run = {"budgetCents": 100} if where == "run" else {}
    run = await app.ended(await app.start(bounded, "single_agent", agentSlug="local", **of_run))
    (step,) = run["steps"]
    assert (run["status"], run["attempts"], step["errorKind"], provider.calls) == ("failed", 1, "unknown_model", [])
    assert "gateway models price our-llama --provider openai" in run["error"]

    free = await app.ended(await app.start(await app.project(), "single_agent", agentSlug="local"))
    assert (free["status"], free["usage"]["costCents"], len(provider.calls)) == ("completed", 0, 1)
    price = {"model": "our-llama", "provider": "openai", "inputMicros": 1_000_000, "outputMicros": 1_000_000}
    assert (await app.call("POST", "/api/v1/admin/models/prices", price, "admin")).status_code == 201
    paid = await app.ended(await app.start(bounded, "single_agent", agentSlug="local", **of_run))
    assert paid["status"] == "completed" and paid["usage"]["costCents"] > 0
