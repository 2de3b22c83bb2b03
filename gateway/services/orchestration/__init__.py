"""Agent jobs: their queue, and what they know of a project's repository. Their tasks come later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from gateway.feature import Feature, Platform
from gateway.jobs.maintenance import Chore
from gateway.services.orchestration.agent_routes import agent_routes
from gateway.services.orchestration.agents import Agents, Catalog
from gateway.services.orchestration.budgets import WATCH_S, Budgets, BudgetWatch
from gateway.services.orchestration.github import PRUNE_S, Analyses, AnalysisStore, GitHub, prune
from gateway.services.orchestration.github.routes import analysis_routes
from gateway.services.orchestration.project_member_routes import project_routes
from gateway.services.orchestration.project_routes import ProjectDesk
from gateway.services.orchestration.projects import Projects
from gateway.services.orchestration.queue import orchestration_policy
from gateway.services.orchestration.usage import Usage
from gateway.services.orchestration.usage_routes import usage_routes

WatchBudgets: TypeAlias = Callable[[Callable[[], Mapping[str, int]]], None]


def feature(platform: Platform, *, watch_budgets: WatchBudgets | None = None) -> Feature:
    """``watch_budgets`` gets what says how many projects have each state of their budget. Raises ``AgentFilesWrong``
    when a file of AGENTS_DIR cannot be read."""
    projects = Projects(platform.pool)
    agents = Agents(platform.pool, Catalog.read(platform.settings))
    budgets = Budgets(platform.pool)
    budget_watch = BudgetWatch(budgets)
    if watch_budgets is not None:
        watch_budgets(budget_watch.counts)
    github = GitHub(platform.settings, platform.pool)
    analyses = Analyses(AnalysisStore(platform.pool), github)
    return Feature(
        name="orchestration",
        queues=(orchestration_policy(platform.settings),),
        tasks=(),
        routes=(
            analysis_routes(projects, analyses),
            project_routes(ProjectDesk(platform.pool, projects, budgets, agents)),
            agent_routes(agents),
            usage_routes(Usage(platform.pool), projects),
        ),
        components=(),
        chores=(
            Chore("prune pages of GitHub", PRUNE_S, partial(prune, platform.pool)),
            Chore("project budgets", WATCH_S, budget_watch.look),
        ),
    )
