"""Two versions on one database: the one before the last migrations, out of the history, and this one."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from gateway.infra.migrate import migrate
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, HoldingSmtp, gateways
from tests.support.modes import BOTH_MODES, LONG
from tests.support.web import serving, settings_for

pytestmark = pytest.mark.fault

ROOT = Path(__file__).parents[2]
FIRST_NEW = "migrations/0019_care.sql"  # the old version is the last one without this file


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def old_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the old version's code and migrations."""
    try:
        added = git("log", "--first-parent", "--diff-filter=A", "--format=%H", "--", FIRST_NEW).split()
        archive = git("archive", f"{added[-1].decode()}^", "gateway", "migrations")
    except (OSError, IndexError, subprocess.CalledProcessError):
        pytest.skip(f"no git history here that goes back before {FIRST_NEW}")
    directory = tmp_path_factory.mktemp("old-version")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(directory, filter="data")
    old = sorted((directory / "migrations").glob("*.sql"))
    assert [path.read_bytes() for path in old] == [(ROOT / "migrations" / path.name).read_bytes() for path in old]
    return directory


@pytest.fixture
async def cluster(
    tmp_path: Path, empty_database_url: str, smtp: HoldingSmtp, mode_redis_url: str | None
) -> AsyncIterator[Cluster]:
    async with gateways(tmp_path, empty_database_url, smtp, redis_url=mode_redis_url) as made:
        yield made


@LONG
@BOTH_MODES
async def test_A_C_old_and_new_run_side_by_side_while_the_schema_changes_and_each_job_ends_once(
    cluster: Cluster, old_version: Path, empty_database_url: str
) -> None:
    old_code = {"PYTHONPATH": str(old_version)}
    migrated = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "migrate"), cwd=cluster.directory, env=cluster.environment | old_code
    )
    assert await migrated.wait() == 0
    old = [await cluster.start(**old_code) for _ in range(2)]
    over = asyncio.Event()

    async def load() -> None:
        while not over.is_set():
            await cluster.submit()

    loading = asyncio.create_task(load())
    try:
        await eventually(lambda: len(cluster.accepted) > 20)
        assert await migrate(empty_database_url), "while both work"
        new = [await cluster.start() for _ in range(2)]
        for process in (*old, *new):  # each takes mails from its callers, and hands them to all
            await cluster.submit_many(5, process)
        shown = (await new[0].admin.get("/api/v1/admin/workers")).json()["data"]
        assert {one["configuration"] is None for one in shown} == {True, False}, "old ones announce no settings"
        for process in old:
            process.terminate()
            cluster.retire(process)
            assert await process.exit_code() == 0
        before = len(cluster.accepted)
        await eventually(lambda: len(cluster.accepted) > before + 20)
    finally:
        over.set()
        await loading
    await cluster.all_delivered(30)
    assert cluster.duplicates() == []
    assert await new[0].metric("gateway_job_stalled_total", queue="email-queue") == 0
    workers = await _workers(empty_database_url)
    assert len(workers) == 4, "old and new ones sent mails"


async def _workers(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {row["worker"] for row in await connection.fetch("SELECT DISTINCT worker FROM email_attempts")}
    finally:
        await connection.close()


async def test_this_version_starts_and_stays_ready_on_the_next_one_s_schema(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("INSERT INTO schema_migrations VALUES ('9998_more', 'x', '99.0', now(), 0)")
        async with serving(settings_for(database_url)) as (client, _):
            assert (await client.get("/health/ready")).status_code == 200
            await connection.execute(
                "INSERT INTO schema_migrations VALUES ('9999_contract_after_9998_less', 'x', '99.1', now(), 0)"
            )
            answer = await client.get("/health/ready")
            assert (answer.status_code, answer.json()["reason"].rpartition(". ")[2]) == (503, "Deploy 99.1 or later.")
    finally:
        await connection.close()
