"""The dashboard as a browser without scripts has it: its cookie, its forms, and a look at the pages' structure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import asyncpg
import httpx
import pytest

from gateway.access import Role
from gateway.infra.uuid7 import uuid7
from gateway.jobs.job import NewJob
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.web.auth import mint_token
from gateway.web.session import COOKIE
from tests.support.web import serving, settings_for

PAGES = "/admin/queues"
ORIGIN = {"Origin": "http://localhost"}


@dataclass
class Dashboard:
    """The client is nobody until ``sign_in``."""

    http: httpx.AsyncClient
    runtime: Runtime

    @property
    def settings(self) -> Settings:
        return self.runtime.settings

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        return self.runtime.pool

    def sign_in(self, role: Role = Role.ADMIN) -> None:
        self.http.cookies.set(COOKIE, token_for(self.settings, role))

    async def page(self, path: str = "", status: int = 200) -> Document:
        answer = await self.http.get(PAGES + path)
        assert answer.status_code == status, (answer.status_code, Document.of(answer.text).text[-600:])
        return Document.of(answer.text)

    async def press(self, path: str, **fields: str) -> httpx.Response:
        """Send a form, as a page of ours does."""
        return await self.http.post(PAGES + path, data=fields, headers=ORIGIN)

    async def submit(self, args: dict[str, Any] | None = None, **others: Any) -> str:
        """A job of the e-mail queue whose task is not there: nothing runs it while the queue is paused."""
        values = {"queue": "email-queue", "task": "email.send", "args": args or {"emailId": str(uuid7())}} | others
        return str((await self.runtime.engine.submit(NewJob(id=uuid7(), **values))).id)

    async def fail(self, job_id: str, error: str = "SMTP 550 no such user") -> None:
        await self.pool.execute(
            "UPDATE jobs SET state = 'failed', attempts = 3, error = $2, finished_at = now() WHERE id = $1::uuid",
            job_id,
            error,
        )

    async def state_of(self, job_id: str) -> str | None:
        found: str | None = await self.pool.fetchval("SELECT state FROM jobs WHERE id = $1::uuid", job_id)
        return found

    async def audited(self) -> list[tuple[str, str, str]]:
        rows = await self.pool.fetch("SELECT actor, action, subject FROM admin_audit ORDER BY id")
        return [(row["actor"], row["action"], row["subject"]) for row in rows]


_counting: ContextVar[list[str] | None] = ContextVar("counting", default=None)


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements of what is called within, not those of loops that run beside it. That of the navigation is always
    one of them, whatever was read two seconds ago."""
    execute = asyncpg.Connection._execute

    async def counted(connection: Any, query: str, *args: Any, **options: Any) -> Any:
        if (seen := _counting.get()) is not None:
            seen.append(query)
        return await execute(connection, query, *args, **options)

    found: list[str] = []
    token = _counting.set(found)
    with monkeypatch.context() as patch:
        patch.setattr(asyncpg.Connection, "_execute", counted)
        patch.setattr("gateway.web.dashboard.counts.KEPT_S", 0.0)
        yield found
    _counting.reset(token)


def token_for(settings: Settings, role: Role) -> str:
    return mint_token(settings, f"the {role}", role, datetime.now(UTC) + timedelta(minutes=5))


@asynccontextmanager
async def dashboard(database_url: str, **settings: Any) -> AsyncIterator[Dashboard]:
    """A gateway whose workers rest, so that jobs stay as the test puts them."""
    made = settings_for(database_url, **({"gateway_role": "api"} | settings))
    async with serving(made) as (client, runtime):
        yield Dashboard(client, runtime)


@dataclass
class Document(HTMLParser):
    """A page, read by the standard library's parser: every element with its attributes, and all text."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, html: str) -> Document:
        made = cls()
        HTMLParser.__init__(made, convert_charrefs=True)
        made.feed(html)
        made.close()
        return made

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def labels(self) -> list[str]:
        """What is said of what has no words of its own."""
        return [str(each["aria-label"]) for _, each in self.elements if each.get("aria-label")]

    def links(self) -> list[str]:
        return [link for element in self.all("a") if (link := element.get("href"))]

    def actions(self) -> list[str]:
        """Where the forms that change something go, without signing out."""
        found = [form.get("action") or "" for form in self.all("form") if form.get("method") == "post"]
        return [action for action in found if not action.endswith("/logout")]

    def sound(self) -> None:
        """One heading, a language, no id twice, a name for each control, nothing inline, nothing from elsewhere."""
        assert len(self.all("h1")) == 1
        assert self.all("html")[0].get("lang") == "en"
        ids = [value for _, attributes in self.elements if (value := attributes.get("id"))]
        assert len(ids) == len(set(ids)), sorted(ids)
        labelled = {label.get("for") for label in self.all("label")}
        for tag in ("input", "select", "textarea"):
            for control in self.all(tag):
                if control.get("type") != "hidden":
                    assert control.get("id") in labelled, control
        for tag, attributes in self.elements:
            assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
            for name in ("src", "href", "action"):
                target = attributes.get(name)
                assert target is None or target.startswith(("/", "#")) or target == "", (tag, target)
        assert all(script.get("src") for script in self.all("script"))
        assert not self.all("style")
