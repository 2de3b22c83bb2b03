"""Finding jobs by their tags and by what their feature knows of them: whom a mail goes to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio

from gateway.access import Role
from gateway.infra.uuid7 import uuid7
from gateway.jobs import search
from gateway.jobs.candidates import by_tag
from gateway.jobs.job import NewJob
from gateway.jobs.records import Records
from gateway.jobs.search import JobFilter, Search
from gateway.jobs.store import SQL, Store
from gateway.runtime import Runtime
from gateway.services.email.store import SQL as MAIL_SQL
from tests.integration.test_jobs_admin import token
from tests.integration.test_search import QUEUES, all_pages, insert, set_state
from tests.support.eventually import eventually
from tests.support.web import serving, settings_for

Pool = asyncpg.Pool
LOW, HIGH = UUID(int=0), UUID(int=2**128 - 1)


@pytest.fixture
def finder(pool: Pool) -> Search:
    return Search(pool, Records(pool))


async def ids_of(finder: Search, **fields: Any) -> list[UUID]:
    return (await finder.find(QUEUES, JobFilter(**fields), None, 50)).ids


async def test_by_tag_alone_and_with_everything_else(pool: Pool, finder: Search) -> None:
    await insert(pool, 2)
    pro = await insert(pool, 2, tags=("plan:pro", "vip"))
    (keyed,) = await insert(pool, 1, tags=("plan:pro",), dedupe_key="k")
    (other,) = await insert(pool, 1, "orchestration-queue", tags=("plan:pro",), group="acme")
    await set_state(pool, "failed", [pro[0]], "no such host")
    assert await ids_of(finder, tag="plan:pro") == [other, keyed, pro[1], pro[0]]
    assert await ids_of(finder, tag="vip") == [pro[1], pro[0]]
    assert await ids_of(finder, tag="plan") == []
    assert await ids_of(finder, tag="plan:pro", states=("failed",)) == [pro[0]]
    assert await ids_of(finder, tag="plan:pro", error="NO SUCH") == [pro[0]]
    assert await ids_of(finder, tag="plan:pro", key="k") == [keyed]
    assert await ids_of(finder, tag="plan:pro", group="acme") == [other]
    assert await ids_of(finder, tag="plan:pro", path="userId", value="1") == [pro[1]]
    assert await ids_of(finder, tag="plan:pro", id=keyed.hex) == [keyed]
    assert (await finder.find(["email-queue"], JobFilter(tag="plan:pro"), None, 50)).ids == [keyed, pro[1], pro[0]]
    assert await finder.count("email-queue", JobFilter(tag="plan:pro")) == 3


@pytest.mark.parametrize("depth", [5, 1000])
async def test_pages_of_a_tag_hold_each_job_once(
    pool: Pool, finder: Search, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    """Few by the index, many among the newest."""
    monkeypatch.setattr(search, "DEPTH", depth)
    wanted = []
    for _ in range(6):
        wanted += await insert(pool, 2, tags=("t",))
        await insert(pool, 1)
    ids, pages = await all_pages(finder, JobFilter(tag="t"), 3)
    assert ids == wanted[::-1]
    assert all(page.complete for page in pages) is (depth == 1000)
    assert await finder.count("email-queue", JobFilter(tag="t")) == 12


async def test_about_is_what_a_finder_knows(pool: Pool, finder: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "DEPTH", 4)
    jobs = await insert(pool, 10, tags=("t",))

    async def know(word: str, below: UUID, limit: int) -> list[UUID]:
        return [job for job in jobs[::-1] if job < below and word == "ada"][:limit]

    finder.learn("owner", know)
    ids, pages = await all_pages(finder, JobFilter(about={"owner": "ada"}, tag="t"), 3)
    assert ids == jobs[::-1]
    assert len(pages) > 3
    assert await finder.count("email-queue", JobFilter(about={"owner": "ada"})) == 10
    assert await ids_of(finder, about={"owner": "bob"}) == []


async def test_J_a_tag_and_a_recipient_are_found_without_reading_all_jobs(pool: Pool, finder: Search) -> None:
    """100,000 jobs with tags: a rare tag is read by its index, one that all have ends with the page."""
    store = Store(pool, "test", 30_000)
    everywhere = ("everywhere",)
    await pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts, tags)"
        " SELECT gen_random_uuid(), 'email-queue', 't', 'waiting', '{}', 3, $1 FROM generate_series(1, 100000)",
        everywhere,
    )
    rare = [NewJob(id=uuid7(), queue="email-queue", task="t", args={}, tags=("rare",)) for _ in range(3)]
    await store.insert(rare, [3] * 3)
    await pool.execute("VACUUM ANALYZE jobs")
    whole = await pool.fetchval("SELECT pg_relation_size('jobs') / 8192")
    assert len((await by_tag(pool, "rare", LOW, HIGH, search.DEPTH)).ids) == 3
    assert len((await finder.find(QUEUES, JobFilter(tag="everywhere"), None, 50)).ids) == 50
    assert await blocks(pool, SQL["search_tag"], "rare", LOW, HIGH, 10_001) < 50
    assert await blocks(pool, SQL["search_tag"], "everywhere", LOW, HIGH, 10_001) < whole / 2
    ids = [job.id for job in rare] + [row["id"] for row in await pool.fetch("SELECT id FROM jobs LIMIT 997")]
    residual = (None, None, None, None, None, None, None, None)
    assert await blocks(pool, SQL["search_among"], QUEUES, [], LOW, HIGH, *residual, ids, 51) < 10 * len(ids)


async def test_J_the_mails_of_an_address_are_read_newest_first(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO emails (id, job_id, owner, status, from_address, to_addresses, subject, message_id)"
        " SELECT gen_random_uuid(), gen_random_uuid(), 'o', 'sent', 'a', '{}', 's', 'm' FROM generate_series(1, 20000)"
    )
    await pool.execute(
        "INSERT INTO email_recipients (email_id, address, position, kind)"
        " SELECT id, 'Ada@example.com', 0, 'to' FROM emails"
    )
    await pool.execute("ANALYZE")
    read = await blocks(pool, MAIL_SQL["find_jobs_of_recipient"], "ada@example.com", HIGH, 50)
    assert read < 400, "the page's, not the address's"


async def blocks(pool: Pool, statement: str, *given: object) -> int:
    plan = (await pool.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *given))[0][0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[tuple[httpx.AsyncClient, Runtime]]:
    """Without workers: jobs stay where the tests put them."""
    async with serving(settings_for(database_url, gateway_role="api")) as (client, runtime):
        client.headers["Authorization"] = f"Bearer {token(runtime, Role.ADMIN)}"
        yield client, runtime


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings_for(shared_database_url, gateway_role="api")) as (client, runtime):
        client.headers["Authorization"] = f"Bearer {token(runtime, Role.ADMIN)}"
        yield client


async def sent(client: httpx.AsyncClient, **fields: Any) -> str:
    """Accept a mail; answers its job's id."""
    body = {"from": "shop@shop.example", "to": "ada@example.com", "subject": "s", "text": "t", **fields}
    answer = await client.post("/api/v1/emails", json=body)
    assert answer.status_code == 202, answer.text
    mail = await client.get(f"/api/v1/emails/{answer.json()['data']['id']}")
    return str(mail.json()["data"]["jobId"])


async def found(client: httpx.AsyncClient, path: str = "queues/email/jobs", **query: str) -> list[str]:
    answer = await client.get(f"/api/v1/admin/{path}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.json()["page"].get("complete", True) is True
    return [job["id"] for job in answer.json()["data"]]


async def test_mails_are_found_by_tag_and_recipient(app: tuple[httpx.AsyncClient, Runtime]) -> None:
    client, _ = app
    first = await sent(client, to="Ada <Ada@example.com>", tags=[{"name": "plan", "value": "pro"}, {"name": "vip"}])
    second = await sent(client, to="bob@example.com", cc=["ada@example.com"], tags=[{"name": "plan", "value": "pro"}])
    third = await sent(client, to="bob@example.com")
    assert await found(client, tag="plan:pro") == [second, first]
    assert await found(client, tag="vip") == [first]
    assert await found(client, recipient="ADA@example.com") == [second, first]
    assert await found(client, "jobs", recipient="bob@example.com") == [third, second]
    assert await found(client, recipient="bob@example.com", tag="plan:pro") == [second]
    assert await found(client, recipient="bob@example.com", state="failed") == []
    assert await found(client, recipient="nobody@example.com") == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("tag", value) for value in ("", "x" * 401, "a\nb", "a\x00")),
        *(("recipient", value) for value in ("", "ada", "@example.com", "Ada <ada@example.com>", "a" * 250 + "@b.de")),
    ],
)
async def test_bad_values_are_named(shared: httpx.AsyncClient, field: str, value: str) -> None:
    answer = await shared.get("/api/v1/admin/jobs", params={field: value})
    assert answer.status_code == 400, answer.text
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    bulk = {"action": "cancel", "filter": {field: value}}
    answer = await shared.post("/api/v1/admin/queues/email/bulk", json=bulk)
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [f"filter.{field}"]


async def test_many_mails_are_cancelled_by_recipient_and_the_trail_masks_it(
    app: tuple[httpx.AsyncClient, Runtime],
) -> None:
    client, runtime = app
    to_ada = [await sent(client) for _ in range(3)]
    to_bob = await sent(client, to="bob@example.com")
    path = "/api/v1/admin/queues/email/bulk"
    asked = {"action": "cancel", "filter": {"recipient": "ada@example.com"}}
    assert (await client.post(path, json=asked | {"dryRun": True})).json()["data"] == {"count": 3}
    assert (await client.post(path, json=asked)).status_code == 202

    async def cancelled() -> bool:
        return set(await found(client, state="cancelled")) == set(to_ada)

    await eventually(lambda: found(client, state="waiting", recipient="bob@example.com"))
    await eventually(cancelled)
    assert await found(client, state="waiting") == [to_bob]
    trail = await runtime.pool.fetch("SELECT detail FROM admin_audit WHERE action = 'queue.bulk'")
    assert trail[0]["detail"]["filter"] == {"recipient": "a***@example.com"}
