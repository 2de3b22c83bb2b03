"""Idempotency keys: a repeated request gets the first answer, and its work is done once."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from gateway.idempotency import Answer, Connection, prune_answers, request_hash, run_idempotent
from gateway.problem import Problem

Pool = asyncpg.Pool  # generic for type checkers only
REQUEST = request_hash("POST", "/api/v1/emails", b'{"to":"a"}')


class Work:
    """Leaves a row, so that a rolled-back run is seen to leave none."""

    def __init__(self, status: int = 202) -> None:
        self.runs = 0
        self.status = status
        self.failure: Exception | None = None
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, connection: Connection) -> Answer:
        self.runs += 1
        await connection.execute("INSERT INTO queues (name) VALUES ($1)", f"run {self.runs}")
        self.entered.set()
        await self.go_on.wait()
        if self.failure is not None:
            raise self.failure
        return Answer.of(self.status, {"run": self.runs})


async def done(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM queues"))


async def code_of(refused: pytest.ExceptionInfo[Problem]) -> tuple[int, str]:
    return refused.value.status, refused.value.code


async def test_the_first_answer_is_given_again_and_the_work_done_once(pool: Pool) -> None:
    work = Work()
    first = await run_idempotent(pool, "u1", "k", REQUEST, work)
    again = await run_idempotent(pool, "u1", "k", REQUEST, work)
    assert (first.status, json.loads(first.body), first.replayed) == (202, {"run": 1}, False)
    assert (again.status, again.body, again.replayed) == (202, first.body, True)
    assert again.response().headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.response().headers
    assert work.runs == await done(pool) == 1


async def test_without_a_key_each_request_is_its_own(pool: Pool) -> None:
    work = Work()
    await run_idempotent(pool, "u1", None, REQUEST, work)
    await run_idempotent(pool, "u1", None, REQUEST, work)
    assert work.runs == await done(pool) == 2


async def test_keys_of_different_callers_do_not_meet(pool: Pool) -> None:
    work = Work()
    await run_idempotent(pool, "u1", "k", REQUEST, work)
    await run_idempotent(pool, "u2", "k", REQUEST, work)
    assert work.runs == 2


@pytest.mark.parametrize(
    "other",
    [
        request_hash("POST", "/api/v1/emails", b'{"to":"b"}'),
        request_hash("POST", "/api/v1/emails/batch", b'{"to":"a"}'),
    ],
)
async def test_a_key_is_good_for_one_request_only(other: bytes, pool: Pool) -> None:
    work = Work()
    await run_idempotent(pool, "u1", "k", REQUEST, work)
    with pytest.raises(Problem) as refused:
        await run_idempotent(pool, "u1", "k", other, work)
    assert await code_of(refused) == (409, "invalid_idempotent_request")
    assert work.runs == 1


async def test_two_at_the_same_moment(pool: Pool) -> None:
    work = Work()
    work.go_on.clear()
    first = asyncio.create_task(run_idempotent(pool, "u1", "k", REQUEST, work))
    await work.entered.wait()
    with pytest.raises(Problem) as refused:
        await run_idempotent(pool, "u1", "k", REQUEST, work)
    assert await code_of(refused) == (409, "concurrent_idempotent_requests")
    assert refused.value.headers["Retry-After"] == "1"
    work.go_on.set()
    assert not (await first).replayed
    assert (await run_idempotent(pool, "u1", "k", REQUEST, work)).replayed
    assert work.runs == await done(pool) == 1


async def test_many_at_the_same_moment_do_the_work_once(pool: Pool) -> None:
    work = Work()
    asked = [run_idempotent(pool, "u1", "k", REQUEST, work) for _ in range(20)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert work.runs == await done(pool) == 1
    assert sum(isinstance(answer, Answer) and not answer.replayed for answer in answers) == 1
    assert all(isinstance(answer, Answer | Problem) for answer in answers)


@pytest.mark.parametrize("failure", [Problem(422, "missing_content", "no text"), RuntimeError("broken")])
async def test_failures_keep_nothing_and_may_be_repeated(failure: Exception, pool: Pool) -> None:
    work = Work()
    work.failure = failure
    with pytest.raises(type(failure)):
        await run_idempotent(pool, "u1", "k", REQUEST, work)
    assert await done(pool) == 0
    work.failure = None
    assert not (await run_idempotent(pool, "u1", "k", REQUEST, work)).replayed


async def test_answers_that_are_no_success_are_not_kept(pool: Pool) -> None:
    work = Work(status=503)
    await run_idempotent(pool, "u1", "k", REQUEST, work)
    await run_idempotent(pool, "u1", "k", REQUEST, work)
    assert work.runs == 2


@pytest.mark.parametrize("key", ["", "k" * 257, "a\nb", "a\x00b", "\x7f"])
async def test_bad_keys(key: str, pool: Pool) -> None:
    with pytest.raises(Problem) as refused:
        await run_idempotent(pool, "u1", key, REQUEST, Work())
    assert await code_of(refused) == (400, "invalid_idempotency_key")


async def test_the_longest_key_is_taken(pool: Pool) -> None:
    assert not (await run_idempotent(pool, "u1", "k" * 256, REQUEST, Work())).replayed


async def test_answers_are_kept_24_hours_then_pruned(pool: Pool) -> None:
    work = Work()
    for key in ("old", "young"):
        await run_idempotent(pool, "u1", key, REQUEST, work)
    await pool.execute("UPDATE idempotency_keys SET created_at = now() - interval '86300 s' WHERE key = 'young'")
    await pool.execute("UPDATE idempotency_keys SET created_at = now() - interval '86401 s' WHERE key = 'old'")
    assert (await run_idempotent(pool, "u1", "young", REQUEST, work)).replayed
    other = request_hash("POST", "/api/v1/emails", b"another")
    assert not (await run_idempotent(pool, "u1", "old", other, work)).replayed
    assert (await run_idempotent(pool, "u1", "old", other, work)).replayed
    await prune_answers(pool)
    assert await pool.fetchval("SELECT count(*) FROM idempotency_keys") == 2
    await pool.execute("UPDATE idempotency_keys SET created_at = now() - interval '2 days' WHERE key = 'old'")
    await prune_answers(pool)
    assert [row["key"] for row in await pool.fetch("SELECT key FROM idempotency_keys")] == ["young"]
