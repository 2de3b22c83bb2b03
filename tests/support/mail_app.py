"""The e-mail API in the test's loop: routes, real engine, real ledger, real SMTP. Only the token check is replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email import policy as email_policies
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from litestar import Litestar
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.middleware.authentication import AbstractAuthenticationMiddleware, AuthenticationResult

from gateway.access import SCOPES_OF, Principal, Role, Scope
from gateway.feature import Feature, Platform
from gateway.infra.metrics import Metrics
from gateway.jobs.events import Events
from gateway.jobs.policy import QueuePolicy
from gateway.jobs.schedules import Schedules
from gateway.llm import open_models
from gateway.problem import Problem
from gateway.services import email
from gateway.services.email.attempts import Attempts
from gateway.services.email.queue import EmailQueueService, email_policy
from gateway.settings import load
from gateway.web.errors import exception_handlers
from gateway.web.middleware import BODY_MAX_BYTES, RequestEdge
from gateway.web.requests import demand_sound_request
from tests.support.engine import Replica, replica
from tests.support.realtime import realtime
from tests.support.smtp_server import Received

PEOPLE = {
    name: Principal(id=name, kind="user", role=role, scopes=SCOPES_OF[role])
    for name, role in (
        *(("ann", Role.USER), ("bob", Role.USER)),
        *(("viewer", Role.VIEWER), ("operator", Role.OPERATOR), ("admin", Role.ADMIN)),
    )
} | {
    # An application that may send, and look at everything.
    "watcher": Principal(id="watcher", kind="key", scopes=frozenset({Scope.EMAILS_SEND, Scope.ADMIN_READ})),
}


class NamedCaller(AbstractAuthenticationMiddleware):
    """The caller is whom the header ``x-test-user`` names; the route's scope is checked as the real guard does."""

    async def authenticate_request(self, connection: Any) -> AuthenticationResult:
        return AuthenticationResult(user=PEOPLE[connection.headers.get("x-test-user", "ann")], auth=None)


def demand_scope(connection: Any, handler: Any) -> None:
    wanted = handler.opt["access"]
    assert isinstance(wanted, Scope)
    if not connection.user.may(wanted):
        raise Problem(403, "forbidden", f"needs {wanted}")


@dataclass
class MailApp:
    http: httpx.AsyncClient
    replica: Replica
    platform: Platform
    feature: Feature
    counted: list[tuple[str, str]]

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        return self.platform.pool

    @property
    def attempts(self) -> Attempts:
        return Attempts(self.pool, "smtp")

    @property
    def queue(self) -> EmailQueueService:
        return EmailQueueService(self.pool, self.platform.engine)

    async def call(self, method: str, path: str, json: Any = None, user: str = "ann", **options: Any) -> httpx.Response:
        headers = {"x-test-user": user, **options.pop("headers", {})}
        if "content" in options:
            headers = {"Content-Type": "application/json", **headers}
        if json is not None:
            options["json"] = json
        return await self.http.request(method, f"/api/v1{path}", headers=headers, **options)

    async def send(self, user: str = "ann", **fields: Any) -> str:
        """Accept one mail; answers its id."""
        answer = await self.call("POST", "/emails", mail(**fields), user)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["data"]["id"])

    async def show(self, mail_id: str, user: str = "ann") -> dict[str, Any]:
        answer = await self.call("GET", f"/emails/{mail_id}?include=body,events,attempts", user=user)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found

    async def has_status(self, mail_id: str, status: str) -> dict[str, Any]:
        """For ``eventually``: the mail, once it has this status."""
        found = await self.show(mail_id, "admin")
        assert found["status"] == status, found
        return found


def mail(**fields: Any) -> dict[str, Any]:
    """The smallest mail, changed by ``fields``; None removes one."""
    content = {"from": "shop@shop.example", "to": "ada@example.com", "subject": "Hello", "text": "It works"}
    return {name: value for name, value in {**content, **fields}.items() if value is not None}


def from_now(**distance: float) -> str:
    return (datetime.now(UTC) + timedelta(**distance)).isoformat()


def parsed(received: Received) -> EmailMessage:
    """What the server took, read by the standard library."""
    message = message_from_bytes(received.data, policy=email_policies.default)
    assert isinstance(message, EmailMessage)
    return message


@asynccontextmanager
async def mail_app(
    pool: asyncpg.Pool[asyncpg.Record],
    directory: Path,
    *,
    smtp_port: int = 1,
    redis_url: str | None = None,
    policy: QueuePolicy | None = None,
    **settings: str,
) -> AsyncIterator[MailApp]:
    """Accepts mails; ``app.replica.work()`` starts sending them to ``smtp_port``. ``settings`` by environment name."""
    environment = {
        "DATABASE_URL": "postgresql://unused/unused",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(smtp_port),
        "SMTP_SECURE": "none",
        **settings,
    }
    loaded = load(environment, directory, serving=False).settings
    counted: list[tuple[str, str]] = []
    limits = policy or email_policy(loaded)
    async with replica(pool, redis_url, queue=limits, maintain=True, patience_s=5) as running:
        schedules = Schedules(pool, running.engine)
        models = open_models(loaded, pool, Metrics())
        told = realtime(loaded, pool, running.dispatcher, Events())
        platform = Platform(
            loaded, pool, running.engine, running.inspector, schedules, models, told.publisher, told.hub
        )
        feature = email.feature(platform, count=lambda transport, outcome: counted.append((transport, outcome)))
        for task in feature.tasks:
            running.engine.registry.add_task(task)
        for component in feature.components:
            await component.start()
        app = Litestar(
            route_handlers=list(feature.routes),
            dependencies={"platform": Provide(lambda: platform, sync_to_thread=False)},
            middleware=[DefineMiddleware(NamedCaller)],
            guards=[demand_scope, demand_sound_request],
            exception_handlers=exception_handlers(),
            request_max_body_size=BODY_MAX_BYTES,
        )
        transport = httpx.ASGITransport(RequestEdge(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway.example") as http:
            yield MailApp(http, running, platform, feature, counted)
        for worker in running.workers:
            await worker.stop()
        for component in reversed(feature.components):
            await component.stop()
