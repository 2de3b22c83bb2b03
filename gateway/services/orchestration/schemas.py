"""The shapes of agent jobs (document 003)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class TriggerSource(StrEnum):
    """Who started a run. ``retry_scheduler`` is written by the gateway only."""

    CRON = "cron"
    WEBHOOK = "webhook"
    MANUAL = "manual"
    API = "api"
    SYSTEM = "system"
    RETRY_SCHEDULER = "retry_scheduler"


class JobType(StrEnum):
    """``batch``: all enabled agents of a project; ``single_agent``: one; ``github_analysis``: metrics only;
    ``retry``: the recorded failed job with its context."""

    BATCH = "batch"
    SINGLE_AGENT = "single_agent"
    GITHUB_ANALYSIS = "github_analysis"
    RETRY = "retry"


class OrchestrationJobData(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The job's argument. ``priority`` None is the queue's default; ``agent_slug`` is for ``single_agent``."""

    project_id: str
    triggered_by: TriggerSource
    job_type: JobType
    user_id: str | None = None
    priority: int | None = None
    agent_slug: str | None = None
    context: dict[str, Any] | None = None


class RunJobData(OrchestrationJobData, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the job of a run carries: without ``context``, which is in the run's row (ids only, O37)."""

    run_id: str | None = None


class OrchestrationJobResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The job's result. Counts are of agents, tasks and suggestions of this run; ``duration_ms`` is wall time."""

    success: bool
    job_id: str | None = None
    agents_executed: int | None = None
    agents_succeeded: int | None = None
    agents_failed: int | None = None
    tasks_created: int | None = None
    suggestions_created: int | None = None
    error: str | None = None
    duration_ms: int | None = None
