"""The parts of the feature that start, perform, show and tell runs, put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Router

from gateway.access import Principal
from gateway.feature import ChannelGuard, Platform
from gateway.jobs.maintenance import Chore
from gateway.jobs.registry import Task
from gateway.llm import configured_providers
from gateway.realtime.channel import Topic
from gateway.services.orchestration.outcomes import Outcomes
from gateway.services.orchestration.projects import Projects, project_id_of
from gateway.services.orchestration.run_routes import RunDesk, run_routes
from gateway.services.orchestration.runner import Parts, Ways
from gateway.services.orchestration.runs import run_id_of
from gateway.services.orchestration.starting import Runs
from gateway.services.orchestration.stepping import Sources, Stepper
from gateway.services.orchestration.tasks import RunTask
from gateway.services.orchestration.telling import UNTOLD_POLL_S, RunEnds


@dataclass(frozen=True, slots=True)
class RunParts:
    """``runs`` is the one way to start a run. ``ends`` is a component."""

    runs: Runs
    task: Task[Any]
    routes: Router
    ends: RunEnds
    chore: Chore
    channels: Mapping[Topic, ChannelGuard]


def run_parts(platform: Platform, sources: Sources) -> RunParts:
    runs = Runs(platform, sources.projects, sources.agents)
    ends = RunEnds(runs.store, platform.publisher)
    stepper = Stepper(runs.store, platform.engine, platform.models, Outcomes(platform.engine), sources)
    parts = Parts(runs.store, sources.agents, stepper, platform.engine, Ways())
    configured = bool(configured_providers(platform.settings))
    return RunParts(
        runs=runs,
        task=RunTask(parts, platform.publisher, ends).task(),
        routes=run_routes(RunDesk(runs, sources.projects, configured)),
        ends=ends,
        chore=Chore("tell ends of runs", UNTOLD_POLL_S, ends.chore),
        channels=_guards(runs, sources.projects),
    )


def _guards(runs: Runs, projects: Projects) -> Mapping[Topic, ChannelGuard]:
    """Who may see a project may listen to it, who may read a run's words, to that; both raise Problem 404 for who sees
    neither."""

    async def may_follow_run(principal: Principal, run_id: str) -> bool:
        run = await runs.visible(principal, run_id_of(run_id))
        return await projects.may_read(principal, run.project_id)

    async def may_follow_project(principal: Principal, project_id: str) -> bool:
        await projects.visible(principal, project_id_of(project_id))
        return True

    return {Topic.JOB: may_follow_run, Topic.PROJECT: may_follow_project}


__all__ = ["RunParts", "Sources", "run_parts"]
