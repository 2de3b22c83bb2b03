"""Lanes and limits of models: in the ledger, so that they hold over all replicas. Two ``Models`` are two replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TypeAlias

import asyncpg
import pytest

from gateway.infra.postgres import close_pool, open_pool
from gateway.infra.uuid7 import uuid7
from gateway.llm import ModelsComponent
from gateway.llm.model import ModelBusy, ModelError, ModelFailed, ModelRequest
from gateway.llm.said import RETRY_AFTER_MAX_S, retry_after_s
from gateway.llm.store import FAILURES_MAX, FIRST_REST_S, PROBE_S, SQL, LaneStore
from tests.support.eventually import eventually
from tests.support.models import KEY, ask, asking
from tests.support.openai_server import Answer, OpenAIServer, Silence, broken, openai_server, overloaded, rate_limited

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
END_OF_REST = "UPDATE model_lanes SET paused_until = now() WHERE paused_until IS NOT NULL"
SOON_THE_END_OF_REST = "UPDATE model_lanes SET paused_until = now() + interval '500 ms' WHERE paused_until IS NOT NULL"
LIMIT = "INSERT INTO model_limits VALUES ($1, $2, $3, 'test')"  # model, requests and tokens a minute
HELD = "SELECT count(*) FROM pg_stat_activity WHERE state ~ 'in transaction' AND datname = current_database()"
A_MINUTE_LATER = "UPDATE model_calls SET at = at - interval '1 minute'"


@asynccontextmanager
async def replicas(pool: Pool) -> AsyncIterator[tuple[OpenAIServer, ModelsComponent, ModelsComponent]]:
    async with openai_server() as provider:
        settings = {"openai_api_key": KEY, "openai_base_url": provider.url, "anthropic_api_key": KEY}
        settings["anthropic_base_url"] = provider.url
        async with asking(pool, **settings) as first, asking(pool, **settings) as second:
            yield provider, first, second


async def busy(models: ModelsComponent, request: ModelRequest | None = None) -> float:
    """It is busy; for how many seconds."""
    with pytest.raises(ModelBusy) as raised:
        await models.complete(request or ask())
    return raised.value.after_s


async def fails(models: ModelsComponent) -> None:
    with pytest.raises(ModelFailed):
        await models.complete(ask())


async def test_a_429_pauses_the_provider_s_lane_for_every_replica_and_ends_by_itself(pool: Pool) -> None:
    async with replicas(pool) as (provider, first, second):
        provider.script(rate_limited("30"))
        assert 20 < await busy(first) <= 30
        assert await busy(second) <= 30
        assert await busy(second, ask(model="gpt-4.1")) <= 30  # the lane is the provider's, not the model's
        assert len(provider.calls) == 1  # nobody asked it meanwhile
        assert (await second.complete(ask(model="claude-haiku-4-5"))).provider == "anthropic"
        await pool.execute(SOON_THE_END_OF_REST)

        async def answers() -> bool:
            try:
                return (await second.complete(ask())).text == "Fine."
            except ModelBusy:
                return False

        await eventually(answers)


async def test_a_date_is_waited_for(pool: Pool) -> None:
    async with replicas(pool) as (provider, first, _):
        provider.script(rate_limited(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)))
        assert 75 < await busy(first) <= 90


async def test_without_a_time_the_rests_grow_until_an_answer(pool: Pool) -> None:
    async with replicas(pool) as (provider, first, second):
        waits = []
        provider.script(rate_limited(), overloaded(), rate_limited(), rate_limited(), rate_limited(), rate_limited())
        for models in (first, second) * 3:
            waits.append(round(await busy(models)))
            await pool.execute(END_OF_REST)
        assert waits == [5, 10, 20, 40, 60, 60]
        await first.complete(ask())
        provider.script(rate_limited())
        assert round(await busy(second)) == 5


async def test_refusals_of_one_moment_are_one_rest(pool: Pool) -> None:
    async with replicas(pool) as (provider, first, second):
        provider.always(rate_limited())
        waits = await asyncio.gather(*(busy(models) for models in (first, second) * 5))
        assert all(2 < wait < 8 for wait in waits), waits  # of the one rest what is left to each; a second has 10
        assert await pool.fetchval("SELECT rests FROM model_lanes WHERE provider = 'openai'") == 1


async def test_an_answer_from_before_a_rest_does_not_end_it(pool: Pool) -> None:
    async with replicas(pool) as (provider, first, second):
        slow = Answer("Slow.", stop_after=0, stop="wait")
        provider.script(slow, rate_limited("30"))
        running = asyncio.create_task(first.complete(ask()))
        await provider.called(1)
        assert round(await busy(second)) == 30
        slow.go.set()
        assert (await running).text == "Slow."
        assert await busy(second) > 25


async def test_repeated_failures_open_the_breaker_and_one_call_tries_again(pool: Pool) -> None:
    async with replicas(pool) as (provider, first, second):
        provider.script(*[broken()] * FAILURES_MAX)
        for number in range(FAILURES_MAX):
            await fails((first, second)[number % 2])
        assert 10 < await busy(first) <= FIRST_REST_S
        assert len(provider.calls) == FAILURES_MAX

        await pool.execute(END_OF_REST)
        slow = Answer(stop_after=0, stop="wait")
        provider.script(slow)
        trying = asyncio.create_task(first.complete(ask()))
        await provider.called(FAILURES_MAX + 1)
        for models in (first, second):
            assert 0 < await busy(models) <= PROBE_S
        assert len(provider.calls) == FAILURES_MAX + 1
        slow.go.set()
        await trying
        assert (await second.complete(ask())).text == "Fine."  # at once


async def test_of_many_that_wait_for_the_end_of_a_rest_one_tries(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.llm.asking.PATIENT_S", 0.5)
    async with replicas(pool) as (provider, first, second):
        provider.script(*[broken()] * FAILURES_MAX)
        for _ in range(FAILURES_MAX):
            await fails(first)
        await pool.execute(END_OF_REST)
        provider.always(Silence())
        calls = [asyncio.create_task(models.complete(ask(deadline_s=3))) for models in (first, second) * 4]
        kinds = [type(error) for error in await asyncio.gather(*calls, return_exceptions=True)]
        assert sorted(kinds, key=str) == sorted([ModelFailed, *[ModelBusy] * 7], key=str)
        assert len(provider.calls) == FAILURES_MAX + 1
        assert FIRST_REST_S < await busy(first) <= 2 * FIRST_REST_S  # the next rest is longer


async def test_who_waits_too_short_a_time_closes_no_lane_and_opens_none(pool: Pool) -> None:
    async with replicas(pool) as (provider, first, second):
        provider.script(*[broken()] * (FAILURES_MAX - 1))
        for _ in range(FAILURES_MAX - 1):
            await fails(first)
        provider.always(Silence())
        for models in (first, second):
            with pytest.raises(ModelFailed) as raised:
                await models.complete(ask(deadline_s=0.2))
            assert raised.value.kind == "timeout"
        provider.always(broken())
        await fails(first)
        assert await busy(second) > 0  # what was counted before is not forgotten


async def test_a_bad_answer_is_not_the_provider_s_failure(pool: Pool) -> None:
    async with replicas(pool) as (provider, first, _):
        provider.always(Answer("half", finish_reason="length"))
        for _ in range(FAILURES_MAX + 1):
            await fails(first)
        assert len(provider.calls) == FAILURES_MAX + 1


async def test_requests_in_a_minute_are_limited_over_all_replicas(pool: Pool) -> None:
    await pool.execute(LIMIT, "gpt-5-mini", 3, None)
    async with replicas(pool) as (provider, first, second):
        calls = (models.complete(ask()) for models in (first, second) * 10)
        done = await asyncio.gather(*calls, return_exceptions=True)
        refused = [error for error in done if isinstance(error, ModelBusy)]
        assert (len(refused), len(provider.calls)) == (17, 3)
        assert all(50 < error.after_s <= 60 for error in refused)
        await first.complete(ask(model="gpt-5"))  # another model
        await pool.execute(A_MINUTE_LATER)
        await second.complete(ask())


async def test_tokens_are_reserved_before_a_call_and_settled_after_it(pool: Pool) -> None:
    await pool.execute(LIMIT, "gpt-5-mini", None, 1000)
    async with replicas(pool) as (provider, first, second):
        slow = Answer(stop_after=0, stop="wait", input_tokens=100, output_tokens=50)
        provider.script(slow)
        running = asyncio.create_task(first.complete(ask(max_output_tokens=800)))
        await provider.called(1)
        assert 50 < await busy(second, ask(max_output_tokens=300)) <= 60  # 800 and more are reserved
        slow.go.set()
        await running
        assert await pool.fetchval("SELECT sum(tokens) FROM model_calls") == 150
        await second.complete(ask(max_output_tokens=300))


async def test_a_call_larger_than_the_limit_waits_for_an_empty_minute(pool: Pool) -> None:
    await pool.execute(LIMIT, "gpt-5-mini", None, 500)
    async with replicas(pool) as (_, first, second):
        await first.complete(ask(max_output_tokens=4000))
        assert 50 < await busy(second, ask(max_output_tokens=4000)) <= 60
        await pool.execute(A_MINUTE_LATER)
        await second.complete(ask(max_output_tokens=4000))


async def test_the_wait_is_until_enough_tokens_are_free(pool: Pool) -> None:
    await pool.execute(LIMIT, "gpt-5-mini", None, 1000)
    seconds = (50, 30, 10)
    for ago in seconds:
        statement = "INSERT INTO model_calls VALUES ($1, 'gpt-5-mini', now() - $2 * interval '1 second', 300)"
        await pool.execute(statement, uuid7(), ago)
    store = LaneStore(pool)
    small, large = [await store.reserve("openai", "gpt-5-mini", uuid7(), tokens) for tokens in (350, 500)]
    assert (small.why, large.why) == ("tokens", "tokens")
    assert (small.wait_s, large.wait_s) == (pytest.approx(10, abs=5), pytest.approx(30, abs=5))


async def test_a_call_under_way_holds_no_lock(pool: Pool) -> None:
    """So a process that freezes in the middle of a call keeps nobody waiting."""
    await pool.execute(LIMIT, "gpt-5-mini", 100, 100_000)
    async with replicas(pool) as (provider, first, second):
        provider.script(Silence())
        frozen = asyncio.create_task(first.complete(ask()))
        await provider.called(1)
        assert await pool.fetchval(HELD) == 0
        async with asyncio.timeout(9):
            await second.complete(ask())
        frozen.cancel()
        await asyncio.gather(frozen, return_exceptions=True)


async def test_without_the_ledger_nothing_is_asked(unused_tcp_port: int) -> None:
    away = await open_pool(f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/none", min_size=0)
    try:
        async with replicas(away) as (provider, first, _):
            assert 0 < await busy(first) <= 5
            assert provider.calls == []
    finally:
        await close_pool(away)


async def test_an_answer_outlives_the_ledger(database_url: str) -> None:
    """What cannot be settled is logged; the answer is paid for and must not be lost."""
    own = await open_pool(database_url, min_size=0)
    async with replicas(own) as (provider, first, _):
        slow = Answer("Worth it.", stop_after=0, stop="wait")
        provider.script(slow)
        running = asyncio.create_task(first.complete(ask()))
        await provider.called(1)
        await close_pool(own)
        slow.go.set()
        assert (await running).text == "Worth it."


async def test_each_statement_prepares(pool: Pool) -> None:
    for name in SQL:
        async with pool.acquire() as connection:
            await connection.prepare(SQL[name])


async def test_errors_tell_their_kind(pool: Pool) -> None:
    async with replicas(pool) as (provider, first, _):
        provider.script(rate_limited("7"))
        with pytest.raises(ModelError) as raised:
            await first.complete(ask())
    assert raised.value.kind == "rate_limited"
    assert raised.value.spent.cost_micros == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20),
        ({"retry-after": "0"}, 0.1),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "999999999"}, RETRY_AFTER_MAX_S),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT"}, 30),
        ({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT"}, 0.1),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "inf", "retry-after": "3"}, 3),
        ({"retry-after-ms": "nan"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, datetime(2026, 11, 22, 10, tzinfo=UTC)) == seconds
