"""A repository with some of everything, and the client under test."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg

from gateway.services.orchestration.github import GitHub
from tests.support.github_data import FakeRepository, ago
from tests.support.github_server import GitHubServer
from tests.support.web import settings_for

Pool = asyncpg.Pool
REPOSITORY = "octo/app"
TOKEN = "ghp_0123456789abcdef"


def github(hub: GitHubServer, pool: Pool, **others: Any) -> GitHub:
    given = {"github_api_url": hub.url, "github_token": TOKEN} | others
    return GitHub(settings_for("postgresql://not-used", **given), pool, write_gap_s=0.0)


async def age(pool: Pool, hours: float) -> None:
    """Time goes by for what is kept."""
    await pool.execute("UPDATE github_pages SET fetched_at = fetched_at - $1::interval", timedelta(hours=hours))


async def end_of_rest(pool: Pool) -> None:
    await pool.execute("UPDATE github_lanes SET rests_until = now()")


def a_week(app: FakeRepository) -> None:
    """Some of everything, in and before the last day."""
    first = app.add_pull("Old and forgotten", created=ago(days=40), updated=ago(days=20))
    app.add_pull("New", author="bob", draft=True)
    merged = app.add_pull("Merged", created=ago(hours=30), merged=ago(hours=3))
    app.add_pull("Merged long ago", created=ago(days=9), merged=ago(days=8))
    app.add_pull("Given up", closed=ago(hours=1))
    app.add_review(merged, author="ada", submitted=ago(hours=29))  # her own: no review
    app.add_review(merged, author="bob", submitted=ago(hours=26))
    app.add_issue("Broken", created=ago(hours=5))
    app.add_issue("Fixed", created=ago(days=3), closed=ago(hours=2))
    app.add_issue("Old", created=ago(days=30))
    app.add_commit({"src/a.py": (5, 1), "src/b.py": (1, 0)})
    app.add_commit({"src/a.py": (2, 2)}, author=None)
    app.add_commit({"src/a.py": (90, 0)}, parents=2)
    app.add_commit({"src/c.py": (7, 7)}, at=ago(days=3))
    assert first == 1
