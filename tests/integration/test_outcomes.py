"""What an agent's answer leads to: rows, decisions and jobs, recorded once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import asyncpg
import pytest

from gateway.services.orchestration.outcomes import Outcomes, Recorded, settle_run, withdraw
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE
from tests.support.engine import Replica, policy, replica
from tests.support.run_rows import FakeAgent, RunRow, asks, project_row, run_row, step_row

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


@pytest.fixture
async def engine(pool: Pool) -> AsyncIterator[Replica]:
    async with replica(pool, None, queue=policy(name=ORCHESTRATION_QUEUE)) as running:
        yield running


@pytest.fixture
async def run(pool: Pool) -> RunRow:
    return await run_row(pool, await project_row(pool))


async def record(engine: Replica, pool: Pool, run: RunRow, output: dict[str, Any], **agent: Any) -> Recorded:
    async with pool.acquire() as connection, connection.transaction():
        outcomes = Outcomes(engine.engine)
        return await outcomes.record(connection, run, run.step_id, FakeAgent(**agent), output)


async def actions(pool: Pool, run: RunRow) -> list[asyncpg.Record]:
    return await pool.fetch("SELECT * FROM actions WHERE run_id = $1 ORDER BY step_id, position", run.id)


async def statuses(pool: Pool, run: RunRow) -> list[str]:
    return [row["status"] for row in await actions(pool, run)]


ONE_OF_EACH = {
    "summary": "All is well",
    "suggestions": [{"title": "Cache the pages", "detail": "They change\nonce a day", "priority": 7}],
    "tasks": [{"title": "Update the lock file", "detail": "", "priority": 3}],
    "actions": [
        asks("create_task", title="Look into the slow test", detail="", priority=5),
        asks("send_email", to=["ada@example.com"], subject="Release", text="It is out"),
        asks("comment_issue", number=7, body="Fixed by **#8**"),
        asks("open_issue", title="Slow test", body="It takes a minute"),
    ],
}


async def test_an_answer_becomes_rows_and_what_needs_no_approval_a_job(
    engine: Replica, pool: Pool, run: RunRow
) -> None:
    recorded = await record(engine, pool, run, ONE_OF_EACH)

    assert (recorded.suggestions, recorded.tasks, recorded.actions_pending, recorded.dropped) == (1, 1, 3, 0)
    suggestion = await pool.fetchrow("SELECT * FROM suggestions")
    assert (suggestion["title"], suggestion["detail"], suggestion["priority"], suggestion["status"]) == (
        *("Cache the pages", "They change\nonce a day", 7, "open"),
    )
    task = await pool.fetchrow("SELECT * FROM tasks")
    assert (task["title"], task["status"], task["run_id"]) == ("Update the lock file", "open", run.id)
    found = await actions(pool, run)
    assert [row["status"] for row in found] == ["approved", "pending", "pending", "pending"]
    assert [row["risk"] for row in found] == ["low", "high", "medium", "medium"]
    assert found[1]["arguments"] == {"to": ["ada@example.com"], "subject": "Release", "text": "It is out"}
    assert (found[1]["expires_at"] - found[1]["created_at"]).days == 7
    (job,) = recorded.act_jobs
    assert job.id == found[0]["job_id"]
    args = await pool.fetchval("SELECT args FROM jobs WHERE id = $1", job.id)
    assert args == {"actionId": str(found[0]["id"])}


async def test_recorded_again_an_answer_adds_nothing(engine: Replica, pool: Pool, run: RunRow) -> None:
    await record(engine, pool, run, ONE_OF_EACH)

    again = await record(engine, pool, run, ONE_OF_EACH)

    assert again == Recorded()
    tables = ("suggestions", "tasks", "actions", "jobs")
    counts = [await pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables]
    assert counts == [1, 1, 4, 1]


async def test_a_dry_run_shows_what_it_would_do_and_changes_nothing(engine: Replica, pool: Pool) -> None:
    run = await run_row(pool, await project_row(pool), dry_run=True)

    recorded = await record(engine, pool, run, ONE_OF_EACH)

    assert (recorded.suggestions, recorded.tasks, recorded.actions_pending, recorded.act_jobs) == (0, 0, 0, ())
    found = await actions(pool, run)
    assert [row["status"] for row in found] == ["planned"] * 4
    assert found[0]["reason"] == "dry run: it would be done (low risk, no approval asked for)"
    assert found[1]["reason"] == "dry run: it would wait for approval (its risk is high)"
    assert await pool.fetchval("SELECT count(*) FROM suggestions") == 0
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 0


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (asks("send_email", to=["ada"], subject="Hi", text="x"), "to: 'ada' is no bare address"),
        (asks("send_email", to=["a@b.example, c@d.example"], subject="Hi", text="x"), "is no bare address"),
        (asks("send_email", to=[], subject="Hi", text="x"), "to: names 0 recipients; 1 to 10"),
        (asks("send_email", to=[f"u{n}@a.example" for n in range(11)], subject="s", text="x"), "names 11 recipients"),
        (asks("send_email", to=["a@b.example"], subject=" \u200b", text="x"), "subject: is empty"),
        (asks("send_email", to=["a@b.example"], subject="s", text="x", bcc=["c@d.example"]), "unknown field `bcc`"),
        (asks("comment_issue", number=0, body="x"), ">= 1 - at `$.number`"),
        (asks("comment_issue", number="7", body="x"), "Expected `int`, got `str`"),
        (asks("open_issue", title="t", body="x" * 20_001), "body: has 20001 characters, at most 20000"),
        (asks("create_task", title="\x00\u202e", detail=""), "title: is empty"),
        (asks("drop_database", name="all"), "there is no action 'drop_database'"),
        ({"action": "open_issue", "arguments": "{not json"}, "arguments are not JSON"),
        ({"action": "open_issue", "arguments": None}, "Expected `object`, got `null`"),
        ({"action": ["open_issue"]}, "there is no action"),
        ("open_issue", "there is no action 'None'"),
        (None, "there is no action 'None'"),
    ],
)
async def test_what_does_not_fit_is_kept_refused_with_its_reason(
    engine: Replica, pool: Pool, run: RunRow, asked: Any, reason: str
) -> None:
    recorded = await record(engine, pool, run, {"actions": [asked]})

    (row,) = await actions(pool, run)
    assert row["status"] == "refused"
    assert reason in row["reason"]
    assert (recorded.actions_pending, recorded.act_jobs) == (0, ())


async def test_arguments_as_the_text_of_an_object_are_read(engine: Replica, pool: Pool, run: RunRow) -> None:
    asked = {"action": "open_issue", "arguments": '{"title": "Slow\\u0000 test", "body": "see"}', "rationale": None}

    await record(engine, pool, run, {"actions": [asked]})

    (row,) = await actions(pool, run)
    assert (row["status"], row["arguments"]) == ("pending", {"title": "Slow test", "body": "see"})


async def test_what_the_agent_is_not_allowed_is_refused(engine: Replica, pool: Pool, run: RunRow) -> None:
    await record(engine, pool, run, ONE_OF_EACH, slug="writer", tools=("github", "create_task"))

    found = await actions(pool, run)
    assert [row["status"] for row in found] == ["approved", "refused", "refused", "refused"]
    assert found[1]["reason"] == "the agent writer is not allowed send_email"


async def test_answers_are_bounded(engine: Replica, pool: Pool, run: RunRow) -> None:
    many = {
        "suggestions": [{"title": f"S{n}" + "x" * 500, "detail": "y" * 9000, "priority": 99} for n in range(50)],
        "tasks": [{"title": f"T{n}"} for n in range(25)],
        "actions": [asks("open_issue", title="t", body="b")] * 13,
    }

    recorded = await record(engine, pool, run, many)

    assert (recorded.suggestions, recorded.tasks, recorded.dropped) == (20, 20, 30 + 5 + 3)
    longest = await pool.fetchrow(
        "SELECT max(length(title)) t, max(length(detail)) d, max(priority) p FROM suggestions"
    )
    assert tuple(longest) == (200, 8000, 10)
    assert len(await actions(pool, run)) == 10


async def test_a_run_is_bounded_over_its_steps(engine: Replica, pool: Pool, run: RunRow) -> None:
    output = {
        "tasks": [{"title": f"T{n}"} for n in range(20)],
        "actions": [asks("drop_database")] * 9 + [asks("create_task", title="t")],
    }
    for position in range(1, 8):
        step = RunRow(run.id, run.project_id, await step_row(pool, run.id, position))
        await record(engine, pool, step, output)

    assert await pool.fetchval("SELECT count(*) FROM tasks") == 100
    found = await pool.fetch("SELECT status, reason FROM actions WHERE action = 'create_task' ORDER BY id")
    assert [row["status"] for row in found] == ["approved", "approved"] + ["refused"] * 5
    assert found[2]["reason"] == "the run has asked for 20 actions already"


async def test_odd_answers_are_no_points(engine: Replica, pool: Pool, run: RunRow) -> None:
    output = {"suggestions": [None, "x", {"title": 7}, {"title": "ok", "detail": 9, "priority": True}], "tasks": {}}

    recorded = await record(engine, pool, run, output)

    assert (recorded.suggestions, recorded.tasks) == (1, 0)
    assert await pool.fetchval("SELECT priority FROM suggestions") == 5


async def test_limits_count_what_waits_and_what_was_done(engine: Replica, pool: Pool, run: RunRow) -> None:
    asked = {"actions": [asks("open_issue", title=f"t{n}", body="b") for n in range(4)]}
    await record(engine, pool, run, asked)
    assert await statuses(pool, run) == ["pending"] * 3 + ["refused"]

    await pool.execute("UPDATE actions SET created_at = now() - interval '2 hours' WHERE position < 3")
    later = await run_row(pool, run.project_id)
    await record(engine, pool, later, asked)
    assert await statuses(pool, later) == ["pending"] * 3 + ["refused"]
    assert (await actions(pool, later))[3]["reason"] == "the limit of 3 an hour is used up"

    await pool.execute("UPDATE actions SET created_at = now() - interval '2 hours' WHERE status = 'pending'")
    await pool.execute(
        "INSERT INTO action_configs (id, project_id, action, max_per_day, updated_by) "
        "VALUES (gen_random_uuid(), $1, 'open_issue', 6, 'ann')",
        run.project_id,
    )
    last = await run_row(pool, run.project_id)
    await record(engine, pool, last, asked)
    assert (await actions(pool, last))[0]["reason"] == "the limit of 6 a day is used up"
    elsewhere = await run_row(pool, await project_row(pool))
    await record(engine, pool, elsewhere, asked)
    assert (await statuses(pool, elsewhere))[0] == "pending"


async def test_the_cooldown_puts_the_next_one_off(engine: Replica, pool: Pool, run: RunRow) -> None:
    recorded = await record(
        engine, pool, run, {"actions": [asks("create_task", title="a"), asks("create_task", title="b")]}
    )

    first, second = await actions(pool, run)
    assert first["not_before"] is None
    assert 890 < (second["not_before"] - second["created_at"]).total_seconds() <= 900
    assert [job.state for job in recorded.act_jobs] == ["waiting", "delayed"]
    later = await run_row(pool, run.project_id)
    await record(engine, pool, later, {"actions": [asks("create_task", title="c")]})
    (third,) = await actions(pool, later)
    assert (third["not_before"] - second["not_before"]).total_seconds() == 900


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ("enabled = false", "refused", "switched off"),
        ("requires_approval = false, risk = 'medium'", "pending", "its risk is medium"),
        ("requires_approval = true, risk = 'low'", "pending", "the policy asks for approval"),
        ("requires_approval = false, risk = 'low'", "approved", "no approval asked for"),
    ],
)
async def test_rows_replace_the_built_in_policy(
    engine: Replica, pool: Pool, run: RunRow, changes: str, status: str, reason: str
) -> None:
    await pool.execute(
        "INSERT INTO action_configs (id, project_id, action, updated_by) "
        "VALUES (gen_random_uuid(), $1, 'open_issue', 'x')",
        run.project_id,
    )
    await pool.execute(f"UPDATE action_configs SET {changes}")

    await record(engine, pool, run, {"actions": [asks("open_issue", title="t", body="b")]})

    (row,) = await actions(pool, run)
    assert row["status"] == status
    assert reason in row["reason"]


async def test_a_run_is_complete_when_nothing_of_it_is_open(engine: Replica, pool: Pool, run: RunRow) -> None:
    await record(engine, pool, run, ONE_OF_EACH)
    async with pool.acquire() as connection:
        assert not await settle_run(connection, run.id)  # it runs still
        await pool.execute("UPDATE runs SET status = 'awaiting_approval'")
        for status in ("pending", "approved", "executing"):
            await pool.execute("UPDATE actions SET status = $1", status)
            assert not await settle_run(connection, run.id)
        await pool.execute("UPDATE actions SET status = 'executed'")
        assert await settle_run(connection, run.id)
        assert not await settle_run(connection, run.id)
    assert await pool.fetchval("SELECT status FROM runs") == "completed"


async def test_of_a_withdrawn_run_nothing_waits(engine: Replica, pool: Pool, run: RunRow) -> None:
    await record(engine, pool, run, ONE_OF_EACH)
    async with pool.acquire() as connection:
        gone = await withdraw(connection, run.id, "the run was cancelled", "ann")

    assert len(gone) == 4
    assert await statuses(pool, run) == ["rejected"] * 4
