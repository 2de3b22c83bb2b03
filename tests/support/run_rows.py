"""Projects, runs and steps as rows, for tests of what comes after an agent's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from gateway.infra.uuid7 import uuid7


@dataclass(frozen=True)
class RunRow:
    """A run with one step; fits ``outcomes.RunFacts``."""

    id: UUID
    project_id: UUID
    step_id: UUID
    dry_run: bool = False


@dataclass(frozen=True)
class FakeAgent:
    """Fits ``asked.AgentFacts``."""

    slug: str = "developer"
    tools: tuple[str, ...] = ("create_task", "send_email", "comment_issue", "open_issue")


async def project_row(
    pool: asyncpg.Pool[asyncpg.Record], *, owner: str = "ann", repository: str | None = "octo/app", **members: str
) -> UUID:
    """``members``: further ones, by role."""
    project_id = uuid7()
    await pool.execute(
        "INSERT INTO projects (id, name, repository, created_by) VALUES ($1, 'Shop', $2, $3)",
        *(project_id, repository, owner),
    )
    for name, role in {owner: "owner", **members}.items():
        await pool.execute("INSERT INTO project_members VALUES ($1, $2, $3)", project_id, name, role)
    return project_id


async def run_row(
    pool: asyncpg.Pool[asyncpg.Record], project_id: UUID, *, status: str = "running", dry_run: bool = False
) -> RunRow:
    run_id = uuid7()
    await pool.execute(
        "INSERT INTO runs (id, project_id, job_type, triggered_by, status, dry_run) "
        "VALUES ($1, $2, 'batch', 'api', $3, $4)",
        *(run_id, project_id, status, dry_run),
    )
    return RunRow(run_id, project_id, await step_row(pool, run_id), dry_run)


async def step_row(pool: asyncpg.Pool[asyncpg.Record], run_id: UUID, position: int = 0) -> UUID:
    step_id = uuid7()
    await pool.execute(
        "INSERT INTO run_steps (id, run_id, position, kind, agent_slug) VALUES ($1, $2, $3, 'agent', 'developer')",
        *(step_id, run_id, position),
    )
    return step_id


def asks(action: str, rationale: str = "it is due", **arguments: Any) -> dict[str, Any]:
    return {"action": action, "arguments": arguments, "rationale": rationale}
