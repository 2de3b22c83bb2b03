"""Gateway processes with a GitHub and an SMTP server, and runs whose agents have answered: what comes after that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from gateway.services.orchestration.outcomes import Outcomes, Recorded
from gateway.services.orchestration.queue import ORCHESTRATION_QUEUE
from tests.support.engine import Replica, policy, replica
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, gateways
from tests.support.gateway_process import GatewayProcess
from tests.support.github_data import FakeRepository
from tests.support.github_server import GitHubServer, github_server
from tests.support.run_rows import FakeAgent, RunRow, project_row, run_row
from tests.support.smtp_server import ScriptedSmtp

USER = "user-of-the-tests"
PATH = "/api/v1/orchestration"


@dataclass
class Acting:
    """``recorder`` is an engine of the test's own, which runs nothing and tells nobody: what it commits, the processes
    find in the ledger. The project belongs to ``USER``."""

    cluster: Cluster
    pool: asyncpg.Pool[asyncpg.Record]
    recorder: Replica
    hub: GitHubServer
    repository: FakeRepository
    project_id: UUID

    async def start(self, **settings: str) -> GatewayProcess:
        return await self.cluster.start(**settings)

    async def answered(self, *actions: dict[str, Any], run: RunRow | None = None, **output: Any) -> RunRow:
        """A run whose one agent asked for ``actions``, as the runner leaves it."""
        run = run or await run_row(self.pool, self.project_id)
        recorded = await self.record(run, {"actions": list(actions), **output})
        waits = recorded.actions_pending or recorded.act_jobs
        status = "awaiting_approval" if waits else "completed"
        await self.pool.execute("UPDATE runs SET status = $2 WHERE id = $1", run.id, status)
        return run

    async def record(self, run: RunRow, output: dict[str, Any]) -> Recorded:
        async with self.pool.acquire() as connection, connection.transaction():
            outcomes = Outcomes(self.recorder.engine)
            return await outcomes.record(connection, run, run.step_id, FakeAgent(), output)

    async def actions(self, run: RunRow, client: httpx.AsyncClient) -> list[dict[str, Any]]:
        """As the API lists them, in the order in which they were asked for."""
        answer = await client.get(f"{PATH}/approvals?runId={run.id}")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]
        return found[::-1]

    async def ended(self, run: RunRow, client: httpx.AsyncClient, timeout: float = 40.0) -> list[dict[str, Any]]:
        """The run's actions, once the run is complete."""

        async def complete() -> bool:
            status = await self.pool.fetchval("SELECT status FROM runs WHERE id = $1", run.id)
            assert status == "completed", [action["status"] for action in await self.actions(run, client)]
            return True

        await eventually(complete, timeout, "the run is not complete")
        return await self.actions(run, client)


@asynccontextmanager
async def acting(
    directory: Path,
    database_url: str,
    pool: asyncpg.Pool[asyncpg.Record],
    smtp: ScriptedSmtp,
    redis_url: str | None,
) -> AsyncIterator[Acting]:
    async with github_server() as hub:
        hub.token = "ghp_of_the_tests"
        settings = {
            "GITHUB_API_URL": hub.url,
            "GITHUB_TOKEN": hub.token,
            "SMTP_FROM_EMAIL": "agents@shop.example",
            "ORCHESTRATION_RATE_MAX": "100000",
            "ORCHESTRATION_BACKOFF_MS": "100",
        }
        repository = hub.add("octo/app")
        project_id = await project_row(pool, owner=USER)
        queue = policy(name=ORCHESTRATION_QUEUE)
        async with (
            gateways(directory, database_url, smtp, redis_url=redis_url, **settings) as cluster,
            replica(pool, None, queue=queue) as recorder,
        ):
            yield Acting(cluster, pool, recorder, hub, repository, project_id)
