"""Finding jobs: what each way of asking finds, how pages follow each other, and what is read for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.jobs import search
from gateway.jobs.job import JobState, NewJob
from gateway.jobs.records import Records
from gateway.jobs.search import SQL, Found, JobFilter, Search
from gateway.jobs.store import Store

Pool = asyncpg.Pool
QUEUES = ("email-queue", "orchestration-queue")
TOMORROW = timedelta(days=1)


@pytest.fixture
def finder(pool: Pool) -> Search:
    return Search(pool, Records(pool))


async def insert(pool: Pool, count: int, queue: str = "email-queue", **fields: Any) -> list[UUID]:
    jobs = [
        NewJob(id=uuid7(), queue=queue, task="email.send", args={"userId": n, "to": [{"name": f"u{n}"}]}, **fields)
        for n in range(count)
    ]
    return [done.id for done in await Store(pool, "test", 30_000).insert(jobs, [3] * count)]


async def set_state(pool: Pool, state: str, ids: list[UUID], error: str | None = None) -> None:
    await pool.execute(
        "UPDATE jobs SET state = $1, error = $2, finished_at = now() WHERE id = ANY ($3)", state, error, ids
    )


async def ids_of(finder: Search, *queues: str, limit: int = 50, **fields: Any) -> list[UUID]:
    return (await finder.find(queues or QUEUES, JobFilter(**fields), None, limit)).ids


async def all_pages(finder: Search, wanted: JobFilter, limit: int) -> tuple[list[UUID], list[Found]]:
    ids: list[UUID] = []
    pages: list[Found] = []
    after: UUID | None = None
    while True:
        page = await finder.find(QUEUES, wanted, after, limit)
        pages.append(page)
        ids += page.ids
        after = page.following
        if after is None:
            return ids, pages


async def test_by_state_and_queue(pool: Pool, finder: Search) -> None:
    ids = await insert(pool, 6)
    other = await insert(pool, 2, queue="orchestration-queue")
    await set_state(pool, "failed", [ids[0], ids[3], other[1]])
    await set_state(pool, "cancelled", [ids[1]])
    assert await ids_of(finder, states=(JobState.FAILED,)) == [other[1], ids[3], ids[0]]
    assert await ids_of(finder, "email-queue", states=(JobState.FAILED,)) == [ids[3], ids[0]]
    assert await ids_of(finder, states=(JobState.FAILED, JobState.CANCELLED)) == [other[1], ids[3], ids[1], ids[0]]
    assert await ids_of(finder, "orchestration-queue") == [other[1], other[0]]
    assert await ids_of(finder) == sorted([*ids, *other], reverse=True)


async def test_by_id_and_by_its_beginning(pool: Pool, finder: Search) -> None:
    ids = await insert(pool, 3)
    assert await ids_of(finder, id=ids[1].hex) == [ids[1]]
    assert await ids_of(finder, id=ids[1].hex[:30]) == [ids[1]]
    assert await ids_of(finder, id=ids[0].hex[:6]) == ids[::-1]
    assert await ids_of(finder, id=uuid7().hex) == []
    assert await ids_of(finder, "orchestration-queue", id=ids[1].hex) == []


async def test_by_key_whatever_became_of_the_job(pool: Pool, finder: Search) -> None:
    [old] = await insert(pool, 1, dedupe_key="order-1")
    await set_state(pool, "completed", [old])
    [new] = await insert(pool, 1, dedupe_key="order-1")
    await insert(pool, 1, dedupe_key="order-2")
    assert await ids_of(finder, key="order-1") == [new, old]
    assert await ids_of(finder, key="order-1", states=(JobState.COMPLETED,)) == [old]
    page = await finder.find(QUEUES, JobFilter(key="order-1"), None, 1)
    assert (page.ids, page.following) == ([new], new)
    assert (await finder.find(QUEUES, JobFilter(key="order-1"), new, 1)).ids == [old]


async def test_by_a_part_of_the_error_in_any_case(pool: Pool, finder: Search) -> None:
    ids = await insert(pool, 3)
    await set_state(pool, "failed", ids[:1], "SMTPError: 550 No such user 100%")
    await set_state(pool, "failed", ids[1:2], "TimeoutError")
    assert await ids_of(finder, error="no SUCH") == [ids[0]]
    assert await ids_of(finder, error="100%") == [ids[0]]
    assert await ids_of(finder, error="%") == [ids[0]]
    assert await ids_of(finder, error="_") == await ids_of(finder, error="\\") == []
    assert await ids_of(finder, error="no * 100") == [ids[0]]
    assert await ids_of(finder, error="100*no such") == []
    assert await ids_of(finder, error="^such") == await ids_of(finder, error="no$") == []
    await set_state(pool, "waiting", ids[:1], "550 No such user")
    assert await ids_of(finder, error="no such") == []
    assert await ids_of(finder, error="no such", states=(JobState.WAITING,)) == [ids[0]]


async def test_by_a_place_in_the_argument(pool: Pool, finder: Search) -> None:
    ids = await insert(pool, 3)
    assert await ids_of(finder, path="userId", value="2") == [ids[2]]
    assert await ids_of(finder, path="to.0.name", value="u1") == [ids[1]]
    assert await ids_of(finder, path="to.9.name", value="u1") == []


async def test_by_time_of_acceptance(pool: Pool, finder: Search) -> None:
    ids = await insert(pool, 3)
    moments = [row["created_at"] for row in await pool.fetch("SELECT created_at FROM jobs ORDER BY id")]
    await pool.execute("UPDATE jobs SET created_at = $1 WHERE id = $2", moments[0] - timedelta(minutes=5), ids[0])
    since = moments[0] - timedelta(minutes=1)
    assert await ids_of(finder, since=since) == [ids[2], ids[1]]
    assert await ids_of(finder, until=since) == [ids[0]]
    assert await ids_of(finder, since=datetime.now(UTC) + TOMORROW) == []


@pytest.mark.parametrize("states", [(), (JobState.FAILED,), (JobState.WAITING, JobState.FAILED)])
async def test_pages_hold_each_job_once(pool: Pool, finder: Search, states: tuple[JobState, ...]) -> None:
    ids = await insert(pool, 11)
    await set_state(pool, "failed", ids, "no")
    found, pages = await all_pages(finder, JobFilter(states=states), 3)
    assert found == ids[::-1]
    assert [len(page.ids) for page in pages] == [3, 3, 3, 2]
    assert all(page.complete for page in pages)


@pytest.mark.parametrize("states", [(), (JobState.FAILED,)])
async def test_a_search_says_where_it_stopped_and_the_next_page_goes_on(
    pool: Pool, finder: Search, states: tuple[JobState, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "DEPTH", 10)
    ids = await insert(pool, 35)
    await set_state(pool, "failed", ids, "no")
    await set_state(pool, "failed", [ids[0], ids[20]], "rare")
    found, pages = await all_pages(finder, JobFilter(error="rare", states=states), 5)
    assert found == [ids[20], ids[0]]
    assert [(len(page.ids), page.searched, page.complete) for page in pages] == [
        (0, 10, False),
        (1, 10, False),
        (0, 10, False),
        (1, 5, True),
    ]


async def test_what_a_word_means(pool: Pool, finder: Search) -> None:
    [job_id] = await insert(pool, 1, dedupe_key="beef")
    meanings = {
        str(job_id): JobFilter(id=job_id.hex),
        job_id.hex[:8].upper(): JobFilter(id=job_id.hex[:8]),
        "beef": JobFilter(key="beef"),
        "timeout": JobFilter(error="timeout"),
        "args.to.0.name:u:0": JobFilter(path="to.0.name", value="u:0"),
        "key:nobody": JobFilter(key="nobody"),
        "error: beef": JobFilter(error="beef"),
        "id:0192-beef": JobFilter(id="0192beef"),
        "SMTPError: 550": JobFilter(error="SMTPError: 550"),
    }
    assert {text: await finder.interpret(text, QUEUES) for text in meanings} == meanings


@pytest.mark.parametrize("text", ["", "args.userId", "args.:7", "args.a..b:7", "id:xyz", "key:", "a\x00b", "x" * 201])
async def test_words_that_mean_nothing(finder: Search, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        await finder.interpret(text, QUEUES)


async def test_counts_are_exact(pool: Pool, finder: Search) -> None:
    ids = await insert(pool, 9)
    await set_state(pool, "failed", ids[:4], "no such user")
    both = (JobState.FAILED, JobState.WAITING)
    assert await finder.count("email-queue", JobFilter(states=both)) == 9
    assert await finder.count("email-queue", JobFilter(states=both, error="such")) == 4
    assert await finder.count("email-queue", JobFilter(states=both, path="userId", value="5")) == 1
    assert await finder.count("orchestration-queue", JobFilter(states=both)) == 0


async def test_J_searching_ends_with_the_page_and_not_with_the_table(pool: Pool, finder: Search) -> None:
    """The page of a table of 30,000 jobs reads a fraction of it, in each of the three ways."""
    for _ in range(15):
        await insert(pool, 2000)
    failed = [row["id"] for row in await pool.fetch("SELECT id FROM jobs ORDER BY id LIMIT 12000")]
    await set_state(pool, "failed", failed, "no")
    await pool.execute("ANALYZE jobs")
    everything = list(JobState)
    ways = {
        "search_newest": (SQL["search_newest"], QUEUES, everything, 10_000),
        "search_set_aside": (SQL["search_set_aside"], QUEUES, ["failed", "delayed"], 51),
        "search_few": (SQL["search_few"], ["orchestration-queue"], everything, 10_000),
    }
    whole = await pool.fetchval("SELECT pg_relation_size('jobs') / 8192")
    for name, (statement, queues, states, depth) in ways.items():
        given = (queues, states, UUID(int=0), UUID(int=2**128 - 1), None, None, None, None, None, depth, 51)
        plan = (await pool.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *given))[0][0][0]["Plan"]
        read = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        assert read < whole / 10, f"{name} read {read} of {whole} blocks\n{plan}"


async def test_by_group(pool: Pool, finder: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    acme = await insert(pool, 5, group="acme")
    keyed = await insert(pool, 1, group="acme", dedupe_key="monthly")
    elsewhere = await insert(pool, 2, queue="orchestration-queue", group="acme")
    await insert(pool, 3, group="other")
    await insert(pool, 3)
    await set_state(pool, "failed", acme[:2], "550 no such user")
    assert await ids_of(finder, group="acme") == [*acme, *keyed, *elsewhere][::-1]
    assert await ids_of(finder, "orchestration-queue", group="acme") == elsewhere[::-1]
    assert await ids_of(finder, group="acme", error="no such") == acme[:2][::-1]
    assert await ids_of(finder, group="acme", key="monthly") == keyed
    assert await ids_of(finder, group="acme", states=(JobState.FAILED,), path="userId", value="1") == [acme[1]]
    assert await ids_of(finder, group="nobody") == []
    assert await finder.interpret("group:acme", QUEUES) == JobFilter(group="acme")
    assert await finder.count("email-queue", JobFilter(group="acme")) == 0  # of no state: nothing
    assert await finder.count("email-queue", JobFilter(group="acme", states=tuple(JobState))) == 6
    monkeypatch.setattr(search, "DEPTH", 3)
    ids, pages = await all_pages(finder, JobFilter(group="acme", states=(JobState.FAILED,)), 50)
    assert ids == acme[:2][::-1]
    assert [page.complete for page in pages] == [False, False, True]


async def test_J_a_group_s_search_ends_with_the_page(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts, group_key) SELECT gen_random_uuid(), "
        "'email-queue', 'email.send', 'completed', '{}', 3, 'g' || n % 3 FROM generate_series(1, 30000) n"
    )
    low, high = UUID(int=0), UUID(int=2**128 - 1)
    for vacuumed in (False, True):
        if vacuumed:
            await pool.execute("VACUUM ANALYZE jobs")
        rows = await pool.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) {SQL['search_group']}",
            *(["email-queue"], ["completed"], low, high, None, None, None, None, None, 51, 51, "g1", None),
        )
        plan = "\n".join(row[0] for row in rows)
        assert "jobs_groups" in plan and "Seq Scan on jobs" not in plan, plan
