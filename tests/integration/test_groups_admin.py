"""Groups for administrators: which job of which group waits for what, and finding a group's jobs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.runtime import Runtime
from tests.integration.test_jobs_admin import JOBS, QUEUE, app, client, found, problem_of, runtime, submitted
from tests.support.eventually import eventually

__all__ = ["app", "client", "runtime"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def shown(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    data: dict[str, Any] = (await client.get(f"{JOBS}/{job_id}")).json()["data"]
    return data


async def test_a_blocked_job_says_what_its_group_waits_for(client: httpx.AsyncClient, runtime: Runtime) -> None:
    limits = {"groupConcurrency": 1, "groupRateLimit": {"max": 5, "durationMs": 60_000}}
    changed = (await client.patch(QUEUE, json=limits)).json()["data"]
    assert {name: changed["limits"][name] for name in limits} == limits
    assert changed["defaultLimits"]["groupConcurrency"] is None
    first, second, third = await submitted(runtime, 3, group="blocked")

    async def blocked() -> list[dict[str, Any]]:
        why = (await shown(client, third))["whyWaiting"]
        assert "limit 1" in why[-1]["message"]
        return why

    why = await eventually(blocked)
    assert [one["reason"] for one in why] == ["no_worker", "blocked_by_key"]
    message = "0 jobs of its group 'blocked' run, 1 are ready, limit 1; 1 job starts before it in its group"
    assert (why[1]["message"], why[1]["ahead"]) == (message, 1)
    assert [one["reason"] for one in (await shown(client, first))["whyWaiting"]] == ["no_worker"]
    await client.post(f"{JOBS}/{first}/cancel", json={})
    await client.post(f"{JOBS}/{second}/cancel", json={})

    async def ready() -> bool:
        return [one["reason"] for one in (await shown(client, third))["whyWaiting"]] == ["no_worker"]

    await eventually(ready)


async def test_a_group_s_jobs_are_found(client: httpx.AsyncClient, runtime: Runtime) -> None:
    acme = await submitted(runtime, 3, group="acme")
    await submitted(runtime, 2, group="other")
    await submitted(runtime, 2)
    for path in (JOBS, f"{QUEUE}/jobs"):
        assert await found(client, path, group="acme") == acme[::-1]
        assert await found(client, path, q="group:acme", state="waiting") == acme[::-1]
    assert problem_of(await client.get(f"{JOBS}?group=")) == (400, "validation_error", "group")
    assert problem_of(await client.get(f"{JOBS}?group=a&q=group:b")) == (400, "validation_error", "q")
    assert (await client.get(JOBS, params={"group": "acme"})).json()["data"][0]["group"] == "acme"
    body = {"action": "cancel", "filter": {"group": "acme"}, "dryRun": True}
    assert (await client.post(f"{QUEUE}/bulk", json=body)).json()["data"]["count"] == 3
