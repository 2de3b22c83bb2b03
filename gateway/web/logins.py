"""Signing in with a one-time code: made by an administrator, good once and for minutes, exchanged for a session.

Code and session are rows of the ledger by their hashes, so all replicas know them, and signing out ends the session.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID, uuid4

import msgspec

from gateway import audit
from gateway.access import Role
from gateway.infra.sqlfiles import load_sql
from gateway.web.deadline import within
from gateway.web.keys import Pool
from gateway.web.tokens import SUBJECT_MAX

SQL = load_sql(__package__)
ROLES: Final = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
VALID: Final = timedelta(minutes=10)
VALID_MAX: Final = timedelta(hours=1)
SESSION: Final = re.compile(r"gs_[A-Za-z0-9_-]{43}")
_WITHIN_S: Final = 2.0  # somebody waits for a page: PostgreSQL that is silent for longer is said to be
# Crockford's base 32: without letters that are taken for others. 12 of them are 60 bits.
_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE: Final = re.compile(f"[{_LETTERS}]{{12}}")
_MEANT: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


class Login(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who may sign in with a code until ``expires_at``. The code itself is not kept."""

    id: UUID
    subject: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime


class Session(msgspec.Struct, frozen=True):
    subject: str
    role: Role
    until: datetime


async def create_login(
    pool: Pool, subject: str, role: Role, created_by: str, *, valid: timedelta = VALID
) -> tuple[str, Login]:
    """A new code, in three groups of four, and what is stored of it; the audit has a row of it.

    Raises ValueError for a subject that is empty or too long, a role that may not look, a time beyond ``VALID_MAX``.
    """
    if not 1 <= len(subject) <= SUBJECT_MAX or not subject.isprintable():
        raise ValueError(f"the name has 1 to {SUBJECT_MAX} printable characters")
    if role not in ROLES:
        raise ValueError(f"the role is one of {', '.join(ROLES)}")
    if not timedelta(seconds=1) <= valid <= VALID_MAX:
        raise ValueError(f"a code is good for 1 s to {VALID_MAX.total_seconds() / 60:.0f} minutes")
    code = "".join(secrets.choice(_LETTERS) for _ in range(12))
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            SQL["login_insert"], uuid4(), _hash(code), subject, role.value, created_by, valid.total_seconds()
        )
        login = Login(**{**dict(row or {}), "role": role})
        detail = {"role": role.value, "subject": subject, "expiresAt": login.expires_at.isoformat()}
        change = audit.Change(actor=created_by, action="login.create", subject=str(login.id), detail=detail)
        await audit.record(connection, change)
    return f"{code[:4]}-{code[4:8]}-{code[8:]}", login


def code_of(text: str) -> str | None:
    """The code that somebody typed, in whatever case and groups; None: it is none."""
    meant = text.upper().translate(_MEANT)
    return meant if _CODE.fullmatch(meant) else None


async def use_login(pool: Pool, code: str, lasts: timedelta) -> str | None:
    """The token of a new session, with a row in the audit. None: the code is unknown, was used, or is too old.

    ``code`` as ``code_of`` gives it.
    """
    token = f"gs_{secrets.token_urlsafe(32)}"
    async with asyncio.timeout(_WITHIN_S), pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(SQL["login_use"], _hash(code), _hash(token), lasts.total_seconds())
        if row is None:
            return None
        detail = {"role": row["role"], "createdBy": row["created_by"]}
        change = audit.Change(actor=row["subject"], action="login.use", subject=str(row["id"]), detail=detail)
        await audit.record(connection, change)
    return token


async def find_session(pool: Pool, token: str) -> Session | None:
    """None: there is no such session any more."""
    row = await within(_WITHIN_S, pool.fetchrow(SQL["session_find"], _hash(token)))
    return Session(row["subject"], Role(row["role"]), row["session_until"]) if row is not None else None


async def end_session(pool: Pool, token: str) -> None:
    await within(_WITHIN_S, pool.execute(SQL["session_end"], _hash(token)))


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
