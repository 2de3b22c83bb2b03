"""The triggers of one process, put together."""

from __future__ import annotations

from typing import Any, NamedTuple

from litestar import Router

from gateway.feature import Platform
from gateway.jobs.registry import Task
from gateway.services.orchestration.agents import Agents
from gateway.services.orchestration.projects import Projects
from gateway.services.orchestration.starting import Runs
from gateway.services.orchestration.triggers.desk import TriggerDesk
from gateway.services.orchestration.triggers.firing import Firing
from gateway.services.orchestration.triggers.schedule_routes import schedule_routes
from gateway.services.orchestration.triggers.schedules import RunSchedules
from gateway.services.orchestration.triggers.secrets import TriggerSecrets
from gateway.services.orchestration.triggers.webhook_routes import webhook_routes
from gateway.services.orchestration.triggers.webhooks import Deliveries, WebhookTriggers


class Triggers(NamedTuple):
    task: Task[Any]
    routes: tuple[Router, ...]


def triggers_of(platform: Platform, projects: Projects, agents: Agents, runs: Runs) -> Triggers:
    schedules = RunSchedules(platform)
    webhooks = WebhookTriggers(platform.pool, TriggerSecrets(platform.settings))
    desk = TriggerDesk(platform.pool, projects, agents)
    return Triggers(
        task=Firing(platform, schedules, runs, projects).task(),
        routes=(
            schedule_routes(desk, schedules),
            webhook_routes(desk, webhooks, Deliveries(platform, webhooks, runs, projects)),
        ),
    )
