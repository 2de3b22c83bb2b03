"""Requests that may be repeated: the header ``Idempotency-Key``, kept in PostgreSQL.

The answer is written in the transaction that does the work. So a key and its work are committed together or not at all,
a failed request stores nothing, and a repeated one finds the answer or does the work, never half of both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec
from litestar import MediaType, Response

from gateway.infra.sqlfiles import load_sql
from gateway.jobs.duties import in_batches
from gateway.problem import Problem

SQL = load_sql(__package__)
KEPT_S: Final = 86_400.0  # interface.md: 24 h
KEY_MAX: Final = 256
REPLAYED_HEADER: Final = "Idempotent-Replayed"

# As text: asyncpg's classes are generic for type checkers only.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Answer(msgspec.Struct, frozen=True):
    """A success for the caller: HTTP status and JSON. ``replayed``: an earlier request did the work."""

    status: int
    body: bytes
    replayed: bool = False

    @classmethod
    def of(cls, status: int, data: Any) -> Answer:
        return cls(status, msgspec.json.encode(data))

    def response(self) -> Response[bytes]:
        headers = {REPLAYED_HEADER: "true"} if self.replayed else {}
        return Response(self.body, status_code=self.status, media_type=MediaType.JSON, headers=headers)


Work = Callable[[Connection], Awaitable[Answer]]


def request_hash(method: str, path: str, body: bytes) -> bytes:
    """What makes two requests the same one: a key is good for one route and one body, byte by byte."""
    return sha256(f"{method} {path}\n".encode() + body).digest()


def check_key(key: str) -> None:
    """Raises Problem 400 ``invalid_idempotency_key``."""
    if not 1 <= len(key) <= KEY_MAX or not key.isprintable():
        message = f"Idempotency-Key must have 1 to {KEY_MAX} printable characters; this one has {len(key)}"
        raise Problem(400, "invalid_idempotency_key", message)


async def run_idempotent(
    pool: asyncpg.Pool[asyncpg.Record], caller: str, key: str | None, request: bytes, work: Work
) -> Answer:
    """Run ``work`` in one transaction and keep its answer for ``key``; or give the answer that is kept.

    ``caller`` is ``Principal.id``, ``request`` comes from ``request_hash``. Without a key it only opens the
    transaction. What must follow a commit (telling the dispatcher) is for the caller, if nothing was ``replayed``.

    Raises Problem 400 ``invalid_idempotency_key``; 409 ``concurrent_idempotent_requests`` while the first request runs;
    409 ``invalid_idempotent_request`` when the key was used for another request; and what ``work`` raises, in which
    case nothing is kept.
    """
    if key is not None:
        check_key(key)
    async with pool.acquire() as connection, connection.transaction():
        if key is None:
            return await work(connection)
        if (kept := await _kept(connection, caller, key, request)) is not None:
            return kept
        answer = await work(connection)
        if 200 <= answer.status < 300:
            await connection.execute(SQL["idempotency_store"], caller, key, request, answer.status, answer.body)
        return answer


async def _kept(connection: Connection, caller: str, key: str, request: bytes) -> Answer | None:
    # Two statements on purpose: the second one's snapshot is taken when the lock is held, so it sees what the request
    # that held it before has committed.
    if not await connection.fetchval(SQL["idempotency_lock"], _lock_key(caller, key)):
        raise Problem(
            409,
            "concurrent_idempotent_requests",
            "A request with this Idempotency-Key is still running; repeat this one when it has been answered",
            headers={"Retry-After": "1"},
        )
    row = await connection.fetchrow(SQL["idempotency_find"], caller, key, KEPT_S)
    if row is None:
        return None
    if row["request_hash"] != request:
        raise Problem(
            409,
            "invalid_idempotent_request",
            "This Idempotency-Key was used for another request in the last 24 hours; use a new key for each request",
        )
    return Answer(row["status"], row["body"], replayed=True)


def _lock_key(caller: str, key: str) -> int:
    # Other advisory locks of this database have small constants or other hashes: a clash costs one 409, nothing else.
    return int.from_bytes(sha256(f"{caller}\0{key}".encode()).digest()[:8], "big", signed=True)


async def prune_answers(pool: asyncpg.Pool[asyncpg.Record]) -> int:
    """A duty: delete the answers that are no longer kept; answers how many."""
    return await in_batches(pool, SQL["idempotency_prune"], KEPT_S)
