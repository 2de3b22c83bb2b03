"""What retention takes of mails, runs, conversations and the audit trail, and what it leaves alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx
import pytest

from gateway.infra.uuid7 import uuid7
from gateway.runtime import Runtime
from tests.support.people import data, refused
from tests.support.run_rows import project_row
from tests.support.web import ADMIN, serving, settings_for

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Served: TypeAlias = tuple[httpx.AsyncClient, Runtime]
ENDED = ("sent", "delivered", "bounced", "complained", "failed", "cancelled", "suppressed")
OPEN = ("scheduled", "pending", "processing", "unknown")


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Served]:
    """An API without workers, that keeps mails for 10 days, what they said for 5, conversations for 10."""
    days = {"email_retention_days": 10, "email_content_retention_days": 5, "conversation_retention_days": 10}
    settings = settings_for(database_url, gateway_role="api", gateway_profiles="chat", **days)
    async with serving(settings) as (client, runtime):
        client.headers.update(ADMIN)
        await runtime.maintenance.stop()  # the tests say when
        yield client, runtime


async def do(runtime: Runtime, name: str) -> int:
    [duty] = [duty for duty in runtime.maintenance.duties if duty.name == name]
    return await duty.run()


async def mail(pool: Pool, status: str, days: int, job: str | None = None) -> UUID:
    """One with an attachment, a recipient and an event, that came so many days ago."""
    mail_id, job_id = uuid7(), uuid7()
    await pool.execute(
        "INSERT INTO emails (id, job_id, owner, status, from_address, to_addresses, subject, html, text, message_id,"
        " created_at) VALUES ($1, $2, 'dev', $3, 'a@shop.example', '{b@example.com}', 's', '<p>h', 't', 'm',"
        " now() - $4 * interval '1 day')",
        *(mail_id, job_id, status, days),
    )
    await pool.execute("INSERT INTO email_attachments VALUES ($1, 0, 'a.txt', 'text/plain', NULL, 'abc')", mail_id)
    await pool.execute("INSERT INTO email_recipients VALUES ($1, 'b@example.com', 0, 'to')", mail_id)
    await pool.execute("INSERT INTO email_events (email_id, type) VALUES ($1, 'queued')", mail_id)
    if job is not None:
        await pool.execute(
            "INSERT INTO jobs (id, queue, task, state, args, max_attempts, run_at)"
            " VALUES ($1, 'email-queue', 'email.send', $2, '{}', 3, now() + interval '1 day')",
            *(job_id, job),
        )
    return mail_id


async def with_content(pool: Pool) -> set[UUID]:
    rows = await pool.fetch("SELECT id FROM emails WHERE html IS NOT NULL")
    files = await pool.fetch("SELECT email_id AS id FROM email_attachments")
    assert {row["id"] for row in rows} == {row["id"] for row in files}
    return {row["id"] for row in rows}


async def test_content_of_mails_that_ended_goes_and_of_open_ones_stays(served: Served) -> None:
    client, runtime = served
    pool = runtime.pool
    gone = [await mail(pool, status, 6) for status in ENDED] + [await mail(pool, "sent", 6, "completed")]
    kept = {await mail(pool, status, 600) for status in OPEN}
    kept |= {await mail(pool, "failed", 600, "failed"), await mail(pool, "sent", 4)}
    assert await do(runtime, "remove e-mail content") == len(gone)
    assert await with_content(pool) == kept
    assert await do(runtime, "remove e-mail content") == 0
    shown = data(await client.get(f"/api/v1/emails/{gone[0]}?include=body,events"))
    assert (shown["html"], shown["text"], shown["subject"]) == (None, None, "s")
    assert [event["type"] for event in shown["events"]] == ["queued", "content_removed"]
    error = refused(await client.post(f"/api/v1/emails/{gone[0]}/resend"), 409, "content_removed")
    assert "EMAIL_CONTENT_RETENTION_DAYS" in error["message"]


async def test_old_mails_go_with_all_that_is_theirs_and_open_ones_stay(served: Served) -> None:
    _, runtime = served
    pool = runtime.pool
    for status in ENDED:
        await mail(pool, status, 11)
    kept = {await mail(pool, status, 600) for status in OPEN}
    kept |= {await mail(pool, "failed", 11, "failed"), await mail(pool, "sent", 11, "completed")}
    kept |= {await mail(pool, "sent", 9)}
    assert await do(runtime, "prune e-mails") == len(ENDED)
    for table in ("email_attachments", "email_recipients", "email_events"):
        rows = await pool.fetch(f"SELECT email_id FROM {table}")
        assert {row["email_id"] for row in rows} == kept, table
    assert {row["id"] for row in await pool.fetch("SELECT id FROM emails")} == kept


@pytest.mark.parametrize("duty", ["remove e-mail content", "prune e-mails"])
async def test_mails_go_few_at_a_time_as_their_files_may_be_large(served: Served, duty: str) -> None:
    _, runtime = served
    pool = runtime.pool
    for _ in range(51):
        await mail(pool, "sent", 11)
    event = "UPDATE" if duty == "remove e-mail content" else "DELETE"
    rows = "NEW" if event == "UPDATE" else "OLD"
    await pool.execute(
        "CREATE TABLE taken (n bigint);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO taken SELECT count(*) FROM changed; RETURN NULL; END $$;"
        f"CREATE TRIGGER noted AFTER {event} ON emails REFERENCING {rows} TABLE AS changed"
        " FOR EACH STATEMENT EXECUTE FUNCTION note()"
    )
    assert await do(runtime, duty) == 51
    assert await pool.fetchval("SELECT max(n) FROM taken") == 50


async def run(pool: Pool, project: UUID, **differs: Any) -> tuple[UUID, UUID]:
    """One that ended a year ago, with a step of one cent then."""
    run_id, step_id, then = uuid7(), uuid7(), datetime.now(UTC) - timedelta(days=365)
    facts = {"status": "completed", "finished_at": then, "retry_of": None} | differs
    await pool.execute(
        "INSERT INTO runs (id, project_id, job_type, triggered_by, status, finished_at, retry_of, told)"
        " VALUES ($1, $2, 'batch', 'api', $3, $4, $5, $3)",
        *(run_id, project, facts["status"], facts["finished_at"], facts["retry_of"]),
    )
    await pool.execute(
        "INSERT INTO run_steps (id, run_id, position, kind, agent_slug, model, started_at, cost_micros, calls,"
        " input_tokens, output_tokens) VALUES ($1, $2, 0, 'agent', 'developer', 'gpt-5', $3, 10000, 2, 100, 10)",
        *(step_id, run_id, then),
    )
    return run_id, step_id


async def test_runs_go_and_what_they_cost_stays_in_the_usage_to_the_cent(served: Served) -> None:
    client, runtime = served
    pool = runtime.pool
    project = await project_row(pool)
    first, step = await run(pool, project)
    again, _ = await run(pool, project, retry_of=first, status="failed")
    task = await pool.fetchval(
        "INSERT INTO tasks (id, project_id, run_id, step_id, position, title) VALUES ($1, $2, $3, $4, 0, 't')"
        " RETURNING id",
        *(uuid7(), project, first, step),
    )
    await pool.execute(
        "INSERT INTO suggestions (id, project_id, run_id, step_id, position, agent_slug, title, status)"
        " VALUES ($1, $2, $3, $4, 0, 'developer', 's', 'rejected')",
        *(uuid7(), project, first, step),
    )
    since = (datetime.now(UTC) - timedelta(days=390)).strftime("%Y-%m-%d")
    asked = [f"/api/v1/orchestration/usage?from={since}&groupBy={by}" for by in ("agent,model,day", "run", "project")]
    asked += [f"{asked[0]}&projectId={project}"]
    before = [data(await client.get(url)) for url in asked]
    assert (before[0]["total"]["runs"], before[0]["total"]["costCents"]) == (2, 2.0)
    assert await do(runtime, "prune runs") == 2, "the retry first, then what it refers to"
    after = [data(await client.get(url)) for url in asked]
    assert [one | {"until": None} for one in after] == [one | {"until": None} for one in before]
    assert await pool.fetchval("SELECT count(*) FROM runs") == 0
    left = await pool.fetchrow("SELECT run_id, title FROM tasks WHERE id = $1", task)
    assert left is not None
    assert (left["run_id"], left["title"]) == (None, "t"), "what agents brought stays"
    assert again != first


async def test_runs_that_are_open_young_or_wait_for_somebody_stay(served: Served) -> None:
    _, runtime = served
    pool = runtime.pool
    project = await project_row(pool)
    for status in ("queued", "running", "awaiting_approval"):
        await run(pool, project, status=status)
    await run(pool, project, finished_at=datetime.now(UTC) - timedelta(days=179))
    suggested, step = await run(pool, project)
    await pool.execute(
        "INSERT INTO suggestions (id, project_id, run_id, step_id, position, agent_slug, title)"
        " VALUES ($1, $2, $3, $4, 0, 'developer', 's')",
        *(uuid7(), project, suggested, step),
    )
    for status in ("pending", "approved", "executing"):
        asked, step = await run(pool, project)
        await pool.execute(
            "INSERT INTO actions (id, project_id, run_id, step_id, position, agent_slug, action, arguments, risk,"
            " status) VALUES ($1, $2, $3, $4, 0, 'developer', 'create_task', '{}', 'low', $5)",
            *(uuid7(), project, asked, step, status),
        )
    retryable, _ = await run(pool, project, status="failed")
    await pool.execute(
        "INSERT INTO jobs (id, queue, task, state, args, max_attempts)"
        " VALUES ($1, 'orchestration-queue', 'orchestration.run', 'failed', '{}', 3)",
        retryable,
    )
    assert await do(runtime, "prune runs") == 0
    assert await pool.fetchval("SELECT count(*) FROM runs") == 9


async def test_conversations_that_are_asked_nothing_go_but_none_that_is_being_answered(served: Served) -> None:
    _, runtime = served
    pool = runtime.pool
    for owner, days, status in (("old", 11, "completed"), ("busy", 11, "running"), ("young", 9, "failed")):
        conversation = uuid7()
        await pool.execute(
            "INSERT INTO conversations (id, owner, title, updated_at)"
            " VALUES ($1, $2, 't', now() - $3 * interval '1 day')",
            *(conversation, owner, days),
        )
        await pool.execute(
            "INSERT INTO messages (id, conversation_id, profile, auth_method, question, model, job_id, current_job_id,"
            " status) VALUES ($1, $2, 'chat', 'jwt', 'q', 'm', $1, $1, $3)",
            *(uuid7(), conversation, status),
        )
    assert await do(runtime, "prune conversations") == 1
    assert {row["owner"] for row in await pool.fetch("SELECT owner FROM conversations")} == {"busy", "young"}
    assert await pool.fetchval("SELECT count(*) FROM messages") == 2


async def test_a_long_trail_goes_in_batches(served: Served) -> None:
    _, runtime = served
    await runtime.pool.execute(
        "INSERT INTO admin_audit (at, actor, action, subject)"
        " SELECT now() - n * interval '1 day', 'ann', 'queue.pause', 'q' FROM generate_series(1, 2600) n"
    )
    assert await do(runtime, "prune audit") == 2600 - 364
    assert await runtime.pool.fetchval("SELECT max(now() - at) < interval '366 days' FROM admin_audit") is True
