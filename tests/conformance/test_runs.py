"""Runs of agents, from the request to the result, over both brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.services.orchestration.queue_service import OrchestrationQueueService
from gateway.services.orchestration.schemas import JobType, OrchestrationJobData, TriggerSource
from gateway.services.orchestration.starting import Runs
from tests.support.openai_server import (
    Answer,
    Failure,
    OpenAIServer,
    bad_request,
    broken,
    context_too_long,
    openai_server,
    rate_limited,
    unauthorized,
)
from tests.support.people import data, refused
from tests.support.runs import RUNS, TRIGGER, RunApp, add_agents, answering, point, run_app, said, services


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


async def test_a_batch_of_which_every_agent_failed_is_failed(app: RunApp, provider: OpenAIServer) -> None:
    provider.always(Answer("I would rather tell a story."))
    project = await app.project(agents=("scout", "writer"))
    run = await app.ended(await app.start(project))
    assert (run["status"], run["state"], run["result"]["success"]) == ("failed", "failed", False)
    assert (run["result"]["agentsFailed"], run["result"]["agentsSucceeded"]) == (2, 0)
    assert "2 of 2 steps failed: scout: " in run["error"]
    assert [step["attempts"] for step in run["steps"]] == [3, 3]
    assert len(provider.calls) == 12, "three attempts of each, with one repair round in each"


async def test_one_agent_that_never_works_does_not_fail_the_others(app: RunApp, provider: OpenAIServer) -> None:
    provider.always(answering(scout=broken(500)))
    project = await app.project(agents=("scout", "writer"))
    run = await app.ended(await app.start(project))
    result = run["result"]
    assert (run["status"], result["success"], result["agentsSucceeded"], result["agentsFailed"]) == (
        *("completed", True, 1, 1),
    )
    assert "scout: " in result["error"]
    assert app.agents_called().count("writer") == 1


async def test_a_lane_that_rests_costs_no_attempt(app: RunApp, provider: OpenAIServer) -> None:
    provider.script(rate_limited("1"))
    project = await app.project(agents=("scout", "writer"))
    run = await app.ended(await app.start(project))
    assert (run["status"], run["attempts"]) == ("completed", 1)
    assert [step["attempts"] for step in run["steps"]] == [1, 1]
    assert app.agents_called() == ["scout", "scout", "writer"], "the resting lane is not asked again before its time"
    queue = data(await app.call("GET", "/api/v1/admin/queues", user="admin"))
    assert not any(one["paused"] for one in queue)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(unauthorized(), "auth"), (bad_request(), "bad_request"), (context_too_long(), "context_length")],
)
async def test_what_never_works_is_asked_once(app: RunApp, provider: OpenAIServer, reply: Failure, kind: str) -> None:
    provider.always(reply)
    project = await app.project()
    run = await app.ended(await app.start(project, "single_agent", agentSlug="scout"))
    assert (run["status"], run["attempts"], len(provider.calls)) == ("failed", 1, 1)
    (step,) = run["steps"]
    assert (step["status"], step["errorKind"]) == ("failed", kind)


async def test_a_refusal_is_kept_and_not_argued_with(app: RunApp, provider: OpenAIServer) -> None:
    provider.always(Answer("", refusal="I will not write that."))
    run = await app.ended(await app.start(await app.project(), "single_agent", agentSlug="scout"))
    (step,) = run["steps"]
    assert (run["status"], step["status"], step["refusal"]) == ("failed", "refused", "I will not write that.")
    assert len(provider.calls) == 1
    assert run["result"]["agentsFailed"] == 1


async def test_a_running_run_is_cancelled_and_what_came_is_kept(app: RunApp, provider: OpenAIServer) -> None:
    answer = Answer(said("A long story"), piece=5, stop_after=3, stop="hang")
    provider.always(answering(scout=answer))
    run_id = await app.start(await app.project(agents=("scout", "writer")))
    await provider.called()
    await app.has_step(run_id, 0, "running")
    asked = data(await app.call("POST", f"{RUNS}/{run_id}/cancel", {"reason": "enough"}), 202)
    assert asked["status"] in ("running", "cancelled")
    run = await app.ended(run_id)
    assert (run["status"], run["error"]) == ("cancelled", "enough")
    assert [step["status"] for step in run["steps"]] == ["cancelled", "cancelled"]
    assert run["steps"][0]["partialText"] == answer.text[:15]
    assert run["usage"]["inputTokens"] > 0, "what the cut call cost is counted"
    assert app.agents_called() == ["scout"]
    again = await app.call("POST", f"{RUNS}/{run_id}/cancel")
    assert again.status_code == 202, "cancelling twice is no mistake"


async def test_a_retry_takes_over_what_was_done(app: RunApp, provider: OpenAIServer) -> None:
    provider.always(answering(scout=unauthorized(), writer=Answer(said("Wrote", suggestions=[point("One")]))))
    project = await app.project(agents=("scout", "writer", "critic"))
    first = await app.ended(await app.start(project, context={"why": "release"}, dryRun=False))
    assert first["result"]["agentsFailed"] == 1
    provider.calls.clear()
    provider.always(answering())
    run = await app.ended(data(await app.call("POST", f"{RUNS}/{first['id']}/retry"), 202)["jobId"])
    assert (run["jobType"], run["retryOf"], run["status"]) == ("retry", first["id"], "completed")
    assert run["context"] == {"why": "release"}
    assert app.agents_called() == ["scout"], "the others are not paid twice"
    assert (run["result"]["agentsSucceeded"], run["result"]["suggestionsCreated"]) == (3, 0)
    taken = {step["agentSlug"]: step["takenFrom"] for step in run["steps"]}
    assert taken == {"critic": first["steps"][0]["id"], "scout": None, "writer": first["steps"][2]["id"]}
    assert run["steps"][2]["output"]["summary"] == "Wrote"
    assert run["usage"]["inputTokens"] == 100
    refused(await app.call("POST", f"{RUNS}/{run['id']}/retry"), 409, "nothing_to_retry")


async def test_a_retry_by_type_repeats_the_newest_failure(app: RunApp, provider: OpenAIServer) -> None:
    project = await app.project()
    refused(await app.call("POST", RUNS, {"projectId": project, "jobType": "retry"}), 422, "validation_error")
    provider.script(unauthorized())
    first = await app.ended(await app.start(project, "single_agent", agentSlug="scout"))
    run = await app.ended(await app.start(project, "retry"))
    assert (run["status"], run["retryOf"], run["agentSlug"]) == ("completed", first["id"], "scout")


async def test_what_a_retry_did_is_not_paid_again(app: RunApp, provider: OpenAIServer) -> None:
    """Whichever way one asks for it: by name, by type, or for all that failed (T26)."""
    provider.always(unauthorized())
    project = await app.project(agents=("scout", "writer"))
    first = await app.ended(await app.start(project))
    assert first["status"] == "failed"
    provider.always(answering(writer=unauthorized(), scout=Answer(said("Looked", suggestions=[point("One")]))))
    half = await app.ended(await app.start(project, "retry"))
    assert (half["status"], half["result"]["agentsFailed"]) == ("completed", 1)

    provider.calls.clear()
    provider.always(answering())
    refused(await app.call("POST", RUNS, {"projectId": project, "jobType": "retry"}), 422, "validation_error")
    again = await app.ended(data(await app.call("POST", f"{RUNS}/{first['id']}/retry"), 202)["jobId"])
    assert app.agents_called() == ["writer"], "scout was done by the retry before"
    assert again["steps"][0]["takenFrom"] == half["steps"][0]["id"]

    refused(await app.call("POST", f"{RUNS}/{half['id']}/retry"), 409, "nothing_to_retry")
    refused(await app.call("POST", f"{RUNS}/{first['id']}/retry"), 409, "nothing_to_retry")
    queue = OrchestrationQueueService(app.runtime.engine, Runs(app.runtime.platform, *services(app)))
    assert await queue.retry_all_failed() == 1
    last = await app.has_status(first["id"], "completed")
    assert (last["result"]["agentsSucceeded"], last["usage"]["inputTokens"]) == (2, 0)
    assert app.agents_called() == ["writer"]
    assert await app.pool.fetchval("SELECT count(*) FROM suggestions") == 1


async def test_a_dry_retry_does_nothing_for_a_real_one(app: RunApp, provider: OpenAIServer) -> None:
    provider.always(unauthorized())
    project = await app.project()
    first = await app.ended(await app.start(project, "single_agent", agentSlug="scout"))
    provider.always(answering(scout=Answer(said("Looked", suggestions=[point("One")]))))
    named = {"runId": first["id"]}
    dry = await app.ended(await app.start(project, "retry", dryRun=True, context=named))
    real = await app.ended(await app.start(project, "retry", context=named))
    assert (dry["result"]["suggestionsCreated"], real["result"]["suggestionsCreated"]) == (0, 1)


async def test_all_that_failed_are_tried_again_with_the_steps_they_left(app: RunApp, provider: OpenAIServer) -> None:
    provider.script(Answer(said("Fine")), unauthorized())
    project = await app.project(agents=("scout", "writer"))
    provider.always(unauthorized())
    other = await app.ended(await app.start(project, "single_agent", agentSlug="critic"))
    assert other["status"] == "completed", "the script's first answer"
    run = await app.ended(await app.start(project))
    assert run["status"] == "failed"
    provider.always(answering())
    queue = OrchestrationQueueService(app.runtime.engine, Runs(app.runtime.platform, *services(app)))
    assert await queue.retry_all_failed() == 1
    run = await app.has_status(run["id"], "completed")
    assert [step["status"] for step in run["steps"]] == ["completed", "completed"]
    assert (run["result"]["success"], run["error"]) == (True, None)


async def test_add_job_and_add_high_priority_job(app: RunApp) -> None:
    """Document 003's two examples."""
    project = await app.project(agents=("scout",))
    queue = OrchestrationQueueService(app.runtime.engine, Runs(app.runtime.platform, *services(app)))
    batch = await queue.add_job(
        OrchestrationJobData(project_id=project, triggered_by=TriggerSource.CRON, job_type=JobType.BATCH)
    )
    single = await queue.add_high_priority_job(
        OrchestrationJobData(
            project_id=project,
            triggered_by=TriggerSource.MANUAL,
            user_id="ann",
            job_type=JobType.SINGLE_AGENT,
            agent_slug="code-review",
        )
    )
    first = await app.ended(str(batch.run_id))
    second = await app.has_status(str(single.run_id), "awaiting_approval")  # it wants to comment on an issue
    assert [(run["triggeredBy"], run["priority"]) for run in (first, second)] == [("cron", 5), ("manual", 10)]
    job = data(await app.call("GET", f"/api/v1/admin/jobs/{single.run_id}", user="admin"))
    assert job["data"] == {
        "projectId": project,
        "triggeredBy": "manual",
        "jobType": "single_agent",
        "userId": "ann",
        "priority": 10,
        "agentSlug": "code-review",
        "runId": str(single.run_id),
    }
    assert job["result"]["success"] is True


async def test_one_run_of_a_kind_and_what_becomes_of_a_second(app: RunApp, provider: OpenAIServer) -> None:
    gate = Answer(said("At last"), stop_after=1, stop="wait")
    provider.script(gate)
    project = await app.project(agents=("scout",))
    first = await app.start(project)
    await app.has_status(first, "running")

    error = refused(await app.call("POST", RUNS, {"projectId": project, "jobType": "batch"}), 409, "already_running")
    assert first in error["message"]
    assert error["details"][0]["field"] == "onConflict"
    second = await app.start(project, onConflict="enqueue")
    third = data(await app.call("POST", RUNS, {"projectId": project, "jobType": "batch", "onConflict": "enqueue"}), 202)
    assert (third["jobId"], third["duplicate"]) == (second, True), "one more waits, not two"
    other = await app.ended(await app.start(project, "single_agent", agentSlug="writer"))
    assert other["status"] == "completed", "another kind is not held up"
    assert (await app.show(second))["status"] == "queued"

    gate.go.set()
    assert (await app.ended(first))["status"] == "completed"
    run = await app.ended(second)
    assert run["status"] == "completed"
    assert run["createdAt"] <= run["startedAt"]


async def test_replace_cancels_what_waits_and_tells_what_runs_to_end(app: RunApp, provider: OpenAIServer) -> None:
    provider.script(Answer(said("Never"), stop_after=1, stop="hang"))
    project = await app.project(agents=("scout",))
    first = await app.start(project)
    await provider.called()
    second = await app.start(project, onConflict="enqueue")
    third = await app.start(project, onConflict="replace")
    runs = [await app.ended(run_id) for run_id in (first, second, third)]
    assert [run["status"] for run in runs] == ["cancelled", "cancelled", "completed"]
    assert [run["error"] for run in runs[:2]] == [f"replaced by run {third}"] * 2
    assert len(provider.calls) == 2


async def test_two_that_start_at_once_are_one(app: RunApp, provider: OpenAIServer) -> None:
    gate = Answer(said("Fine"), stop_after=1, stop="wait")
    provider.always(gate)
    project = await app.project(agents=("scout",))
    body = {"projectId": project, "jobType": "batch"}
    answers = await asyncio.gather(*(app.call("POST", RUNS, body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7
    enqueued = await asyncio.gather(*(app.call("POST", RUNS, {**body, "onConflict": "enqueue"}) for _ in range(6)))
    assert len({data(answer, 202)["jobId"] for answer in enqueued}) == 1
    gate.go.set()


async def test_a_click_does_not_wait_for_batches(app: RunApp, provider: OpenAIServer) -> None:
    """T61: every slot has a batch; between two steps one of them makes way."""
    first_steps = Answer(said("Slow"), stop_after=1, stop="wait")
    provider.script(first_steps, first_steps, first_steps)
    batches = [await app.start(await app.project(agents=("scout", "writer"))) for _ in range(3)]
    await provider.called(3)
    click = data(await app.call("POST", TRIGGER, {"projectId": await app.project(), "agentSlug": "critic"}), 202)
    assert click["status"] == "queued"
    assert (await app.show(click["jobId"]))["priority"] == 10
    provider.always(answering(writer=Answer(said("Slow too"), stop_after=1, stop="wait")))
    first_steps.go.set()
    assert (await app.ended(click["jobId"]))["status"] == "completed"
    assert len([run for run in batches if (await app.show(run))["status"] == "completed"]) == 0
    assert app.agents_called().count("critic") == 1
    made_way = [job for job in [await app.job(run) for run in batches] if job["errors"]]
    assert {error["kind"] for job in made_way for error in job["errors"]} == {"snoozed"}
    assert (len(made_way), made_way[0]["attempts"] <= 1) == (1, True), "one did, and it cost no attempt"
