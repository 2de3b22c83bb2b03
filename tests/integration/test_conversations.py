"""The profiles chat and deep-research: questions, answers, what goes wrong, and what is told meanwhile. Both modes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio

from gateway.jobs.reporter import Reports
from gateway.llm.demo import LABEL
from gateway.realtime.channel import Topic
from gateway.services.conversations.prompts import SOURCES
from gateway.web.auth import Authenticator
from tests.support.conversations import Room, conversing, researcher, stage_of
from tests.support.eventually import eventually
from tests.support.openai_server import (
    Answer,
    Call,
    Drop,
    OpenAIServer,
    Reply,
    Silence,
    broken,
    context_too_long,
    openai_server,
    rate_limited,
    unauthorized,
)
from tests.support.people import data, refused
from tests.support.realtime import Ear

Pool = asyncpg.Pool
SHARED = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as made:
        yield made


@pytest.fixture(params=["queue", "direct"])
def mode_redis(request: pytest.FixtureRequest) -> str | None:
    return str(request.getfixturevalue("redis_url")) if request.param == "queue" else None


@pytest.fixture
async def room(database_url: str, mode_redis: str | None, provider: OpenAIServer) -> AsyncIterator[Room]:
    async with conversing(database_url, provider, redis_url=mode_redis) as made:
        yield made


@pytest.fixture
async def plain(database_url: str, provider: OpenAIServer) -> AsyncIterator[Room]:
    """Without Redis, for what the modes have in common."""
    async with conversing(database_url, provider) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[Room]:
    """For tests marked so: what they ask is refused."""
    async with conversing(shared_database_url, None) as made:
        yield made


def kinds(ear: Ear) -> list[str]:
    return [message["type"] for message in ear.told]


async def told(ear: Ear, kind: str) -> dict[str, Any]:
    found = await eventually(lambda: next((one for one in ear.told if one["type"] == kind), None), message=kind)
    assert found is not None
    return found


# Chat


async def test_a_question_is_answered_and_told_word_by_word(room: Room, provider: OpenAIServer) -> None:
    provider.script(Answer("Good morning, Ann. How are you?", gap_s=0.06))
    accepted = await room.ask("Hello?")
    assert accepted.keys() == {"jobId", "messageId", "conversationId", "status", "mode"}
    assert (accepted["status"], accepted["mode"]) == ("queued", room.runtime.mode)
    ear = await room.listen(accepted)
    found = await room.ended(accepted)
    assert (found["answer"], found["question"], found["demo"]) == ("Good morning, Ann. How are you?", "Hello?", False)
    assert found["usage"] == {"inputTokens": 100, "outputTokens": 20, "costCents": 0.0065}
    ids = {name: accepted[name] for name in ("jobId", "messageId", "conversationId")}
    ended = await told(ear, "job:completed")
    assert {name: ended[name] for name in ids} == ids
    assert kinds(ear)[:2] == ["job:started", "job:progress"] and kinds(ear)[-2:] == ["message:updated", "job:completed"]
    assert "".join(one["text"] for one in ear.told if one["type"] == "run:token") == found["answer"]
    assert kinds(ear).count("run:token") > 1
    progress = await told(ear, "job:progress")
    assert progress["progress"] == {"stage": "answering", "percent": 10} and progress["jobId"] == accepted["jobId"]
    assert all("answer" not in one for one in ear.told), "what was answered is fetched"


async def test_a_long_answer_is_told_whole(plain: Room, provider: OpenAIServer) -> None:
    text = "Long, \N{SNOWMAN} and \x01 odd. " * 1500
    provider.script(Answer(text, piece=len(text)))
    accepted = await plain.ask()
    ear = await plain.listen(accepted)
    await told(ear, "job:completed")
    assert "".join(one["text"] for one in ear.told if one["type"] == "run:token") == text


async def reported(pool: Pool, jobs: list[UUID]) -> bool:
    """Each iteration's job says what it does, and which one goes on."""
    first, last = [await Reports(pool).read(job) for job in (jobs[0], jobs[-1])]
    assert [line.text for line in first.lines] == [
        "iteration 1 of at most 12: plan",
        f"next: literature_search, by job {jobs[1]}",
    ]
    assert last.progress is not None
    assert (last.progress.stage, last.progress.percent) == ("done", 100)
    return True


async def test_the_status_is_told_in_the_words_of_document_002(room: Room, provider: OpenAIServer) -> None:
    go = Answer("Yes.", stop_after=0, stop="wait")
    provider.script(go)
    accepted = await room.ask()
    path = f"/api/chat/status/{accepted['jobId']}"

    async def active() -> bool:
        found = data(await room.get(path))
        return (found["state"], found["progress"]) == ("active", {"stage": "answering", "percent": 10})

    await eventually(active)
    go.go.set()
    await room.ended(accepted)
    found = data(await room.get(path))
    assert (found["state"], found["progress"]) == ("completed", {"stage": "done", "percent": 100})
    assert found["returnvalue"]["messageId"] == accepted["messageId"] and found["failedReason"] is None
    refused(await room.get(path, "bob"), 404, "not_found")
    refused(await room.get(f"/api/deep-research/status/{accepted['messageId']}"), 404, "not_found")


async def test_the_conversation_so_far_is_told_to_the_model(plain: Room, provider: OpenAIServer) -> None:
    provider.script(Answer("Ann."), Answer("You are Ann."))
    first = await plain.ask("I am Ann. Who am I?")
    await plain.ended(first)
    second = await plain.ask("Again?", conversationId=first["conversationId"])
    await plain.ended(second)
    said = [(one["role"], one["content"]) for one in provider.calls[1].messages]
    assert said[1:] == [("user", "I am Ann. Who am I?"), ("assistant", "Ann."), ("user", "Again?")]
    assert provider.calls[0].model == "gpt-5-mini"


async def test_the_job_carries_ids_and_its_group_is_the_user(plain: Room, pool: Pool) -> None:
    accepted = await plain.ask("A secret question", model="gpt-5")
    await plain.ended(accepted)
    job = await pool.fetchrow("SELECT args, group_key, queue, max_attempts FROM jobs")
    assert job is not None
    assert job["args"].keys() == {"userId", "conversationId", "messageId", "authMethod", "requestedAt"}
    assert (job["args"]["userId"], job["args"]["authMethod"]) == ("ann", "jwt")
    assert (job["group_key"], job["queue"], job["max_attempts"]) == ("ann", "chat", 3)
    assert (await plain.message(accepted))["model"] == "gpt-5"


async def test_a_failure_is_tried_again_after_a_second_and_all_is_paid(plain: Room, provider: OpenAIServer) -> None:
    provider.script(broken(), Answer("Half an ans", piece=4, stop_after=2, usage=False), Answer("A whole answer."))
    accepted = await plain.ask()
    found = await plain.ended(accepted)
    assert (found["answer"], found["partial"]) == ("A whole answer.", None)
    assert found["usage"]["inputTokens"] > 100, "what was cut was paid too"
    job = await plain.runtime.engine.get(UUID(accepted["jobId"]))
    waits = [entry.kind for entry in job.errors]
    assert (job.attempts, waits) == (3, ["error", "error"])


async def test_three_failures_are_final_and_what_had_come_is_kept(plain: Room, provider: OpenAIServer) -> None:
    provider.script(Drop(), Drop(), Answer("Half an answer", piece=4, stop_after=2))
    accepted = await plain.ask()
    ear = await plain.listen(accepted)
    found = await plain.ended(accepted, "failed")
    assert (found["errorKind"], found["partial"], found["answer"]) == ("cut", "Half an ", None)
    ended = await told(ear, "job:failed")
    assert (ended["messageId"], ended["status"]) == (accepted["messageId"], "failed")
    assert kinds(ear).count("job:started") == 3, "each attempt begins anew"
    status = data(await plain.get(f"/api/chat/status/{accepted['jobId']}"))
    assert (status["state"], status["failedReason"], status["returnvalue"]) == ("failed", found["error"], None)


@pytest.mark.parametrize(("reply", "kind"), [(unauthorized(), "auth"), (context_too_long(), "context_length")])
async def test_what_no_other_attempt_changes_fails_at_once(
    plain: Room, provider: OpenAIServer, reply: Reply, kind: str
) -> None:
    provider.always(reply)
    accepted = await plain.ask()
    assert (await plain.ended(accepted, "failed"))["errorKind"] == kind
    assert len(provider.calls) == 1


async def test_a_provider_that_asks_to_wait_costs_no_attempt(plain: Room, provider: OpenAIServer) -> None:
    provider.script(rate_limited("1"), Answer("At last."))
    accepted = await plain.ask()
    assert (await plain.ended(accepted))["answer"] == "At last."
    job = await plain.runtime.engine.get(UUID(accepted["jobId"]))
    assert (job.attempts, [entry.kind for entry in job.errors]) == (1, ["snoozed"])


async def test_a_refusal_is_an_answer_that_says_so(plain: Room, provider: OpenAIServer) -> None:
    provider.script(Answer("", refusal="I will not."))
    found = await plain.ended(await plain.ask())
    assert (found["answer"], found["refused"]) == ("I will not.", True)


async def test_without_a_key_it_fails_at_once_and_says_why(database_url: str) -> None:
    async with conversing(database_url, None) as room:
        for accepted in (await room.ask(), await room.research()):
            found = await room.ended(accepted, "failed")
            assert found["errorKind"] == "not_configured" and "OPENAI_API_KEY" in found["error"]
            assert (await room.runtime.engine.get(UUID(accepted["jobId"]))).attempts == 1


async def test_a_demonstration_says_what_it_is(database_url: str) -> None:
    async with conversing(database_url, None, demo=True) as room:
        for accepted in (await room.ask(), await room.research()):
            found = await room.ended(accepted)
            assert found["demo"] is True and LABEL in found["answer"]
        notes = found["state"]["notes"]
        searches = ["literature_search", "analysis"] * 2
        assert [note["stage"] for note in notes] == ["plan", *searches, "writing"]
        assert all(note["demo"] for note in notes)


# Ends that others bring about


async def test_a_question_that_waits_is_cancelled_at_once(room: Room) -> None:
    await room.runtime.engine.pause("chat")
    accepted = await room.ask()
    ear = await room.listen(accepted)
    path = f"/api/messages/{accepted['messageId']}/cancel"
    assert data(await room.post(path))["status"] == "cancelled"
    assert data(await room.post(path))["status"] == "cancelled", "twice is no mistake"
    assert (await told(ear, "job:failed"))["status"] == "cancelled"
    assert (await room.runtime.engine.get(UUID(accepted["jobId"]))).state == "cancelled"
    refused(await room.post(path, "bob"), 404, "not_found")


async def test_a_model_that_talks_is_cut_and_what_it_said_is_kept(room: Room, provider: OpenAIServer) -> None:
    provider.script(Answer("One two three four", piece=4, stop_after=2, stop="hang"))
    accepted = await room.ask()
    ear = await room.listen(accepted)
    await told(ear, "run:token")
    await room.post(f"/api/messages/{accepted['messageId']}/cancel")
    await eventually(lambda: provider.disconnects == 1, message="the model is asked no more")

    async def kept() -> bool:
        found = await room.message(accepted)
        assert found["status"] == "cancelled" and found["usage"]["inputTokens"] > 0, found
        return bool(found["partial"] == "One two ")

    await eventually(kept)
    refused(await room.post(f"/api/messages/{accepted['messageId']}/cancel", "bob"), 404, "not_found")


async def test_a_message_follows_a_job_that_an_administrator_ended(room: Room, provider: OpenAIServer) -> None:
    provider.always(Silence())
    await room.runtime.engine.pause("chat")
    waiting = await room.ask()
    ear = await room.listen(waiting)
    assert (await room.post(f"/api/v1/admin/jobs/{waiting['jobId']}/cancel", "admin")).status_code == 200
    assert (await room.message(waiting))["status"] == "cancelled", "at once, before anybody noticed"
    assert (await told(ear, "job:failed"))["status"] == "cancelled"
    await room.runtime.engine.resume("chat")
    running = await room.ask()
    await provider.called()
    assert (await room.post(f"/api/v1/admin/jobs/{running['jobId']}/cancel", "admin")).status_code == 200
    assert (await room.ended(running, "cancelled"))["errorKind"] == "cancelled"


async def test_what_takes_too_long_is_cut_and_fails_with_its_last_attempt(
    database_url: str, provider: OpenAIServer
) -> None:
    provider.always(Silence())
    async with conversing(database_url, provider, chat_timeout_ms=500) as room:
        accepted = await room.ask()
        found = await room.ended(accepted, "failed")
        job = await room.runtime.engine.get(UUID(accepted["jobId"]))
        assert [entry.kind for entry in job.errors] == ["timeout"] * 3
        assert "time limit" in found["error"] or found["errorKind"] == "timeout"


async def test_an_administrators_retry_answers_the_message_too(plain: Room, provider: OpenAIServer) -> None:
    provider.script(unauthorized(), Answer("Now."))
    accepted = await plain.ask()
    await plain.ended(accepted, "failed")

    async def retried() -> bool:  # once the job is settled, which is after its message
        return (await plain.post(f"/api/v1/admin/jobs/{accepted['jobId']}/retry", "admin")).status_code == 200

    await eventually(retried)
    assert (await plain.ended(accepted))["answer"] == "Now."


async def test_a_failed_message_is_tried_again_with_a_new_job(plain: Room, provider: OpenAIServer) -> None:
    provider.script(unauthorized(), Answer("Now."))
    accepted = await plain.ask()
    path = f"/api/messages/{accepted['messageId']}/retry"
    await plain.ended(accepted, "failed")
    refused(await plain.post(path, "bob"), 404, "not_found")
    again = data(await plain.post(path, **{"Idempotency-Key": "k"}), 202)
    assert again["messageId"] == accepted["messageId"] and again["jobId"] != accepted["jobId"]
    found = await plain.ended(again)
    assert (found["answer"], found["error"], found["jobId"]) == ("Now.", None, again["jobId"])
    assert data(await plain.post(path, **{"Idempotency-Key": "k"}), 202) == again, "asked twice, tried once"
    refused(await plain.post(path), 409, "not_failed")
    refused(await plain.post(f"/api/messages/{accepted['messageId']}/cancel"), 409, "already_finished")


# Who may


async def test_a_conversation_is_its_owners_alone(plain: Room) -> None:
    accepted = await plain.ask()
    await plain.ended(accepted)
    conversation = f"/api/conversations/{accepted['conversationId']}"
    for name in ("bob", "admin"):
        for path in (f"/api/messages/{accepted['messageId']}", conversation):
            refused(await plain.get(path, name), 404, "not_found")
        assert data(await plain.get("/api/conversations", name)) == []
        asked = {"message": "Me too", "conversationId": accepted["conversationId"]}
        refused(await plain.post("/api/chat", name, asked), 404, "not_found")
        refused(await plain.client.delete(conversation, headers=plain.who(name)), 404, "not_found")
    refused(await plain.client.get(conversation), 401, "missing_token")
    for path in ("/api/messages/none", f"/api/messages/{uuid4()}", "/api/conversations/none", "/api/chat/status/none"):
        refused(await plain.get(path), 404, "not_found")


async def test_channels_of_a_conversation_are_its_owners_alone(plain: Room) -> None:
    accepted = await plain.ask()
    channels = [f"conversation:{accepted['conversationId']}", f"job:{accepted['jobId']}"]
    (feature,) = (one for one in plain.runtime.features if one.name == "conversations")
    for name, allowed in (("ann", True), ("bob", False), ("admin", False)):
        principal = await _principal(plain, name)
        for channel in channels:
            topic, _, channel_id = channel.partition(":")
            assert await feature.channels[Topic(topic)](principal, channel_id) is allowed, (name, channel)
    for wrong in (f"conversation:{uuid4()}", "conversation:abc", f"job:{uuid4()}"):
        answer = await plain.client.get("/api/v1/events", params={"channels": wrong}, headers=plain.who("ann"))
        refused(answer, 403, "channel_forbidden")


async def _principal(room: Room, name: str) -> Any:
    authenticator = Authenticator(room.runtime.settings, room.runtime.pool)
    return await authenticator.principal_of(room.who(name)["Authorization"])


@SHARED
async def test_an_api_key_needs_the_scopes(shared: Room) -> None:
    body = {"name": "reader", "scopes": ["conversations:read"]}
    key = data(await shared.post("/api/v1/admin/keys", "admin", body), 201)["key"]
    headers = {"Authorization": f"Bearer {key}"}
    assert data(await shared.client.get("/api/conversations", headers=headers)) == []
    answer = await shared.client.post("/api/chat", json={"message": "Hi"}, headers=headers)
    refused(answer, 403, "insufficient_scope")


# Bad input, pages, repetition


@SHARED
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": " \n"}, "message"),
        ({"message": "x" * 20_001}, "message"),
        ({"message": 5}, "message"),
        ({"message": "Hi", "conversationId": "mine"}, "conversationId"),
        ({"message": "Hi", "model": ""}, "model"),
        ({"message": "Hi", "fileIds": ["f"] * 21}, "fileIds"),
        ({"message": "Hi", "fileIds": [""]}, "fileIds[0]"),
        ({"message": "Hi", "conversation_id": str(uuid4())}, "conversation_id"),
    ],
)
async def test_bad_questions_are_refused_by_field(shared: Room, body: dict[str, Any], field: str) -> None:
    for path in ("/api/chat", "/api/deep-research/start"):
        error = refused(await shared.post(path, body=body), 400, "validation_error")
        assert error["details"][0]["field"] == field


@SHARED
async def test_what_no_text_may_hold_is_refused(shared: Room) -> None:
    refused(await shared.post("/api/chat", body={"message": "a\x00b"}), 400, "invalid_text")
    refused(await shared.post("/api/chat", body={"message": "Hi", "conversationId": str(uuid4())}), 404, "not_found")


async def test_pages_of_conversations_and_of_their_messages(plain: Room) -> None:
    first = await plain.ask("Number 0", fileIds=["file-1"])
    for number in range(1, 5):
        await plain.ask(f"Number {number}", conversationId=first["conversationId"])
    others = [await plain.ask(f"Other {number}") for number in range(2)]
    seen: list[str] = []
    path = f"/api/conversations/{first['conversationId']}?limit=2"
    cursor = ""
    while True:
        answer = (await plain.get(path + cursor)).json()
        seen += [message["question"] for message in answer["data"]["messages"]]
        if answer["page"]["nextCursor"] is None:
            break
        cursor = f"&cursor={answer['page']['nextCursor']}"
    assert seen == [f"Number {number}" for number in range(4, -1, -1)]
    assert answer["data"]["conversation"]["title"] == "Number 0"
    assert answer["data"]["messages"][0]["fileIds"] == ["file-1"]
    page = (await plain.get("/api/conversations?limit=2")).json()
    assert [one["id"] for one in page["data"]] == [one["conversationId"] for one in others[::-1]]
    rest = (await plain.get(f"/api/conversations?cursor={page['page']['nextCursor']}")).json()
    assert [one["id"] for one in rest["data"]] == [first["conversationId"]]
    for query in ("limit=0", "limit=ten", "cursor=x", "page=2"):
        refused(await plain.get(f"/api/conversations?{query}"), 400, "validation_error")


async def test_a_repeated_request_asks_once(room: Room, provider: OpenAIServer, pool: Pool) -> None:
    body = {"message": "Hello?"}
    first = await room.post("/api/chat", body=body, **{"Idempotency-Key": "a"})
    second = await room.post("/api/chat", body=body, **{"Idempotency-Key": "a"})
    assert second.json() == first.json() and second.headers["idempotent-replayed"] == "true"
    refused(
        await room.post("/api/chat", body={"message": "Bye"}, **{"Idempotency-Key": "a"}),
        *(409, "invalid_idempotent_request"),
    )
    await room.ended(data(first, 202))
    assert (len(provider.calls), await pool.fetchval("SELECT count(*) FROM messages")) == (1, 1)


async def test_a_deleted_conversation_is_gone_and_nothing_of_it_goes_on(
    room: Room, provider: OpenAIServer, pool: Pool
) -> None:
    provider.script(Answer("One two three", piece=4, stop_after=1, stop="hang"))
    accepted = await room.ask()
    research = await room.research(conversationId=accepted["conversationId"])
    await provider.called(2)
    path = f"/api/conversations/{accepted['conversationId']}"
    answer = await room.client.delete(path, headers=room.who("ann"))
    assert (answer.status_code, answer.content) == (204, b"")
    for one in (accepted, research):
        refused(await room.get(f"/api/messages/{one['messageId']}"), 404, "not_found")
    refused(await room.client.delete(path, headers=room.who("ann")), 404, "not_found")
    await eventually(lambda: provider.open_calls == 0, message="nobody is asked any more")

    async def ended() -> bool:
        return not await pool.fetchval("SELECT count(*) FROM jobs WHERE state IN ('waiting', 'delayed', 'active')")

    await eventually(ended)
    for table in ("conversations", "messages", "research_states", "research_notes"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    for channel in (
        f"conversation:{accepted['conversationId']}",
        f"job:{accepted['jobId']}",
    ):  # their logs are still kept
        answer = await room.client.get("/api/v1/events", params={"channels": channel}, headers=room.who("ann"))
        refused(answer, 403, "channel_forbidden")


# Limits for each user


async def test_a_users_limit_holds_whoever_is_asked(
    database_url: str, provider: OpenAIServer, mode_redis: str | None
) -> None:
    limits = {"chat_rate_limit_per_minute": 10, "deep_research_rate_limit_per_5min": 3, "redis_url": mode_redis}
    async with conversing(database_url, provider, **limits) as one, conversing(database_url, provider, **limits) as two:

        async def ask(path: str, number: int) -> httpx.Response:
            return await (one, two)[number % 2].post(path, body={"message": f"Number {number}"})

        for path, most, window_s in (("/api/chat", 10, 60), ("/api/deep-research/start", 3, 300)):
            answers = await asyncio.gather(*(ask(path, number) for number in range(20)))
            assert Counter(answer.status_code for answer in answers) == {202: most, 429: 20 - most}
            error = next(answer for answer in answers if answer.status_code == 429)
            refused(error, 429, "rate_limited")
            assert 0 < int(error.headers["retry-after"]) <= window_s
            assert (error.headers["ratelimit-limit"], error.headers["ratelimit-remaining"]) == (str(most), "0")
            assert (await one.post(path, "bob", {"message": "Me too"})).status_code == 202, "each user by himself"


async def test_a_place_is_free_again_after_the_window_and_refusals_cost_nothing(
    database_url: str, provider: OpenAIServer, pool: Pool
) -> None:
    async with conversing(database_url, provider, chat_rate_limit_per_minute=2) as room:
        keyed = {"Idempotency-Key": "same"}
        for _ in range(3):
            assert (await room.post("/api/chat", body={"message": "One"}, **keyed)).status_code == 202
        await room.ask("Two")
        for _ in range(5):
            refused(await room.post("/api/chat", body={"message": "No"}), 429, "rate_limited")
        assert await pool.fetchval("SELECT count(*) FROM conversations") == 2, "a refusal leaves nothing behind"
        first = "accepted[1] - interval '40 seconds', accepted[2] - interval '10 seconds'"
        await pool.execute(f"UPDATE message_allowances SET accepted = ARRAY[{first}]")
        answer = await room.post("/api/chat", body={"message": "No"})
        refused(answer, 429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        await pool.execute("UPDATE message_allowances SET accepted[1] = accepted[1] - interval '25 seconds'")
        await room.ask("Three")
        refused(await room.post("/api/chat", body={"message": "No"}), 429, "rate_limited")


# Research


async def test_a_research_goes_through_its_stages_a_job_for_each(
    room: Room, provider: OpenAIServer, pool: Pool
) -> None:
    provider.always(researcher(questions=2, further=1))
    accepted = await room.research()
    assert accepted.keys() == {"jobId", "messageId", "conversationId", "status", "mode", "stateId"}
    ear = await room.listen(accepted)
    found = await room.ended(accepted)
    search = "literature_search"
    course = ["plan", search, search, "analysis", search, "analysis", "writing"]
    assert [stage_of(call) for call in provider.calls] == course
    assert found["answer"] == f"# Report\n\nBecause light scatters.\n\n{SOURCES}"
    state = found["state"]
    assert [note["stage"] for note in state["notes"]] == course
    assert [note["subject"] for note in state["notes"]] == [
        None,
        "Question 1?",
        "Question 2?",
        None,
        "Further 1?",
        None,
        None,
    ]
    assert (state["id"], state["stage"], state["iteration"], state["sources"]) == (
        accepted["stateId"],
        "done",
        7,
        SOURCES,
    )
    assert found["usage"] == {"inputTokens": 700, "outputTokens": 140, "costCents": 0.0455}
    jobs = await pool.fetch(
        "SELECT id, state, attempts, group_key FROM jobs WHERE queue = 'deep-research' ORDER BY seq"
    )
    assert len(jobs) == 7 and {job["group_key"] for job in jobs} == {"ann"}
    await told(ear, "job:completed")
    progress = [(one["progress"]["stage"], one["progress"]["percent"]) for one in ear.told if "progress" in one]
    assert progress == [
        *(("plan", 0), (search, 10), (search, 40), ("analysis", 75)),
        *((search, 75), ("analysis", 75), ("writing", 85), ("done", 100)),
    ]
    assert {one["jobId"] for one in ear.told if "jobId" in one} == {accepted["jobId"]}, "one job, for its caller"
    await eventually(lambda: reported(pool, [job["id"] for job in jobs]))
    assert {one["stateId"] for one in ear.told if one["type"] == "state:updated"} == {accepted["stateId"]}
    await eventually(lambda: kinds(ear).count("state:updated") == 7)  # an iteration may begin before the last is told
    assert kinds(ear).count("job:started") == 1
    status = data(await room.get(f"/api/deep-research/status/{accepted['messageId']}"))
    assert (status["state"], status["jobId"]) == ("completed", accepted["jobId"])


async def test_an_iteration_that_failed_is_repeated_alone(plain: Room, provider: OpenAIServer, pool: Pool) -> None:
    answers, failed = researcher(questions=1), set[str]()

    def once(call: Call) -> Reply:
        stage = stage_of(call)
        if stage == "analysis" and stage not in failed:
            failed.add(stage)
            return broken()
        reply: Reply = answers(call)
        return reply

    provider.always(once)
    accepted = await plain.research()
    found = await plain.ended(accepted)
    assert Counter(stage_of(call) for call in provider.calls) == {
        **dict.fromkeys(("plan", "literature_search", "writing"), 1),
        "analysis": 2,
    }
    assert found["usage"]["inputTokens"] == 400
    assert [note["number"] for note in found["state"]["notes"]] == [1, 2, 3, 4]


async def test_a_research_that_failed_goes_on_where_it_stopped(plain: Room, provider: OpenAIServer) -> None:
    answers = researcher(questions=1)
    provider.always(lambda call: unauthorized() if stage_of(call) == "writing" else answers(call))
    accepted = await plain.research()
    found = await plain.ended(accepted, "failed")
    assert found["errorKind"] == "auth" and len(found["state"]["notes"]) == 3
    provider.always(answers)
    again = data(await plain.post(f"/api/messages/{accepted['messageId']}/retry"), 202)
    assert again["stateId"] == accepted["stateId"]
    await plain.ended(again)
    assert [stage_of(call) for call in provider.calls][-2:] == ["writing", "writing"], "nothing else is asked again"


async def test_the_end_of_a_research_is_told_by_who_makes_it(plain: Room, provider: OpenAIServer) -> None:
    await plain.runtime.maintenance.stop()  # its chore tells what nobody else has told
    provider.always(researcher(questions=1))
    accepted = await plain.research()
    ear = await plain.listen(accepted)
    await told(ear, "job:completed")
    assert kinds(ear).count("job:completed") == 1


async def test_a_research_is_cancelled_in_the_middle_of_an_iteration(room: Room, provider: OpenAIServer) -> None:
    answers = researcher(questions=3)
    provider.always(lambda call: Silence() if stage_of(call) == "analysis" else answers(call))
    accepted = await room.research()
    await provider.called(5)
    ear = await room.listen(accepted)
    found = data(await room.post(f"/api/messages/{accepted['messageId']}/cancel"))
    assert (found["status"], len(found["state"]["notes"])) == ("cancelled", 4), "what was found stays"
    await eventually(lambda: provider.open_calls == 0)
    assert (await told(ear, "job:failed"))["status"] == "cancelled"

    async def paid() -> bool:  # recorded by the attempt that was cut; the message had ended before
        return bool((await room.ended(accepted, "cancelled"))["usage"]["inputTokens"] > 400)

    await eventually(paid, message="the cut call was paid too")


async def test_a_research_is_cancelled_between_two_iterations(room: Room, provider: OpenAIServer, pool: Pool) -> None:
    answers, gate = (
        researcher(questions=3),
        Answer({"approach": "Think.", "questions": ["A?"]}, stop_after=0, stop="wait"),
    )
    provider.script(gate)
    provider.always(answers)
    accepted = await room.research()
    await provider.called()
    await room.runtime.engine.pause("deep-research")
    gate.go.set()

    async def planned() -> bool:
        return bool((await room.message(accepted))["state"]["iteration"] == 1)

    await eventually(planned)
    assert data(await room.post(f"/api/messages/{accepted['messageId']}/cancel"))["status"] == "cancelled"
    await room.runtime.engine.resume("deep-research")

    async def ended() -> bool:  # the message is told of its iteration before the job that made it is over
        rows = await pool.fetch("SELECT state FROM jobs WHERE queue = 'deep-research' ORDER BY seq")
        return [row["state"] for row in rows] == ["completed", "cancelled"]

    await eventually(ended)
    assert len(provider.calls) == 1


async def test_a_budget_that_is_used_up_begins_no_iteration(database_url: str, provider: OpenAIServer) -> None:
    provider.always(lambda _: Answer({"approach": "A.", "questions": ["A?"]}, input_tokens=10_000_000))
    async with conversing(database_url, provider, deep_research_budget_cents=100) as room:
        found = await room.ended(await room.research(), "failed")
        assert (found["errorKind"], len(provider.calls), found["state"]["iteration"]) == ("budget", 1, 1)
        assert "100 US cents" in found["error"]
        again = await room.post(f"/api/messages/{found['id']}/retry")
        assert "begin a new research" in refused(again, 409, "budget_used_up")["message"]
        assert (await room.message({"messageId": found["id"]}))["status"] == "failed"


async def test_its_iterations_are_bounded(database_url: str, provider: OpenAIServer) -> None:
    provider.always(researcher(questions=6, further=6))
    async with conversing(database_url, provider, deep_research_max_iterations=5) as room:
        found = await room.ended(await room.research())
        assert [stage_of(call) for call in provider.calls] == [
            "plan",
            *["literature_search"] * 2,
            "analysis",
            "writing",
        ]
        assert found["state"]["iteration"] == 5


async def test_a_model_that_refuses_a_step_ends_the_research(plain: Room, provider: OpenAIServer, pool: Pool) -> None:
    """Its words are for whom it answered, not for everybody who sees jobs."""
    provider.script(Answer("", refusal="I will not."))
    found = await plain.ended(await plain.research(), "failed")
    assert found["error"] == "the model refused: I will not."

    async def settled() -> bool:
        job = await pool.fetchrow("SELECT state, error, errors::text FROM jobs WHERE queue = 'deep-research'")
        assert job is not None
        assert (job["state"], job["error"]) == ("failed", "refusal: the model refused")
        return "I will not" not in job["errors"]

    await eventually(settled)
    assert (found["errorKind"], len(provider.calls)) == ("refusal", 1)
    assert found["usage"]["inputTokens"] == 100


async def test_what_no_database_takes_is_mended(plain: Room, provider: OpenAIServer) -> None:
    provider.script(Answer("A\x00B"), Answer({"approach": "A\x00B", "questions": ["\x00?"]}))
    assert (await plain.ended(await plain.ask()))["answer"] == "A\ufffdB"
    provider.always(researcher())
    found = await plain.ended(await plain.research())
    assert found["state"]["plan"]["approach"] == "A\ufffdB"


# Off


async def test_off_means_nothing_is_there(database_url: str, provider: OpenAIServer) -> None:
    async with conversing(database_url, provider, gateway_profiles="") as room:
        assert room.runtime.engine.registry.queue_names == ("email-queue", "orchestration-queue")
        refused(await room.post("/api/chat", body={"message": "Hi"}), 404, "not_found")
        refused(await room.get("/api/conversations"), 404, "not_found")
    async with conversing(database_url, provider, gateway_profiles="chat") as room:
        assert room.runtime.engine.registry.queue_names[2:] == ("chat",)
        await room.ended(await room.ask())
        refused(await room.post("/api/deep-research/start", body={"message": "Hi"}), 404, "not_found")


async def test_queues_may_be_left_to_other_processes(database_url: str, provider: OpenAIServer) -> None:
    async with conversing(database_url, provider, gateway_queues="email") as front:
        accepted = await front.ask()
        async with conversing(database_url, provider, gateway_queues="chat") as back:
            assert [worker.policy.name for worker in back.runtime.workers] == ["chat"]
            await front.ended(accepted)
