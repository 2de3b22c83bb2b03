"""Agents at work: projects, runs of their agents, what they suggest and want to do, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from gateway.feature import Feature, Platform
from gateway.jobs.maintenance import Chore
from gateway.services.orchestration.act_task import ActionRunner
from gateway.services.orchestration.action_configs import ActionConfigs
from gateway.services.orchestration.action_routes import action_routes
from gateway.services.orchestration.agent_routes import agent_routes
from gateway.services.orchestration.agents import Agents, Catalog
from gateway.services.orchestration.approvals import EXPIRE_S, FOLLOW_S, Approvals
from gateway.services.orchestration.budgets import WATCH_S, Budgets, BudgetWatch
from gateway.services.orchestration.github import Analyses, AnalysisStore, GitHub
from gateway.services.orchestration.github.routes import analysis_routes
from gateway.services.orchestration.machine_routes import machine_routes
from gateway.services.orchestration.pages import Shown, orchestration_pages
from gateway.services.orchestration.pages.store import PageStore
from gateway.services.orchestration.project_member_routes import project_routes
from gateway.services.orchestration.project_routes import ProjectDesk
from gateway.services.orchestration.projects import Projects
from gateway.services.orchestration.queue import orchestration_policy
from gateway.services.orchestration.run_parts import Sources, run_parts
from gateway.services.orchestration.suggestion_routes import suggestion_routes
from gateway.services.orchestration.suggestions import EXPIRE_S as SUGGESTIONS_S
from gateway.services.orchestration.suggestions import Suggestions
from gateway.services.orchestration.triggers.parts import triggers_of
from gateway.services.orchestration.upkeep import upkeep_duties
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
    approvals = Approvals(platform, projects)
    runs = run_parts(platform, Sources(projects, agents, analyses, github, budgets))
    suggestions = Suggestions(platform.pool, projects)
    triggers = triggers_of(platform, projects, agents, runs.runs)
    shown = Shown(PageStore(platform.pool), runs.runs, agents, approvals, budgets)
    return Feature(
        name="orchestration",
        queues=(orchestration_policy(platform.settings),),
        tasks=(runs.task, ActionRunner(platform, github).task(), triggers.task),
        routes=(
            analysis_routes(projects, analyses),
            project_routes(ProjectDesk(platform.pool, projects, budgets, agents, github.allowed)),
            agent_routes(agents),
            usage_routes(Usage(platform.pool), projects),
            action_routes(approvals, ActionConfigs(platform.pool, projects)),
            suggestion_routes(suggestions),
            runs.routes,
            *triggers.routes,
            machine_routes(projects, runs.runs),
        ),
        components=(runs.ends,),
        chores=(
            Chore("project budgets", WATCH_S, budget_watch.look),
            Chore("follow actions", FOLLOW_S, approvals.follow),
            Chore("expire approvals", EXPIRE_S, approvals.expire),
            Chore("expire suggestions", SUGGESTIONS_S, suggestions.expire),
            runs.chore,
            *upkeep_duties(platform.pool, platform.settings, budget_watch),
        ),
        channels=runs.channels,
        pages=orchestration_pages(shown),
    )
