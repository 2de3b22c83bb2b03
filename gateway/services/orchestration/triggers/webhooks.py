"""Webhook triggers: rows, their secrets, and what becomes of a delivery."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from gateway.feature import Platform
from gateway.infra.sqlfiles import load_sql
from gateway.infra.uuid7 import uuid7
from gateway.jobs.job import Inserted
from gateway.problem import Problem
from gateway.services.orchestration.conflicts import OnConflict
from gateway.services.orchestration.projects import Projects
from gateway.services.orchestration.runs import Connection
from gateway.services.orchestration.schemas import TriggerSource
from gateway.services.orchestration.starting import Prepared, Runs
from gateway.services.orchestration.triggers.delivery import Delivery, Wanted, bounded, read_delivery, unwanted
from gateway.services.orchestration.triggers.secrets import Sealed, TriggerSecrets
from gateway.services.orchestration.triggers.signature import (
    DELIVERY_HEADER,
    GITHUB_DELIVERY_HEADER,
    GITHUB_EVENT_HEADER,
    Scheme,
    verify,
)
from gateway.services.orchestration.triggers.starting import run_of, skip_of

log = structlog.get_logger(__name__)

SQL = load_sql(__package__)

_ID_MAX: Final = 200  # characters of a sender's delivery id
_MINUTE_S: Final = 60


class NewTrigger(msgspec.Struct, frozen=True, kw_only=True):
    """``agent_slug`` None: a batch. Of ``events``, ``actions`` and ``branches`` (patterns) empty means any.
    ``max_per_minute``: deliveries that may start a run."""

    project_id: UUID
    name: str
    agent_slug: str | None
    scheme: Scheme
    events: list[str]
    actions: list[str]
    branches: list[str]
    on_conflict: OnConflict
    max_per_minute: int
    enabled: bool


class Trigger(NewTrigger, frozen=True, kw_only=True):
    id: UUID
    sealed: Sealed
    last_at: datetime | None
    skipped_at: datetime | None
    skip_reason: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a delivery: a run, or why there is none. ``duplicate``: an earlier one had its id or signature."""

    run_id: UUID | None = None
    skipped: str | None = None
    duplicate: bool = False
    mode: str | None = None


class WebhookTriggers:
    """Raises ``Problem`` where a method says so, and what asyncpg raises."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], keys: TriggerSecrets) -> None:
        self._pool = pool
        self._keys = keys

    async def create(self, new: NewTrigger, caller: str) -> tuple[Trigger, str]:
        """The trigger and its secret, which is told this once. Raises Problem 409 ``trigger_exists`` and
        ``webhooks_not_configured``."""
        trigger_id = uuid7()
        secret, sealed = self._keys.new(trigger_id)
        values = (new.project_id, *_values(new), sealed.salt, sealed.key_check, caller)
        row = await self._pool.fetchrow(SQL["webhook_insert"], trigger_id, *values)
        if row is None:
            raise _exists(new.name)
        return _trigger(row), secret

    async def replace(self, trigger_id: UUID, new: NewTrigger) -> Trigger:
        """Raises Problem 404 and 409. The secret stays."""
        try:
            row = await self._pool.fetchrow(SQL["webhook_update"], trigger_id, *_values(new))
        except asyncpg.UniqueViolationError:
            raise _exists(new.name) from None
        return _found(row)

    async def rotate(self, trigger_id: UUID) -> tuple[Trigger, str]:
        """Another secret, told this once; the old one is void at once. Raises Problem 404 and 409."""
        secret, sealed = self._keys.new(trigger_id)
        row = await self._pool.fetchrow(SQL["webhook_rotate"], trigger_id, sealed.salt, sealed.key_check)
        return _found(row), secret

    async def delete(self, trigger_id: UUID) -> None:
        await self._pool.execute(SQL["webhook_delete"], trigger_id)

    async def get(self, trigger_id: UUID) -> Trigger:
        """Raises Problem 404."""
        return _found(await self._pool.fetchrow(SQL["webhook_get"], trigger_id))

    async def page(self, project_id: UUID | None, member: str | None, before: UUID | None, limit: int) -> list[Trigger]:
        """Newest first. ``member``: only of his projects."""
        return [_trigger(row) for row in await self._pool.fetch(SQL["webhook_list"], project_id, member, before, limit)]

    async def deliveries(self, trigger_id: UUID, limit: int) -> list[dict[str, Any]]:
        """The last ones that were acted upon; of GitHub all."""
        return [dict(row) for row in await self._pool.fetch(SQL["delivery_list"], trigger_id, limit)]

    def secret_of(self, trigger: Trigger) -> str | None:
        """None: it was made with another key."""
        return self._keys.of(trigger.id, trigger.sealed)


class Deliveries:
    """Takes what senders deliver."""

    def __init__(self, platform: Platform, triggers: WebhookTriggers, runs: Runs, projects: Projects) -> None:
        self._pool = platform.pool
        self._engine = platform.engine
        self._triggers = triggers
        self._runs = runs
        self._projects = projects

    async def take(self, trigger_id: UUID, body: bytes, headers: Mapping[str, str], now: float) -> Told:
        """``now``: seconds since 1970. Raises Problem 404 for no such trigger, 401 for a signature that is missing,
        wrong or too old, 400 for a body that is not JSON, 429 beyond the trigger's rate; and ``QueueFull``."""
        trigger = await self._triggers.get(trigger_id)
        signature = self._signature(trigger, body, headers, now)
        delivery = read_delivery(_json(body), headers.get(GITHUB_EVENT_HEADER))
        wanted = Wanted(events=trigger.events, actions=trigger.actions, branches=trigger.branches)
        against = "the trigger is switched off" if not trigger.enabled else unwanted(wanted, delivery)
        delivery_id = _delivery_id(trigger.scheme, headers)
        if against is None:
            return await self._act(trigger, delivery, delivery_id, signature)
        await self._pool.execute(SQL["webhook_skip"], trigger.id, against)
        if trigger.scheme is Scheme.GITHUB:  # it signs no time: whoever kept the delivery could send it again later
            row = (uuid7(), trigger.id, delivery_id, signature, delivery.event, against)
            await self._pool.execute(SQL["delivery_remember"], *row)
        return Told(skipped=against)

    def _signature(self, trigger: Trigger, body: bytes, headers: Mapping[str, str], now: float) -> bytes:
        secret = self._triggers.secret_of(trigger)
        if secret is None:
            log.warning(
                "webhook_secret_void", trigger_id=str(trigger.id), fix="rotate it: the key of secrets has changed"
            )
        signature = None if secret is None else verify(trigger.scheme, secret, body, headers, now)
        if signature is None:  # which of the reasons it was is nobody's business
            raise Problem(
                401, "invalid_signature", "The delivery is not signed with this trigger's secret, or too long ago"
            )
        return signature

    async def _act(self, trigger: Trigger, delivery: Delivery, delivery_id: str | None, signature: bytes) -> Told:
        earlier = await self._pool.fetchrow(SQL["delivery_find"], trigger.id, delivery_id, signature)
        if earlier is not None:
            return _again(earlier)
        prepared = await self._prepared(trigger, delivery)
        inserted: list[Inserted] = []
        async with self._pool.acquire() as connection, connection.transaction():
            # Counting holds the trigger's row: its deliveries go one after the other.
            counted = await connection.fetchrow(SQL["webhook_count"], trigger.id)
            earlier = await connection.fetchrow(SQL["delivery_find"], trigger.id, delivery_id, signature)
            if earlier is not None:
                return _again(earlier)
            if counted is None:
                return Told(skipped="the trigger was switched off or deleted")
            if counted["received"] > counted["max_per_minute"]:
                raise _too_many(trigger, counted["second"])
            told = prepared if isinstance(prepared, Told) else await self._start(connection, prepared, inserted)
            row = (uuid7(), trigger.id, delivery_id, signature, delivery.event, told.run_id, told.skipped)
            await connection.execute(SQL["delivery_insert"], *row)
            if told.skipped is not None:
                await connection.execute(SQL["webhook_skip"], trigger.id, told.skipped)
        await self._engine.offer(inserted)
        return told

    async def _prepared(self, trigger: Trigger, delivery: Delivery) -> Prepared | Told:
        context = {"webhook": _context(trigger, delivery)}
        wanted = run_of(TriggerSource.WEBHOOK, trigger.project_id, trigger.agent_slug, context, trigger.on_conflict)
        try:
            return await self._runs.prepare(wanted, await self._projects.open(trigger.project_id))
        except Problem as problem:
            return _refused(problem)

    async def _start(self, connection: Connection, prepared: Prepared, inserted: list[Inserted]) -> Told:
        """A full queue is the sender's to try again; what else stands against the run is kept with the delivery."""
        try:
            async with connection.transaction():
                started = await self._runs.insert(connection, prepared, inserted)
        except Problem as problem:
            return _refused(problem)
        return Told(run_id=started.run_id, mode=started.mode)


def no_trigger() -> Problem:
    return Problem(404, "not_found", "There is no such trigger, or it is not yours")


def _again(earlier: asyncpg.Record) -> Told:
    return Told(run_id=earlier["run_id"], skipped=earlier["skip_reason"], duplicate=True)


def _refused(problem: Problem) -> Told:
    skip = skip_of(problem)
    return Told(skipped=f"{skip.code}: {skip.reason}")


def _context(trigger: Trigger, delivery: Delivery) -> dict[str, Any]:
    payload, cut = bounded(delivery.payload)
    context = {
        "trigger": trigger.name,
        "event": delivery.event,
        "action": delivery.action,
        "branch": delivery.branch,
        "payload": payload,
        "cut": cut,
    }
    return {name: value for name, value in context.items() if value not in (None, False)}


def _delivery_id(scheme: Scheme, headers: Mapping[str, str]) -> str | None:
    given = headers.get(GITHUB_DELIVERY_HEADER if scheme is Scheme.GITHUB else DELIVERY_HEADER)
    if given is None:
        return None
    if not (0 < len(given) <= _ID_MAX and given.isprintable()):
        raise Problem(400, "validation_error", f"The delivery id is not 1 to {_ID_MAX} printable characters")
    return given


def _json(body: bytes) -> Any:
    try:
        decoded = msgspec.json.decode(body)
        # NUL characters are legal JSON, and no text in PostgreSQL.
        return msgspec.json.decode(body.replace(b"\\u0000", b"\\ufffd")) if b"\\u0000" in body else decoded
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        fix = "; at GitHub choose the content type application/json"
        raise Problem(400, "invalid_json", f"The body is not JSON: {error}{fix}") from None


def _too_many(trigger: Trigger, second: float) -> Problem:
    wait_s = max(1, math.ceil(_MINUTE_S - second))
    message = f"This trigger takes {trigger.max_per_minute} deliveries a minute"
    return Problem(429, "too_many_deliveries", message, headers={"Retry-After": str(wait_s)})


def _exists(name: str) -> Problem:
    message = f"The project has a trigger {name!r} already"
    return Problem(409, "trigger_exists", message, details=[{"field": "name", "message": message}])


def _values(new: NewTrigger) -> tuple[Any, ...]:
    return tuple(getattr(new, name) for name in NewTrigger.__struct_fields__ if name != "project_id")


def _found(row: asyncpg.Record | None) -> Trigger:
    if row is None:
        raise no_trigger()
    return _trigger(row)


def _trigger(row: asyncpg.Record) -> Trigger:
    fields = {name: row[name] for name in Trigger.__struct_fields__ if name != "sealed"}
    words = {"scheme": Scheme(row["scheme"]), "on_conflict": OnConflict(row["on_conflict"])}
    return Trigger(**(fields | words), sealed=Sealed(row["salt"], row["key_check"]))
