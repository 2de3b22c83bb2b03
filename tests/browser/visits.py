"""Chromium of Debian, and pages of it that may do nothing wrong: what a visitor's browser complained of is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    async_playwright,
    expect,
)

from gateway.web.session import COOKIE
from tests.browser.world import World
from tests.support.debian import library_path, program
from tests.support.gateway_process import token

FLAGS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
expect.set_options(timeout=20_000)  # by default 5 s, which a busy machine may need for a page
_TELL_VIOLATIONS: Final = """
document.addEventListener("securitypolicyviolation",
    (event) => console.error("policy: " + event.violatedDirective + " " + event.blockedURI));
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """One browser; its profile is empty and thrown away. Skips where there is none (see ``tests.support.debian``)."""
    path = program("chromium", "chromium")
    environment = {"LD_LIBRARY_PATH": library_path(path)}
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(path), args=list(FLAGS), env=environment)
        yield browser
        await browser.close()


@dataclass
class Visits:
    """Opens pages, each with a session of its own. ``faults``: what a sound page has none of."""

    browser: Browser
    world: World
    faults: list[str] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)  # origins that a test asks for itself
    _contexts: list[BrowserContext] = field(default_factory=list)
    _refused: set[str] = field(default_factory=set)

    async def open(self, path: str = "", *, role: str | None = "admin", **options: Any) -> Page:
        """``options`` as in Playwright's ``new_context``: viewport, color_scheme, java_script_enabled ..."""
        context = await self.session(role, **options)
        return await self.another(context, path)

    async def session(self, role: str | None = "admin", **options: Any) -> BrowserContext:
        """``role`` None: nobody has signed in."""
        context = await self.browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        self._contexts.append(context)
        context.set_default_timeout(30_000)
        if role is not None:
            await context.add_cookies([{"name": COOKIE, "value": token(role), "url": self.world.url}])
        await context.add_init_script(_TELL_VIOLATIONS)
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.faults.append(f"error of a script: {error.error}"))
        context.on("request", self._asked)
        context.on("response", self._answered)
        return context

    async def another(self, context: BrowserContext, path: str = "") -> Page:
        """One more tab."""
        page = await context.new_page()
        await page.goto(self.world.url + path)
        return page

    async def close(self) -> None:
        for context in self._contexts:
            await context.close()

    def _heard(self, message: ConsoleMessage) -> None:
        # The browser reports a page that was refused too; what it was refused with is for the test to look at.
        if message.type in ("error", "warning") and message.location["url"] not in self._refused:
            self.faults.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if not self.world.url.startswith(f"{origin}/") and parts.scheme != "data" and origin not in self.foreign:
            self.faults.append(f"asked {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self.faults.append(f"{response.status} {response.url}")
        elif response.status >= 400 and (response.request.is_navigation_request() or response.request.method == "POST"):
            self._refused.add(response.url)
