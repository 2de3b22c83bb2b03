"""Which repositories this installation works on: whoever names one is read it, and written to it, with GITHUB_TOKEN."""

from __future__ import annotations

from gateway.access import Principal
from gateway.problem import Problem
from gateway.services.orchestration.github.errors import GitHubRefused
from gateway.services.orchestration.github.text import check_repository
from gateway.settings import Settings
from gateway.settings.values import words


class AllowedRepositories:
    """``GITHUB_REPOSITORIES``. Where it is not set, any repository is worked on; with a token in production only
    operators may say on which then."""

    def __init__(self, settings: Settings) -> None:
        # GitHub takes names in any case.
        self._named = frozenset(word.lower() for word in words(settings.github_repositories))
        self._guarded = settings.github_token is not None and settings.gateway_env == "production"

    def check(self, repository: str) -> str:
        """``repository``, before GitHub is asked about it. Raises ``GitHubRefused``: the list may have become shorter
        since a project got it."""
        if not self._has(check_repository(repository)):
            message = f"{repository} is not among GITHUB_REPOSITORIES: add it there, or give the project another one"
            raise GitHubRefused("not_allowed", message)
        return repository

    def check_change(self, caller: Principal, repository: str | None, before: str | None = None) -> None:
        """May he give a project this repository? Taking it away and leaving it as it is always may be. Raises Problem
        403."""
        if repository is None or (before is not None and repository.lower() == before.lower()):
            return
        if not self._has(repository):
            raise _not_allowed(
                f"{repository} is not among GITHUB_REPOSITORIES; whoever runs the gateway can add it there"
            )
        if self._guarded and not self._named and not caller.changes_all:
            raise _not_allowed(
                "only operators and admins may set it while GITHUB_REPOSITORIES is not set, because what GITHUB_TOKEN "
                "sees could be read through it; ask one, or have GITHUB_REPOSITORIES name it"
            )

    def _has(self, repository: str) -> bool:
        name = repository.lower()
        return not self._named or name in self._named or f"{name.partition('/')[0]}/*" in self._named


def _not_allowed(message: str) -> Problem:
    return Problem(
        403, "repository_not_allowed", f"repository: {message}", details=[{"field": "repository", "message": message}]
    )
