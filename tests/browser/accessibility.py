"""The main pages, and what axe (its engine comes with the package, nothing is fetched) finds on them."""

from __future__ import annotations

from typing import Any, Final

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

from tests.browser.world import World

# By name: words that each shows, with data of the world.
PAGES: Final = {
    "overview": "Mailbox is full",
    "queue": "5.2.2 Mailbox is full",
    "paused queue": "the model's quota is used up",
    "job": "Greylisted, try again",
    "waiting job": "Why waiting:",
    "jobs": "email.send",
    "failures": "Mailbox is full",
    "emails": "5.2.2 Mailbox is full",
    "runs": "Shop",
    "run": "send_email",
    "approvals": "send_email",
    "usage": "Shop",
    "metrics": "email-queue",
    "schedules": "nightly-report",
    "replicas": "live",
    "operations": "Operations",
    "audit": "queue.pause",
    "bulk": "match",
    "not found": "no job",
}
_PATHS: Final = {
    "overview": "",
    "queue": "/queue/email-queue?status=failed",
    "paused queue": "/queue/deep-research",
    "bulk": "/queue/email-queue/bulk?action=retry&status=failed",
    "not found": "/queue/email-queue/nothing",
}
_GRAVE: Final = ("serious", "critical", "moderate")


def page_path(name: str, world: World) -> str:
    """Below the dashboard's address."""
    jobs = {"job": "retried", "waiting job": "waiting"}
    if name in jobs:
        return f"/queue/email-queue/{world.jobs[jobs[name]][0]}"
    if name == "run":
        return f"/runs/{world.runs[0]}"
    return _PATHS.get(name, f"/{name}")


async def findings(page: Page) -> list[str]:
    """What axe finds wrong, but for what is minor."""
    results: dict[str, Any] = (await Axe().run(page)).response
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]}"
        for one in results["violations"]
        if one["impact"] in _GRAVE
        for node in one["nodes"]
    ]
