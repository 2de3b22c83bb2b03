"""Runs of agents in a whole process, against the model server of the tests, which answers at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import httpx

from bench.cost import Measure, cost
from bench.gateway import Gateway, gateway
from bench.servers import Stores
from tests.support.openai_server import Answer, openai_server

RAISED = {
    "ORCHESTRATION_QUEUE_CONCURRENCY": "50",
    "ORCHESTRATION_RATE_MAX": "1000000",
    "ORCHESTRATION_QUEUE_MAX_WAITING": "0",
    "ORCHESTRATION_COMPLETED_RETENTION_COUNT": "1000000",
}
_AT_ONCE = 100  # runs of one request
_SAID = {"summary": "x" * 200, "suggestions": [{"title": "One", "detail": "Two", "priority": 5}], "tasks": []}


async def runs(on: Stores, *, number: int) -> Measure:
    """``runs_per_minute``: from the resume of the queue to the last run's end, limits raised, one process; each calls
    its model once and keeps one suggestion. ``accepted_per_s``: runs committed by requests of 100."""
    async with openai_server() as provider:
        provider.always(Answer(_SAID, piece=40))
        settings = {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": provider.url, **RAISED}
        async with gateway(on, **settings) as made:
            ledger = await asyncpg.connect(made.ledger)
            accepted_per_s = await _accepted(made, number)
            with cost(on, number, of=made.pid) as measured:
                await _post(made, "/api/v1/admin/queues/orchestration/resume", {}, 200)
                await _none_left(ledger, number)
            await ledger.close()
            per_s = measured.pop("per_s")
            return {
                "runs_per_minute": round(per_s * 60),
                "accepted_per_s": accepted_per_s,
                **measured,
                "rss_mib": made.rss_mib,
            }


async def _accepted(made: Gateway, number: int) -> int:
    """Have so many runs wait; answers how many were accepted in a second."""
    agent = {"name": "bench", "description": "bench", "prompt": "Say something."}
    async with _client(made) as client:
        (await client.put("/api/v1/orchestration/agents/bench", json=agent)).raise_for_status()
    project = (await _post(made, "/api/v1/projects", {"name": "Bench"}, 201))["data"]["id"]
    await _post(made, "/api/v1/admin/queues/orchestration/pause", {}, 200)
    run = {"projectId": project, "jobType": "single_agent", "agentSlug": "bench"}
    began = asyncio.get_running_loop().time()
    for first in range(0, number, _AT_ONCE):
        part = range(first, min(number, first + _AT_ONCE))
        await _post(made, "/api/v1/orchestration/jobs/batch", [{**run, "dedupeKey": str(one)} for one in part], 202)
    return round(number / (asyncio.get_running_loop().time() - began))


async def _none_left(ledger: asyncpg.Connection[asyncpg.Record], number: int) -> None:
    """Asks for the counts that the ledger keeps: counting rows would be part of what is measured."""
    while await ledger.fetchval("SELECT sum(n) FROM job_counts WHERE state IN ('waiting', 'delayed', 'active')"):
        await asyncio.sleep(0.05)
    completed = await ledger.fetchval("SELECT count(*) FROM runs WHERE status = 'completed'")
    if completed != number:
        raise RuntimeError(f"{number - completed} runs were not completed")


def _client(made: Gateway) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {made.token}"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{made.port}", headers=headers, timeout=60, trust_env=False)


async def _post(made: Gateway, path: str, body: Any, wanted: int) -> dict[str, Any]:
    async with _client(made) as client:
        answer = await client.post(path, json=body)
    if answer.status_code != wanted:
        raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text}")
    found: dict[str, Any] = json.loads(answer.content)
    return found
