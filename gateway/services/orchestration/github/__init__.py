"""GitHub: what happened in a repository, and what agents write there (docs/github.md)."""

from __future__ import annotations

from gateway.services.orchestration.github.allowed import AllowedRepositories
from gateway.services.orchestration.github.analyses import Analyses
from gateway.services.orchestration.github.errors import GitHubBusy, GitHubError, GitHubFailed, GitHubRefused
from gateway.services.orchestration.github.figures import Analysis
from gateway.services.orchestration.github.service import GitHub
from gateway.services.orchestration.github.signature import verify_github_signature
from gateway.services.orchestration.github.store import AnalysisStore, prune
from gateway.services.orchestration.github.text import check_repository

__all__ = [
    "AllowedRepositories",
    "Analyses",
    "Analysis",
    "AnalysisStore",
    "GitHub",
    "GitHubBusy",
    "GitHubError",
    "GitHubFailed",
    "GitHubRefused",
    "check_repository",
    "prune",
    "verify_github_signature",
]
