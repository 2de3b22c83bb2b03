"""PostgreSQL, and what the ledger tells of replicas, queues and upkeep."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.doctor.findings import Finding, ok, problem, skipped, warning
from gateway.cli.errors import CliError
from gateway.infra.sqlfiles import load_sql

if TYPE_CHECKING:
    import asyncpg

    from gateway.jobs.records import Replica
    from gateway.settings import Settings

SQL = load_sql(__package__)

_BESIDE: Final = 3  # connections of a process beside its pool: those that must not wait behind work
_SKEW_S: Final = 1.0
_SKEW_MAX_S: Final = 30.0  # a token's leeway, a lease: from here on things go wrong
_IDLE_S: Final = 60.0


async def examine(settings: Settings) -> list[Finding]:
    from gateway.cli.database import explained
    from gateway.infra.migrate import migration_status
    from gateway.infra.postgres import connect

    try:
        with explained(settings.database_url):
            connection = await connect(settings.database_url, application_name="gateway doctor")
            try:
                found = await _server(connection)
                status = await migration_status(connection)
                if (wrong := status.problem()) is not None:
                    return [*found, problem("migrations", wrong, "Until then no replica of this version is ready.")]
                newer = f"{len(status.applied)} applied, and {', '.join(status.unknown)} of a newer version"
                seen = newer if status.unknown else f"{len(status.applied)} applied, none pending"
                return [*found, ok("migrations", seen), *await _installation(connection, settings)]
            finally:
                connection.terminate()  # a server that has fallen silent would never answer a farewell
    except CliError as error:
        return [problem("postgresql", error.message, "Nothing is accepted or sent while it is away.")]


async def _server(connection: asyncpg.Connection[asyncpg.Record]) -> list[Finding]:
    began, sent = time.monotonic(), datetime.now(UTC)
    row = await connection.fetchrow(SQL["server"])
    took_s = time.monotonic() - began
    if row is None:
        raise CliError("PostgreSQL answered nothing")
    facts = dict(row)
    seen = f"version {facts['version']}, answers in {took_s * 1000:.0f} ms"
    if facts["standby"]:
        todo = "Name the primary in DATABASE_URL."
        return [problem("postgresql", f"{seen}, and is a standby: it takes no writes", todo)]
    skew_s = (facts["now"] - sent).total_seconds() - took_s / 2
    return [ok("postgresql", seen), _durability(facts), _clock(skew_s), _idle(facts), _indexes(facts["broken"])]


def _durability(facts: dict[str, Any]) -> Finding:
    seen = f"fsync {facts['fsync']}, synchronous_commit {facts['synchronous_commit']}"
    if facts["fsync"] == "off":
        return problem("durability", seen, "Set fsync = on: a power cut may take the whole database along.")
    if facts["synchronous_commit"] == "off":
        todo = "Set synchronous_commit = on: after a crash, jobs that were accepted in the last second may be gone."
        return warning("durability", seen, todo)
    return ok("durability", seen)


def _clock(skew_s: float) -> Finding:
    seen = f"this machine's clock is {abs(skew_s):.2f} s {'behind' if skew_s > 0 else 'ahead of'} PostgreSQL's"
    if abs(skew_s) <= _SKEW_S:
        return ok("clock", seen)
    todo = "Let both follow a time server (NTP). Jobs go by PostgreSQL's clock; tokens, logs and traces by this one."
    return (problem if abs(skew_s) > _SKEW_MAX_S else warning)("clock", seen, todo)


def _idle(facts: dict[str, Any]) -> Finding:
    number, oldest_s = facts["idle"], facts["oldest_idle_s"]
    if oldest_s is None or oldest_s < _IDLE_S:
        unseen = "" if facts["sees_all"] else " (those of other users are seen with the role pg_read_all_stats)"
        return ok("transactions", f"none has been idle for long{unseen}")
    todo = "End them (pg_terminate_backend), and set idle_in_transaction_session_timeout for whoever left them."
    return warning("transactions", f"{number} are idle, one for {oldest_s:.0f} s: nothing is vacuumed meanwhile", todo)


def _indexes(broken: Sequence[str]) -> Finding:
    if not broken:
        return ok("indexes", "all are valid")
    todo = f"Run: REINDEX INDEX CONCURRENTLY {broken[0]}  (and the others)"
    return problem("indexes", f"not valid: {', '.join(broken)}", todo)


async def _installation(connection: asyncpg.Connection[asyncpg.Record], settings: Settings) -> list[Finding]:
    from gateway.jobs.fleet import oddities
    from gateway.jobs.records import ALIVE_S, Replica
    from gateway.jobs.store import SQL as JOBS

    replicas = [Replica(**dict(row)) for row in await connection.fetch(JOBS["replicas"], ALIVE_S)]
    found = [_connections(dict(await connection.fetchrow(SQL["connections"]) or {}), len(replicas), settings)]
    if replicas:
        found.append(ok("replicas", _told(replicas)))
        found += [warning(odd.kind.replace("_", " "), odd.message, _see(odd.replicas)) for odd in oddities(replicas)]
    else:
        todo = "Start one: gateway serve. If they run, they have another DATABASE_URL."
        found.append(warning("replicas", "none lives on this database", todo))
    waiting = {row["queue"]: row["n"] for row in await connection.fetch(SQL["waiting"])}
    if replicas or waiting:
        found.append(_attended(replicas, waiting))
    return [*found, _duties(await connection.fetch(JOBS["duty_last_runs"]))]


def _see(ids: Sequence[str]) -> str:
    return f"See: {', '.join(ids)}"


def _connections(facts: dict[str, Any], replicas: int, settings: Settings) -> Finding:
    each = settings.database_pool_size + _BESIDE
    wanted, usable = each * max(1, replicas), facts["usable"]
    seen = f"{facts['used']} of {usable} are in use; {max(1, replicas)} replicas may take {wanted} ({each} each)"
    if wanted > usable:
        todo = "Raise max_connections, lower DATABASE_POOL_SIZE, or put a pooler before PostgreSQL."
        return problem("connections", seen, todo)
    if facts["used"] > usable * 0.9:
        return warning("connections", seen, "Somebody else takes them: see pg_stat_activity.")
    return ok("connections", seen)


def _told(replicas: Sequence[Replica]) -> str:
    lines = [f"{r.id} ({r.role}, {r.version}, {r.mode}{', draining' if r.draining else ''})" for r in replicas[:10]]
    return f"{len(replicas)} live: {', '.join(lines)}{' ...' if len(replicas) > 10 else ''}"


def _attended(replicas: Sequence[Replica], waiting: dict[str, int]) -> Finding:
    slots = {queue for r in replicas if not r.draining for queue, slot in r.slots.items() if slot["slots"]}
    alone = {queue: number for queue, number in waiting.items() if queue not in slots}
    if alone:
        seen = ", ".join(f"{number} jobs wait in {queue}" for queue, number in alone.items())
        return problem(
            "queues", f"{seen}, and no replica works on it", "Start a worker (GATEWAY_ROLE, GATEWAY_QUEUES)."
        )
    if not slots:
        return warning("queues", "no replica takes jobs", "Start one that does: gateway serve, or gateway worker.")
    return ok("queues", f"worked on: {', '.join(sorted(slots))}")


def _duties(rows: Sequence[asyncpg.Record]) -> Finding:
    failed = [f"{row['duty']} ({row['error']})" for row in rows if row["error"] is not None]
    if failed:
        return warning("maintenance", f"failed: {'; '.join(failed)}", "See: gateway maintenance runs")
    if not rows:
        return skipped("maintenance", "no duty has run yet")
    running = sum(row["finished_at"] is None for row in rows)
    under_way = f", {running} under way" if running else ""
    return ok("maintenance", f"{len(rows) - running} duties ended well when they last ran{under_way}")
