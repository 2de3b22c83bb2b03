"""API keys of applications: shown once, stored as a hash, revoked at once."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import msgspec

from gateway.access import Scope
from gateway.infra.sqlfiles import load_sql

SQL = load_sql(__package__)
KEY_PREFIX: Final = "gw_"
NAME_MAX: Final = 100
_SHOWN: Final = len(KEY_PREFIX) + 6  # enough to recognise a key by, 36 of its 256 bits

# As text: asyncpg's classes are generic for type checkers only.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A key without its secret. ``prefix``: its first characters, to recognise it by."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    revoked_at: datetime | None


class KeyOwner(msgspec.Struct, frozen=True):
    """What a request with a key may do. ``used_lately``: its use was recorded less than a minute ago."""

    id: UUID
    scopes: frozenset[Scope]
    revoked: bool
    used_lately: bool


async def create_key(pool: Pool, name: str, scopes: Iterable[Scope], created_by: str) -> tuple[str, KeyInfo]:
    """A new key and what is stored of it. The first is not stored anywhere: it cannot be shown again.

    Raises ValueError for a name or scopes that are empty, or a name over 100 characters.
    """
    wanted = sorted({Scope(scope).value for scope in scopes})
    label = name.strip()
    if not 1 <= len(label) <= NAME_MAX or not label.isprintable():
        raise ValueError(f"a key's name has 1 to {NAME_MAX} printable characters")
    if not wanted:
        raise ValueError(f"a key needs a scope: {', '.join(Scope)}")
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    row = await pool.fetchrow(SQL["key_insert"], uuid4(), label, key[:_SHOWN], _hash(key), wanted, created_by)
    return key, KeyInfo(**dict(row or {}))


async def list_keys(pool: Pool) -> list[KeyInfo]:
    """All keys, revoked ones too, newest first."""
    return [KeyInfo(**dict(row)) for row in await pool.fetch(SQL["key_list"])]


async def revoke_key(pool: Pool, key_id: UUID) -> KeyInfo | None:
    """From now on requests with it are refused. Revoking again changes nothing; None: there is no such key."""
    row = await pool.fetchrow(SQL["key_revoke"], key_id)
    return KeyInfo(**dict(row)) if row is not None else None


async def find_key(pool: Pool, key: str) -> KeyOwner | None:
    row = await pool.fetchrow(SQL["key_find"], _hash(key))
    if row is None:
        return None
    known: dict[str, Any] = {scope.value: scope for scope in Scope}  # a scope of a later version grants nothing here
    scopes = frozenset(known[scope] for scope in row["scopes"] if scope in known)
    return KeyOwner(row["id"], scopes, row["revoked"], row["used_lately"])


async def record_use(pool: Pool, key_id: UUID) -> None:
    await pool.execute(SQL["key_used"], key_id)


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()
