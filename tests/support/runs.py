"""The whole application with a model provider of the tests behind it, and what people do with runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx

from gateway.runtime import Runtime
from gateway.services.orchestration.agents import Agents, Catalog
from gateway.services.orchestration.projects import Projects
from tests.support.eventually import eventually
from tests.support.openai_server import Answer, Call, OpenAIServer, Reply
from tests.support.people import As, data, people
from tests.support.web import serving, settings_for

RUNS = "/api/v1/orchestration/jobs"
TRIGGER = "/api/v1/orchestration/trigger"
FINAL = ("completed", "failed", "cancelled")
KEY = "sk-test"


@dataclass
class RunApp:
    http: httpx.AsyncClient
    runtime: Runtime
    provider: OpenAIServer
    people: As

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        return self.runtime.pool

    async def call(self, method: str, path: str, json: Any = None, user: str = "ann", **options: Any) -> httpx.Response:
        headers = self.people(user) | options.pop("headers", {})
        return await self.http.request(method, path, json=json, headers=headers, **options)

    async def project(self, user: str = "ann", agents: tuple[str, ...] | None = None, **fields: Any) -> str:
        """``agents``: those that its batches run."""
        made = data(await self.call("POST", "/api/v1/projects", {"name": "Shop", **fields}, user), 201)
        if agents is not None:
            path = f"/api/v1/projects/{made['id']}/agents"
            data(await self.call("PUT", path, {"enabled": list(agents)}, user))
        return str(made["id"])

    async def start(self, project: str, job_type: str = "batch", user: str = "ann", **fields: Any) -> str:
        body = {"projectId": project, "jobType": job_type, **fields}
        return str(data(await self.call("POST", RUNS, body, user), 202)["jobId"])

    async def show(self, run_id: str, user: str = "ann") -> dict[str, Any]:
        found: dict[str, Any] = data(await self.call("GET", f"{RUNS}/{run_id}", user=user))
        return found

    async def has_status(self, run_id: str, *statuses: str, timeout: float = 15.0) -> dict[str, Any]:
        """The run, once it has one of these statuses."""

        async def shown() -> dict[str, Any]:
            found = await self.show(run_id, "admin")
            assert found["status"] in statuses, found
            return found

        return await eventually(shown, timeout, f"{run_id} is not {' or '.join(statuses)}")

    async def ended(self, run_id: str, timeout: float = 15.0) -> dict[str, Any]:
        return await self.has_status(run_id, *FINAL, timeout=timeout)

    async def has_step(self, run_id: str, position: int, status: str) -> dict[str, Any]:
        async def shown() -> dict[str, Any]:
            steps = (await self.show(run_id, "admin"))["steps"]
            assert len(steps) > position and steps[position]["status"] == status, steps
            found: dict[str, Any] = steps[position]
            return found

        return await eventually(shown, 10, f"step {position} is not {status}")

    async def job(self, run_id: str) -> dict[str, Any]:
        """Its job, as administrators see it."""
        found: dict[str, Any] = data(await self.call("GET", f"/api/v1/admin/jobs/{run_id}", user="admin"))
        return found

    def agents_called(self) -> list[str]:
        """Whose prompts the provider has seen, in order."""
        return [agent_of(call) for call in self.provider.calls]


def services(app: RunApp) -> tuple[Projects, Agents]:
    """What ``Runs`` needs beside the platform."""
    return Projects(app.pool), Agents(app.pool, Catalog.read(app.runtime.settings))


def agent_of(call: Call) -> str:
    """The prompts of the tests' agents say who they are."""
    first = str(call.messages[0]["content"])
    return first.removeprefix("You are ").split(".")[0] if first.startswith("You are ") else first[:40]


def answering(**by_agent: Reply) -> Any:
    """For ``provider.always``: each agent's own answer, the others' a plain one."""
    return lambda call: by_agent.get(agent_of(call), Answer(said("Fine")))


def said(summary: str, **fields: Any) -> dict[str, Any]:
    """An answer that fits the common schema."""
    return {"summary": summary, "suggestions": [], "tasks": [], **fields}


def point(title: str, priority: int = 5) -> dict[str, Any]:
    return {"title": title, "detail": "Because.", "priority": priority}


async def add_agents(app: RunApp, *slugs: str, **fields: Any) -> None:
    """Agents of this test: rows whose prompts say who they are."""
    for slug in slugs:
        body = {"name": slug, "description": slug, "prompt": f"You are {slug}. Do your part.", **fields}
        data(await app.call("PUT", f"/api/v1/orchestration/agents/{slug}", body, "admin"))


@asynccontextmanager
async def run_app(
    database_url: str, provider: OpenAIServer, redis_url: str | None = None, **settings: Any
) -> AsyncIterator[RunApp]:
    """One process with API and workers. Limits are out of the way and back-off is short, unless ``settings`` say so."""
    given = {
        "openai_api_key": KEY,
        "openai_base_url": provider.url,
        "orchestration_rate_max": 100_000,
        "orchestration_backoff_ms": 50,
        "lock_duration_ms": 9000,  # longer than a busy machine stands still
        "stalled_interval_ms": 1000,
        **({"redis_url": redis_url} if redis_url else {}),
        **settings,
    }
    async with serving(settings_for(database_url, **given)) as (http, runtime):
        yield RunApp(http, runtime, provider, people(runtime))
