"""Runs of agents, from the request to the result, over both brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.openai_server import Answer, OpenAIServer, broken, openai_server
from tests.support.runs import RunApp, add_agents, answering, point, run_app, said


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        yield server


@pytest.fixture(params=["queue", "direct"])
async def app(request: pytest.FixtureRequest, database_url: str, provider: OpenAIServer) -> AsyncIterator[RunApp]:
    redis_url = request.getfixturevalue("redis_url") if request.param == "queue" else None
    async with run_app(database_url, provider, redis_url) as made:
        await add_agents(made, "scout", "writer", "critic")
        yield made


async def test_a_batch_runs_all_agents_of_the_project_once(app: RunApp, provider: OpenAIServer) -> None:
    provider.always(
        answering(
            scout=Answer(said("Looked", suggestions=[point("Cache it"), point("Index it")])),
            writer=Answer(said("Wrote", tasks=[point("Release notes")])),
        )
    )
    project = await app.project(agents=("scout", "writer", "critic"))
    run = await app.ended(await app.start(project))

    assert (run["status"], run["state"]) == ("completed", "completed")
    result = run["result"]
    assert result.pop("durationMs") >= 0
    assert result == {
        "success": True,
        "jobId": run["jobId"],
        "agentsExecuted": 3,
        "agentsSucceeded": 3,
        "agentsFailed": 0,
        "tasksCreated": 1,
        "suggestionsCreated": 2,
    }
    assert [(step["agentSlug"], step["status"]) for step in run["steps"]] == [
        ("critic", "completed"),
        ("scout", "completed"),
        ("writer", "completed"),
    ]
    assert app.agents_called() == ["critic", "scout", "writer"]
    assert (run["usage"]["inputTokens"], run["usage"]["outputTokens"]) == (300, 60)
    assert run["usage"]["costCents"] > 0
    assert all(len(step["promptSha256"]) == 64 and step["model"] and step["startedAt"] for step in run["steps"])


async def test_a_step_that_fails_is_tried_again_and_the_others_are_not(app: RunApp, provider: OpenAIServer) -> None:
    provider.script(Answer(said("Fine")), broken(500), Answer(said("Fine")))
    project = await app.project(agents=("scout", "writer", "critic"))
    run = await app.ended(await app.start(project))
    assert run["status"] == "completed"
    assert app.agents_called() == ["critic", "scout", "writer", "scout"]
    assert [step["attempts"] for step in run["steps"]] == [1, 2, 1]
    assert run["attempts"] == 2
