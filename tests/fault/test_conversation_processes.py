"""Conversations over real processes: any replica answers and tells, and a killed one has one iteration repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from gateway.dev_servers import EmbeddedPostgres
from gateway.infra.migrate import migrate
from tests.support.conversations import PROFILES, researcher, stage_of
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, gateways
from tests.support.gateway_process import GatewayProcess, token
from tests.support.modes import LONG, WITH_REDIS_ALWAYS, WITHOUT_REDIS, WITHOUT_REDIS_ALWAYS
from tests.support.openai_server import Answer, Call, OpenAIServer, Reply, Silence, openai_server
from tests.support.people import data, refused
from tests.support.realtime import socket
from tests.support.smtp_server import ScriptedSmtp

pytestmark = pytest.mark.fault


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as made:
        yield made


@pytest.fixture
async def cluster(
    tmp_path: Path, database_url: str, smtp: ScriptedSmtp, provider: OpenAIServer, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    settings = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.url, "GATEWAY_PROFILES": PROFILES}
    async with gateways(tmp_path, database_url, smtp, redis_url=mode_redis_url, **settings) as made:
        yield made


async def message(process: GatewayProcess, accepted: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data(await process.user.get(f"/api/messages/{accepted['messageId']}"))
    return found


async def ended(process: GatewayProcess, accepted: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    async def check() -> dict[str, Any]:
        found = await message(process, accepted)
        assert found["status"] == status, found
        return found

    return await eventually(check, 45)


@WITH_REDIS_ALWAYS
async def test_one_replica_takes_the_question_another_answers_it_and_both_tell(
    cluster: Cluster, provider: OpenAIServer, mode: str
) -> None:
    front = await cluster.start(GATEWAY_ROLE="api")
    await cluster.start(GATEWAY_QUEUES="chat", GATEWAY_ROLE="worker")
    answer = Answer("Good morning, Ann.", piece=4, stop_after=2, stop="wait")
    provider.script(answer)
    accepted = data(await front.user.post("/api/chat", json={"message": "Hello?"}), 202)
    assert accepted["mode"] in ("direct", mode), "a busy machine may have lost Redis for a moment"
    ids = {name: accepted[name] for name in ("jobId", "conversationId", "messageId")}
    async with socket(front.url, "user") as mine, socket(front.url, "viewer") as foreign:
        subscribed = await mine.ask("subscribed", action="subscribe", conversationId=ids["conversationId"], since=0)
        assert subscribed["type"] == "subscribed", subscribed
        denied = await foreign.ask("subscribed", action="subscribe", conversationId=ids["conversationId"])
        assert (denied["type"], denied["code"]) == ("error", "channel_forbidden")
        started = await mine.next("job:started")
        assert {name: started[name] for name in ids} == ids
        await mine.next("run:token")
        answer.go.set()
        done = await mine.next("job:completed")
        assert {name: done[name] for name in ids} == ids
        found = await message(front, accepted)
        assert (found["status"], found["answer"]) == ("completed", "Good morning, Ann."), "what is told is there"
        told = [one for one in mine.told if one["type"] != "gap"]
        assert [one["type"] for one in told if one["type"] != "run:token"] == [
            *("job:started", "job:progress", "job:progress", "message:updated", "job:completed")
        ]
        assert told[-2]["messageId"] == ids["messageId"]
    refused(await front.admin.get(f"/api/messages/{accepted['messageId']}"), 404, "not_found")


@WITHOUT_REDIS_ALWAYS
async def test_A_a_killed_process_has_one_iteration_repeated_and_nothing_is_paid_twice(
    cluster: Cluster, provider: OpenAIServer, mode: str
) -> None:
    answers, held = researcher(questions=3), list[str]()

    def hold_once(call: Call) -> Reply:
        if stage_of(call) == "analysis" and not held:
            held.append("analysis")
            return Silence()
        reply: Reply = answers(call)
        return reply

    provider.always(hold_once)
    survivor = await cluster.start(GATEWAY_ROLE="api")
    killed = await cluster.start(GATEWAY_QUEUES="deep-research")
    accepted = data(await survivor.user.post("/api/deep-research/start", json={"message": "Why?"}), 202)
    await eventually(lambda: held, 20)

    async def is_analysing() -> bool:
        status = data(await survivor.user.get(f"/api/deep-research/status/{accepted['messageId']}"))
        assert (status["state"], status["progress"]) == ("active", {"stage": "analysis", "percent": 75})
        return True

    await eventually(is_analysing)
    killed.kill()
    await cluster.start(GATEWAY_QUEUES="deep-research")
    found = await ended(survivor, accepted)
    calls = Counter(stage_of(call) for call in provider.calls)
    assert calls == {"plan": 1, "literature_search": 3, "analysis": 2, "writing": 1}
    assert [note["number"] for note in found["state"]["notes"]] == [1, 2, 3, 4, 5, 6]
    assert found["usage"]["inputTokens"] == 600, "each iteration that was recorded, once"


@WITH_REDIS_ALWAYS
async def test_A_a_killed_process_has_its_chat_message_answered_by_another(
    cluster: Cluster, provider: OpenAIServer, mode: str
) -> None:
    provider.script(Answer("Half an ans", piece=4, stop_after=2, stop="hang"), Answer("A whole answer."))
    survivor = await cluster.start(GATEWAY_ROLE="api")
    killed = await cluster.start(GATEWAY_QUEUES="chat")
    accepted = data(await survivor.user.post("/api/chat", json={"message": "Why?"}), 202)
    await provider.called()
    killed.kill()
    await cluster.start(GATEWAY_QUEUES="chat")
    assert (await ended(survivor, accepted))["answer"] == "A whole answer."
    job = data(await survivor.admin.get(f"/api/v1/admin/jobs/{accepted['jobId']}"))
    assert (job["attempts"], job["stalls"]) == (1, 1)


@WITHOUT_REDIS
async def test_who_keeps_showing_tokens_is_checked_all_the_same(cluster: Cluster, provider: OpenAIServer) -> None:
    gateway = await cluster.start(REALTIME_RECHECK_S="1")
    provider.script(Answer("Good morning."))
    accepted = data(await gateway.user.post("/api/chat", json={"message": "Hello?"}), 202)
    conversation = accepted["conversationId"]
    async with socket(gateway.url, "user") as mine:
        # In capitals it is the same conversation.
        await mine.ask("subscribed", action="subscribe", conversationId=conversation.upper(), since=0)
        await mine.next("job:completed")
        assert (await gateway.user.delete(f"/api/conversations/{conversation}")).status_code == 204

        async def let_go() -> bool:
            with suppress(ConnectionClosed):
                await mine.say(action="auth", token=token("user"))
            return mine.closed is not None and mine.closed[0] == 4003

        await eventually(let_go, 20, "new tokens put the check off")


@LONG
@WITHOUT_REDIS
async def test_who_ends_while_the_ledger_is_away_takes_an_answer_along(
    tmp_path: Path,
    own_postgres: Callable[[], EmbeddedPostgres],
    smtp: ScriptedSmtp,
    provider: OpenAIServer,
    mode_redis_url: str | None,
) -> None:
    postgres = own_postgres()
    await migrate(postgres.dsn)
    settings = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.url, "GATEWAY_PROFILES": PROFILES}
    answer = Answer("Good morning.", stop_after=1, stop="wait")
    provider.script(answer, Answer("Good evening."))
    async with gateways(tmp_path, postgres.dsn, smtp, SHUTDOWN_GRACE_S="1", **settings) as cluster:
        leaving = await cluster.start()
        accepted = data(await leaving.user.post("/api/chat", json={"message": "Hello?"}), 202)
        await provider.called()
        postgres.kill()
        answer.go.set()
        await eventually(lambda: "message_waits_for_ledger" in leaving.log, 20)
        cluster.retire(leaving)
        leaving.terminate()
        assert await leaving.exit_code(20) == 0
        postgres.start()
        assert (await ended(await cluster.start(), accepted))["answer"] == "Good evening."
    assert len(provider.calls) == 2, "asked and paid again, as the page says"
