"""The migration runner against a real server."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import asyncpg
import pytest

from gateway.infra.index_builds import statements
from gateway.infra.migrate import (
    Migration,
    MigrationError,
    load_migrations,
    migrate,
    migration_status,
    migrations_directory,
    needed_by,
)
from gateway.infra.postgres import connect
from tests.support.eventually import eventually

Connection = asyncpg.Connection  # generic for type checkers only
ONE = Migration("0001_one", "CREATE TABLE one (n int PRIMARY KEY); INSERT INTO one VALUES (1);")
TWO = Migration("0002_two", "ALTER TABLE one ADD COLUMN word text;")
INDEX = Migration("0002_index", "-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS one_n ON one (n);")
BROKEN = Migration("0002_broken", "CREATE TABLE half (n int); SELECT no_such_function();")


async def _status(url: str, *migrations: Migration) -> tuple[bool, str | None]:
    connection = await connect(url)
    try:
        status = await migration_status(connection, migrations)
        return status.current, status.problem()
    finally:
        await connection.close()


async def test_eight_starters_at_once_apply_each_file_once(empty_database_url: str) -> None:
    done = await asyncio.gather(*(migrate(empty_database_url, migrations=(ONE, TWO)) for _ in range(8)))
    assert sorted(done) == [[]] * 7 + [["0001_one", "0002_two"]]


async def test_progress_is_told_before_each_file(empty_database_url: str) -> None:
    told: list[tuple[str, int, int]] = []
    await migrate(empty_database_url, migrations=(ONE, TWO), on_progress=lambda *step: told.append(step))
    assert told == [("0001_one", 1, 2), ("0002_two", 2, 2)]


async def test_a_failed_file_leaves_nothing_and_those_before_it_stay(empty_database_url: str) -> None:
    with pytest.raises(MigrationError, match=r"0002_broken failed.*no_such_function"):
        await migrate(empty_database_url, migrations=(ONE, BROKEN))
    connection = await connect(empty_database_url)
    assert await connection.fetchval("SELECT n FROM one") == 1
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    await connection.close()
    assert await migrate(empty_database_url, migrations=(ONE, TWO)) == ["0002_two"]


async def test_a_marked_file_runs_outside_of_a_transaction_while_others_wait(empty_database_url: str) -> None:
    # CREATE INDEX CONCURRENTLY waits for every older snapshot: a waiting starter must not hold one.
    done = await asyncio.gather(*(migrate(empty_database_url, migrations=(ONE, INDEX)) for _ in range(4)))
    assert sorted(done) == [[]] * 3 + [["0001_one", "0002_index"]]
    connection = await connect(empty_database_url)
    assert await connection.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'one_n'::regclass")
    await connection.close()


async def test_a_file_changed_after_it_was_applied_is_refused(empty_database_url: str) -> None:
    await migrate(empty_database_url, migrations=(ONE,))
    changed = Migration(ONE.name, ONE.sql + " -- later")
    with pytest.raises(MigrationError, match="changed after they were applied: 0001_one"):
        await migrate(empty_database_url, migrations=(changed,))


async def test_a_schema_behind_says_what_to_run(empty_database_url: str) -> None:
    assert (await _status(empty_database_url, ONE, TWO))[1] == (
        "The database is at nothing, this version needs 0002. Run: gateway migrate  (adds 2)"
    )
    await migrate(empty_database_url, migrations=(ONE,))
    assert await _status(empty_database_url, ONE, TWO) == (
        False,
        "The database is at 0001, this version needs 0002. Run: gateway migrate  (adds 1)",
    )


async def test_an_older_version_goes_on_with_a_schema_that_was_only_added_to(empty_database_url: str) -> None:
    await migrate(empty_database_url, migrations=(ONE, TWO))
    assert await _status(empty_database_url, ONE) == (False, None)
    assert await migrate(empty_database_url, migrations=(ONE,)) == []


async def test_a_schema_that_lost_something_says_which_version_to_deploy(empty_database_url: str) -> None:
    contract = Migration("0003_contract_after_0002_drop_one", "ALTER TABLE one ADD COLUMN gone integer")
    await migrate(empty_database_url, migrations=(ONE, TWO, contract))
    assert await _status(empty_database_url, ONE, TWO) == (False, None), "it knows what replaced it"
    problem = (await _status(empty_database_url, ONE))[1]
    assert problem is not None
    assert problem.startswith("The database is newer (0003) than this version (0001). Deploy 0.")
    with pytest.raises(MigrationError, match="newer"):
        await migrate(empty_database_url, migrations=(ONE,))


async def test_another_branch_s_files_are_refused(empty_database_url: str) -> None:
    await migrate(empty_database_url, migrations=(ONE, TWO))
    with pytest.raises(MigrationError, match="newer"):
        await migrate(empty_database_url, migrations=(ONE, Migration("0002_other", "SELECT 1")))


async def test_ddl_gives_way_to_a_long_transaction_and_comes_back(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.infra.migrate._DDL_LOCK_TIMEOUT", "50ms")
    await migrate(empty_database_url, migrations=(ONE,))
    reader = await asyncpg.connect(empty_database_url)
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("SELECT * FROM one")
    altering = asyncio.create_task(migrate(empty_database_url, migrations=(ONE, TWO)))
    watcher = await asyncpg.connect(empty_database_url)

    async def someone_waits() -> bool:
        return bool(await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await eventually(someone_waits)
    await transaction.rollback()
    assert await altering == ["0002_two"]
    await reader.close()
    await watcher.close()


async def test_an_index_whose_building_had_to_give_way_is_built_anew(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.infra.index_builds._LOCK_TIMEOUT", "50ms")
    await migrate(empty_database_url, migrations=(ONE,))
    writer, watcher = await asyncpg.connect(empty_database_url), await asyncpg.connect(empty_database_url)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("UPDATE one SET n = n")
    building = asyncio.create_task(migrate(empty_database_url, migrations=(ONE, INDEX)))
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('one_n')"
    given_up = "SELECT count(*) = 0 FROM pg_stat_progress_create_index"
    await eventually(lambda: watcher.fetchval(f"SELECT NOT ({valid}) AND ({given_up})"))
    await transaction.rollback()
    assert await building == ["0002_index"]
    assert await watcher.fetchval(valid) is True
    await writer.close()
    await watcher.close()


CARE = "0020_indexes_of_care"
CARE_BUILDS = ("emails_with_content", "admin_audit_age", "conversations_age", "runs_ended", "runs_retries",
               "suggestions_of_run", "tasks_of_run")  # fmt: skip


async def test_a_migration_killed_while_it_builds_an_index_is_taken_up_again(empty_database_url: str) -> None:
    known = load_migrations()
    await migrate(empty_database_url, migrations=[one for one in known if one.name < CARE])
    writer, watcher = await asyncpg.connect(empty_database_url), await asyncpg.connect(empty_database_url)
    await watcher.execute(AUDIT, 1000)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute(AUDIT, 1)  # the build of the second index waits for its end
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "migrate"),
        env={**os.environ, "DATABASE_URL": empty_database_url},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert killed.stderr is not None
        said = f"building admin_audit_age: waits for the transaction of PostgreSQL's process {writer.get_server_pid()}"
        async with asyncio.timeout(60):
            while said not in (line := (await killed.stderr.readline()).decode()):
                assert line, "it ended"
        await asyncio.wait_for(watcher.execute(AUDIT, 1), 10)  # nobody waits behind the build
    finally:
        killed.kill()
        await killed.wait()
    over = "SELECT count(*) = 0 FROM pg_stat_progress_create_index"
    await eventually(lambda: watcher.fetchval(over), 30, "the build goes on though nobody waits for it")
    assert await _valid(watcher) == {"emails_with_content": True, "admin_audit_age": False}
    await transaction.rollback()
    assert CARE in await migrate(empty_database_url)
    assert await _valid(watcher) == dict.fromkeys(CARE_BUILDS, True)
    await writer.close()
    await watcher.close()


AUDIT = """INSERT INTO admin_audit (actor, action, subject)
SELECT 'a', 'b', 'c' FROM generate_series(1, $1)"""


async def _valid(connection: Connection) -> dict[str, bool]:
    query = "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname = ANY($1)"
    return {row["relname"]: row["indisvalid"] for row in await connection.fetch(query, CARE_BUILDS)}


async def test_a_deadlock_with_the_running_version_is_tried_again(empty_database_url: str) -> None:
    await migrate(empty_database_url, migrations=(ONE,))
    running = await asyncpg.connect(empty_database_url)
    await running.execute("CREATE TABLE other (n int); SET deadlock_timeout = '1min'")
    two = Migration("0002_two", "ALTER TABLE one ADD COLUMN m int; ALTER TABLE other ADD COLUMN m int")
    async with running.transaction():
        await running.execute("LOCK TABLE other IN ROW EXCLUSIVE MODE")
        altering = asyncio.create_task(migrate(empty_database_url, migrations=(ONE, two)))
        waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'other'::regclass"
        await eventually(lambda: running.fetchval(waits))
        await running.execute("LOCK TABLE one IN ROW EXCLUSIVE MODE")  # what the migration holds
    assert await altering == ["0002_two"]
    await running.close()


async def test_this_version_s_files_make_a_current_schema(empty_database_url: str) -> None:
    names = [one.name for one in load_migrations()]
    assert await migrate(empty_database_url) == names
    assert await migrate(empty_database_url) == []
    connection = await connect(empty_database_url)
    assert (await migration_status(connection)).problem() is None
    await connection.close()


def test_the_folder_is_found_and_its_numbers_have_no_gap() -> None:
    assert {path.name for path in migrations_directory().iterdir()} >= {"0001_ledger.sql"}
    assert [one.name[:4] for one in load_migrations()] == [f"{n:04d}" for n in range(1, len(load_migrations()) + 1)]


@pytest.mark.parametrize("names", [["0002_gap.sql"], ["0001_a.sql", "0001_b.sql"], ["1_short.sql"], ["0001_Upper.sql"]])
def test_a_bad_file_name_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match="expected 000"):
        load_migrations(tmp_path)


# Before these rules; nothing of theirs is in use any more.
BEFORE_THE_RULES = 18
# What a version that runs beside this file's may trip over.
TAKES_AWAY = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|VIEW|TYPE|FUNCTION|SEQUENCE)\b|\bRENAME\b|\bSET\s+NOT\s+NULL\b|\bTRUNCATE\b(?!\s+ON\b)"
    r"|\bALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE\b|\bADD\s+COLUMN\s+(?:(?!DEFAULT|,|;).)*\bNOT\s+NULL\b(?:(?!DEFAULT|,|;).)*[,;]",
    re.IGNORECASE | re.DOTALL,
)


def taken_away(sql: str) -> list[str]:
    return [match[0] for match in TAKES_AWAY.finditer(re.sub(r"--[^\n]*", "", sql))]


def test_migrations_only_add_or_say_in_their_name_who_can_do_without() -> None:
    found = load_migrations()
    for migration in found[BEFORE_THE_RULES:]:
        if after := needed_by(migration.name):
            assert after < migration.name[:4], f"{migration.name}: only an earlier file can have replaced it"
            continue
        assert taken_away(migration.sql) == [], f"{migration.name}: see gateway/infra/migrate.py on expand and contract"


INDEX_OF = re.compile(
    r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+(?!CONCURRENTLY)(?:IF\s+NOT\s+EXISTS\s+)?\w+\s+ON\s+(\w+)", re.IGNORECASE
)
TABLE = re.compile(r"\bCREATE\s+TABLE\s+(\w+)", re.IGNORECASE)
FILLED_BY_NOBODY_YET = {("0027_usage_sums", "pruned_steps")}  # the table came with 0019, in the same first version


def test_indexes_of_tables_that_may_be_large_are_built_while_jobs_go_on() -> None:
    for migration in load_migrations()[BEFORE_THE_RULES:]:
        sql = re.sub(r"--[^\n]*", "", migration.sql)
        for table in INDEX_OF.findall(sql):
            if (migration.name, table) not in FILLED_BY_NOBODY_YET:
                assert table in TABLE.findall(sql), f"{migration.name}: {table}: see gateway/infra/migrate.py"
        if not migration.in_transaction:
            for statement in statements(migration.sql):
                assert re.match(r"CREATE (UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS ", statement), "it may be repeated"


@pytest.mark.parametrize(
    ("sql", "bad"),
    [
        ("ALTER TABLE jobs DROP COLUMN seq;", True),
        ("ALTER TABLE jobs RENAME seq TO number;", True),
        ("ALTER TABLE jobs ALTER COLUMN seq SET NOT NULL;", True),
        ("ALTER TABLE jobs ALTER COLUMN seq TYPE text;", True),
        ("ALTER TABLE jobs ADD COLUMN a text NOT NULL;", True),
        ("ALTER TABLE jobs ADD COLUMN a text NOT NULL DEFAULT '';", False),
        ("ALTER TABLE jobs ADD COLUMN a text, ADD COLUMN b text;", False),
        ("CREATE TRIGGER a AFTER TRUNCATE ON jobs EXECUTE FUNCTION b();", False),
        ("-- DROP TABLE jobs\nCREATE TABLE a (b text NOT NULL);", False),
    ],
    ids=["drop", "rename", "not-null", "type", "required", "default", "nullable", "trigger", "new-table"],
)
def test_what_takes_away_is_recognised(sql: str, bad: bool) -> None:
    assert bool(taken_away(sql)) is bad
