"""The schema: numbered SQL files, applied once each, in order, forward only.

A file is one transaction. A file whose first line is ``-- migrate: no-transaction`` runs without one: it holds
statements that may be repeated (``CREATE INDEX CONCURRENTLY IF NOT EXISTS``), as some may be applied when it ends in
the middle. Each index of a table that was there before is built so. A transaction-mode connection pooler cannot hold
the lock: migrate over a direct connection.

Versions run side by side while one replaces the other, so a file only adds (expand). What takes something away that an
older version uses has a name that says who can do without it: ``0031_contract_after_0024_drop_legacy.sql`` may run once
no replica is left that does not know 0024. An older version goes on, and starts, on a schema that was only added to.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from gateway import __version__
from gateway.infra import index_builds
from gateway.infra.postgres import connect

NO_TRANSACTION: Final = "-- migrate: no-transaction"
_FILE_NAME: Final = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_CONTRACT: Final = re.compile(r"^\d{4}_contract_after_(\d{4})_")
_LOCK_KEY: Final = 0x67617465776179  # "gateway": one lock for all that migrate one database
_LOCK_POLL_S: Final = 0.1
_LOCK_WAIT_S: Final = 900.0  # a backfill of another starter may take minutes
# DDL that waits for a lock blocks all who come after it: give way quickly, try again.
_DDL_LOCK_TIMEOUT: Final = "5s"
_DDL_ATTEMPTS: Final = 12

_CREATE_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  name        text PRIMARY KEY,
  sha256      text NOT NULL,
  app_version text NOT NULL,
  applied_at  timestamptz NOT NULL DEFAULT now(),
  seconds     double precision NOT NULL
)"""
_RECORD: Final = "INSERT INTO schema_migrations (name, sha256, app_version, seconds) VALUES ($1, $2, $3, $4)"


class MigrationError(Exception):
    """The schema cannot be brought to this version; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. ``name`` is the file name without ``.sql``; its first four digits are the version."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def in_transaction(self) -> bool:
        return not self.sql.startswith(NO_TRANSACTION)


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """Names, in order. ``unknown`` are in the database only (a newer version put them there), ``changed`` differ.

    ``ahead``: the database is newer, and this version can still use it.
    """

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    unknown: tuple[str, ...]
    changed: tuple[str, ...]
    newest_app: str | None = None

    @property
    def current(self) -> bool:
        return not (self.pending or self.unknown or self.changed)

    @property
    def ahead(self) -> bool:
        return bool(self.unknown) and self.problem() is None

    def problem(self) -> str | None:
        """Why this version cannot run on the schema, in words for people; ``None`` when it can."""
        known = (*self.applied, *self.pending)
        here = _version(max((*self.applied, *self.unknown))) if self.applied or self.unknown else "nothing"
        if self.changed:
            return f"Migrations were changed after they were applied: {', '.join(self.changed)}. Restore these files."
        if any(needed_by(name) > _version(max(known, default="")) for name in self.unknown):
            return _newer(self)
        if self.pending:
            return (
                f"The database is at {here}, this version needs {_version(self.pending[-1])}. "
                f"Run: gateway migrate  (adds {len(self.pending)})"
            )
        return None


def _newer(status: MigrationStatus) -> str:
    here, known = _version(max((*status.applied, *status.unknown))), (*status.applied, *status.pending)
    needs = _version(max(known)) if known else "nothing"
    return f"The database is newer ({here}) than this version ({needs}). Deploy {status.newest_app} or later."


def needed_by(name: str) -> str:
    """The newest migration that a version must know to run on a schema with this one; empty: it only adds."""
    match = _CONTRACT.match(name)
    return "" if match is None else match[1]


def _version(name: str) -> str:
    return name[:4]


def migrations_directory() -> Path:
    """``gateway/_migrations`` in an installed wheel, else ``migrations/`` beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "_migrations", package.parent / "migrations"):
        if candidate.is_dir():
            return candidate
    raise MigrationError(
        f"No migrations: neither {package / '_migrations'} nor {package.parent / 'migrations'} exists."
    )


def load_migrations(directory: Path | None = None) -> tuple[Migration, ...]:
    """All files in order. Raises ``MigrationError`` on a bad file name, a gap or a number used twice."""
    found = sorted((directory or migrations_directory()).glob("*.sql"))
    for number, path in enumerate(found, start=1):
        match = _FILE_NAME.match(path.name)
        if match is None or int(match[1]) != number:
            raise MigrationError(f"Migration {path.name}: expected {number:04d}_<lower_case_words>.sql.")
    return tuple(Migration(path.stem, path.read_text("utf-8")) for path in found)


async def migration_status(connection: Any, migrations: Sequence[Migration] | None = None) -> MigrationStatus:
    """Compare the database with the files of this version (or the given ones). Changes nothing."""
    files = {one.name: one for one in (load_migrations() if migrations is None else migrations)}
    rows: list[asyncpg.Record] = []
    if await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        rows = await connection.fetch("SELECT name, sha256, app_version FROM schema_migrations ORDER BY name")
    recorded = {row["name"]: row["sha256"] for row in rows}
    return MigrationStatus(
        applied=tuple(name for name in recorded if name in files),
        pending=tuple(name for name in files if name not in recorded),
        unknown=tuple(name for name in recorded if name not in files),
        changed=tuple(name for name, digest in recorded.items() if name in files and files[name].sha256 != digest),
        newest_app=rows[-1]["app_version"] if rows else None,
    )


async def migrate(
    url: str,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
    on_build: Callable[[str], None] | None = None,
    migrations: Sequence[Migration] | None = None,
) -> list[str]:
    """Apply what is pending and return the applied names. Any number of processes may call this at once.

    ``on_progress(name, position, total)`` is called before each file, ``on_build`` with words on an index whose build
    takes longer than two seconds. Raises ``MigrationError`` when the database is
    too new for this version, files were changed, or a file fails; the files before that one stay applied.
    """
    known = load_migrations() if migrations is None else tuple(migrations)
    connection = await connect(url, application_name="gateway migrate", command_timeout_s=None)
    try:
        await _lock(connection)
        await connection.execute(_CREATE_TABLE)
        status = await migration_status(connection, known)
        if status.ahead:
            return []
        if status.changed or status.unknown:
            raise MigrationError(status.problem() if status.changed else _newer(status))
        pending = [one for one in known if one.name in status.pending]
        for position, migration in enumerate(pending, start=1):
            if on_progress is not None:
                on_progress(migration.name, position, len(pending))
            await _apply(connection, migration, _Builds(url, on_build))
        return [one.name for one in pending]
    finally:
        # Closing gives the lock back. It is held by the connection that runs the files: if that dies, both end.
        await connection.close()


async def _lock(connection: Any) -> None:
    # Polled: a blocking pg_advisory_lock keeps a snapshot, for which the holder's CREATE INDEX CONCURRENTLY would wait.
    deadline = time.monotonic() + _LOCK_WAIT_S
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        if time.monotonic() > deadline:
            raise MigrationError(
                f"Another process has been migrating this database for {_LOCK_WAIT_S / 60:.0f} minutes."
            )
        await asyncio.sleep(_LOCK_POLL_S)


@dataclass(frozen=True, slots=True)
class _Builds:
    """Where to look how far they are, and whom to tell."""

    url: str
    told: Callable[[str], None] | None


async def _apply(connection: Any, migration: Migration, builds: _Builds) -> None:
    for attempt in range(1, _DDL_ATTEMPTS + 1):
        try:
            await _run(connection, migration, builds)
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if attempt == _DDL_ATTEMPTS:
                raise MigrationError(f"Migration {migration.name} could not get its lock: {error}") from error
        except asyncpg.PostgresError as error:
            undone = (
                "and was undone" if migration.in_transaction else "; what it has done stays, and it may be repeated"
            )
            raise MigrationError(f"Migration {migration.name} failed {undone}: {error}") from error


async def _run(connection: Any, migration: Migration, builds: _Builds) -> None:
    started = time.monotonic()
    if not migration.in_transaction:
        await index_builds.prepare(connection)
        for statement in index_builds.statements(migration.sql):
            await index_builds.run(connection, builds.url, statement, builds.told)
        await _record(connection, migration, started)
        return
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_DDL_LOCK_TIMEOUT}'")
        await connection.execute(migration.sql)
        await _record(connection, migration, started)


async def _record(connection: Any, migration: Migration, started: float) -> None:
    await connection.execute(_RECORD, migration.name, migration.sha256, __version__, time.monotonic() - started)
