"""Whole gateway processes killed, stopped and cut off while agents run: nothing is paid twice that could be kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.dev_servers import EmbeddedPostgres
from gateway.infra.migrate import migrate
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, HoldingSmtp, gateways
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import LONG, WITH_REDIS_ALWAYS, WITHOUT_REDIS, WITHOUT_REDIS_ALWAYS
from tests.support.openai_server import Answer, OpenAIServer, openai_server
from tests.support.people import data
from tests.support.realtime import EventSource
from tests.support.runs import RUNS, agent_of, answering, point, said

pytestmark = pytest.mark.fault

AGENTS = ("critic", "scout", "writer")


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        server.always(answering())
        yield server


def settings(provider: OpenAIServer) -> dict[str, str]:
    return {
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": provider.url,
        "ORCHESTRATION_RATE_MAX": "100000",
        "ORCHESTRATION_BACKOFF_MS": "50",
    }


@pytest.fixture
async def agents(
    tmp_path: Path, database_url: str, smtp: HoldingSmtp, mode_redis_url: str | None, provider: OpenAIServer
) -> AsyncIterator[Cluster]:
    async with gateways(tmp_path, database_url, smtp, redis_url=mode_redis_url, **settings(provider)) as made:
        yield made


async def a_batch(process: GatewayProcess) -> str:
    """Start a run of all three agents; answers its id."""
    for slug in AGENTS:
        body = {"name": slug, "description": slug, "prompt": f"You are {slug}. Do your part."}
        data(await process.admin.put(f"/api/v1/orchestration/agents/{slug}", json=body))
    project = data(await process.user.post("/api/v1/projects", json={"name": "Shop"}), 201)["id"]
    data(await process.user.put(f"/api/v1/projects/{project}/agents", json={"enabled": list(AGENTS)}))
    body = {"projectId": project, "jobType": "batch"}
    return str(data(await process.user.post(RUNS, json=body), 202)["jobId"])


async def shown(process: GatewayProcess, run: str) -> dict[str, Any]:
    found: dict[str, Any] = data(await process.admin.get(f"{RUNS}/{run}"))
    return found


async def ended(process: GatewayProcess, run: str, timeout: float = 45.0) -> dict[str, Any]:
    async def look() -> dict[str, Any]:
        try:
            found = await shown(process, run)
        except httpx.TransportError as error:
            raise AssertionError("nobody answers") from error
        assert found["status"] in ("completed", "failed", "cancelled"), found
        return found

    return await eventually(look, timeout)


async def asked_for(provider: OpenAIServer, times: int) -> None:
    """The leader may have been killed: nobody leads before its lease has ended."""
    await eventually(lambda: len(provider.calls) >= times, 40)


def called(provider: OpenAIServer) -> list[str]:
    return [agent_of(call) for call in provider.calls]


@WITHOUT_REDIS_ALWAYS
async def test_a_killed_process_s_run_goes_on_at_the_step_that_was_not_done(
    agents: Cluster, provider: OpenAIServer
) -> None:
    held = Answer(said("Never said"), stop_after=1, stop="hang")
    first = Answer(said("Done", suggestions=[point("One"), point("Two")]))
    provider.script(first, held)
    dying = await agents.start()
    run = await a_batch(dying)
    await provider.called(2)
    agents.retire(dying)
    dying.kill()
    other = await agents.start()
    found = await ended(other, run)
    assert called(provider) == ["critic", "scout", "scout", "writer"], "what was completed is not asked again"
    assert (found["status"], found["attempts"], found["result"]["suggestionsCreated"]) == ("completed", 1, 2)
    assert [step["attempts"] for step in found["steps"]] == [1, 2, 1]
    assert found["usage"]["inputTokens"] == 300, "what the killed call cost nobody knows"


@LONG
@WITHOUT_REDIS
async def test_processes_killed_again_and_again_pay_each_step_once(agents: Cluster, provider: OpenAIServer) -> None:
    """Each is killed as soon as a step of it is recorded and the next one is being asked."""
    replies = [Answer(said("Done")), Answer(said("Never said"), stop_after=1, stop="hang")]
    provider.script(*replies)
    process = await agents.start(MAX_STALLED_COUNT="5")
    run = await a_batch(process)
    for asked in (2, 4):
        await asked_for(provider, asked)
        agents.retire(process)
        process.kill()
        if asked == 2:
            provider.script(*replies)
        process = await agents.start(MAX_STALLED_COUNT="5")
    found = await ended(process, run)
    assert (found["status"], found["result"]["agentsSucceeded"]) == ("completed", 3)
    assert called(provider) == ["critic", "scout", "scout", "writer", "writer"]


@WITHOUT_REDIS
async def test_a_process_that_stops_hands_its_run_back_uncounted(agents: Cluster, provider: OpenAIServer) -> None:
    held = Answer(said("A long one"), piece=4, stop_after=3, stop="hang")
    provider.script(Answer(said("Done")), held)
    leaving = await agents.start(SHUTDOWN_GRACE_S="1")
    run = await a_batch(leaving)
    await provider.called(2)
    agents.retire(leaving)
    leaving.terminate()
    assert await leaving.exit_code() == 0
    staying = await agents.start()
    found = await ended(staying, run)
    assert called(provider) == ["critic", "scout", "scout", "writer"]
    assert (found["status"], found["attempts"]) == ("completed", 1)
    assert [step["attempts"] for step in found["steps"]] == [1, 1, 1], "cut by us, so it did not count"
    assert found["steps"][1]["usage"]["inputTokens"] > 100, "what the cut call cost is counted"


async def test_an_answer_that_came_while_postgres_was_away_is_kept(
    tmp_path: Path, own_postgres: Callable[[], EmbeddedPostgres], smtp: HoldingSmtp, provider: OpenAIServer
) -> None:
    """Without Redis."""
    postgres = own_postgres()
    await migrate(postgres.dsn)
    answer = Answer(said("Paid for"), stop_after=1, stop="wait")
    provider.script(answer)
    async with gateways(tmp_path, postgres.dsn, smtp, **settings(provider), LOCK_DURATION_MS="30000") as cluster:
        process = await cluster.start()
        run = await a_batch(process)
        await provider.called()
        postgres.kill()
        answer.go.set()
        await eventually(lambda: "step_waits_for_ledger" in process.log, 20)
        postgres.start()
        found = await ended(process, run)
        assert called(provider) == list(AGENTS)
        assert (found["status"], found["steps"][0]["output"]["summary"]) == ("completed", "Paid for")


@WITH_REDIS_ALWAYS
async def test_a_client_follows_a_run_over_two_replicas_and_misses_nothing(
    agents: Cluster, provider: OpenAIServer
) -> None:
    slow = Answer(said("Word by word, and not too fast for anybody"), gap_s=0.06, piece=6)
    provider.always(slow)
    leaving, staying = await agents.start(), await agents.start()
    for _ in range(3):  # a busy machine may lose Redis for a moment, and then a gap is told
        before = outages(leaving, staying)
        run = await a_batch(leaving)
        events = await followed_by_both(leaving, staying, run)
        if outages(leaving, staying) == before:
            break
    assert not [message for name, message in events if name == "gap"]
    sequence = [message["seq"] for _, message in events]
    assert sequence == list(range(sequence[0], sequence[0] + len(events)))
    assert [events[0][0], events[-1][0]] == ["started", "completed"]
    said_all = "".join(message["text"] for name, message in events if name == "token")
    assert said_all == slow.text * 3
    steps = [(message["agentSlug"], message["status"]) for name, message in events if name == "step"]
    assert steps == [(slug, status) for slug in AGENTS for status in ("running", "completed")]
    async with follow(staying, run) as source:
        again = [await source.next() for _ in range(len(events))]
    assert again == events, "who comes late is told all of it"


def outages(*processes: GatewayProcess) -> int:
    return sum(process.log.count('"redis_down"') for process in processes)


async def followed_by_both(
    leaving: GatewayProcess, staying: GatewayProcess, run: str
) -> list[tuple[str, dict[str, Any]]]:
    events: list[tuple[str, dict[str, Any]]] = []
    async with follow(leaving, run) as source:
        while len([name for name, _ in events if name == "token"]) < 3:
            events.append(await source.next())
        last_id = source.last_id
    async with follow(staying, run, last_id) as source:
        while not events or events[-1][0] not in ("completed", "failed"):
            events.append(await source.next())
        with pytest.raises(EOFError):
            await source.next()
    return events


@asynccontextmanager
async def follow(process: GatewayProcess, run: str, last_event_id: str | None = None) -> AsyncIterator[EventSource]:
    """The run's events, from this process."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with process.admin.stream("GET", f"{RUNS}/{run}/events", headers=headers) as answer:
        assert answer.status_code == 200
        yield EventSource(answer)
