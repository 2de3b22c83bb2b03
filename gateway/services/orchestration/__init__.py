"""Agent jobs: their queue, and what they know of a project's repository. Their tasks come later."""

from __future__ import annotations

from functools import partial

from gateway.feature import Feature, Platform
from gateway.jobs.maintenance import Chore
from gateway.services.orchestration.github import PRUNE_S, Analyses, AnalysisStore, GitHub, prune
from gateway.services.orchestration.github.routes import analysis_routes
from gateway.services.orchestration.projects import Projects
from gateway.services.orchestration.queue import orchestration_policy


def feature(platform: Platform) -> Feature:
    projects = Projects(platform.pool)
    github = GitHub(platform.settings, platform.pool)
    analyses = Analyses(AnalysisStore(platform.pool), github)
    return Feature(
        name="orchestration",
        queues=(orchestration_policy(platform.settings),),
        tasks=(),
        routes=(analysis_routes(projects, analyses),),
        components=(),
        chores=(Chore("prune pages of GitHub", PRUNE_S, partial(prune, platform.pool)),),
    )
