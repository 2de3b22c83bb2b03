"""The trail of what administrators changed: one row of ``admin_audit`` for each change."""

from __future__ import annotations

from typing import Any, TypeAlias

import asyncpg
import msgspec
import structlog

from gateway.infra.sqlfiles import load_sql

SQL = load_sql(__package__)

# As text: asyncpg's classes are generic for type checkers only.
_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Ledger: TypeAlias = "asyncpg.Pool[asyncpg.Record] | _Connection"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change that was made. ``action`` is a noun and a verb (``queue.pause``), ``subject`` a queue's name or an id,
    ``detail`` what was asked, as plain JSON values."""

    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


async def record(ledger: Ledger, change: Change) -> None:
    """Write ``change`` down, with the id of the request that is being handled. Called after the change was made, so
    that refused ones leave no row; or in its transaction."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    await ledger.execute(SQL["audit_insert"], change.actor, change.action, change.subject, change.detail, request_id)
