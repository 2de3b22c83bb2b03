"""Redis: may it hold jobs, and is it well?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gateway.cli.doctor.findings import Finding, ok, problem, skipped, warning

if TYPE_CHECKING:
    from gateway.settings import RedisTarget, Settings

_RECOMMENDED = (6, 2)
_FULL = 0.9  # of maxmemory


async def examine(settings: Settings) -> list[Finding]:
    target = settings.queue_redis
    if target is None:
        return [skipped("redis", "none is set: PostgreSQL dispatches (direct mode)")]
    from gateway.infra.redis_check import PATIENCE_S, redis_fitness, redis_infos

    try:
        fitness = await redis_fitness(target, PATIENCE_S)
        infos = [] if fitness.faults or fitness.notes else await redis_infos(target, PATIENCE_S)
    except ConnectionError as error:
        todo = "Jobs go by PostgreSQL meanwhile, none is lost. Start it, or correct REDIS_URL."
        return [problem("redis", f"{target} does not answer ({error})", todo)]
    if fitness.faults:
        return [problem("redis", f"{target}: {' '.join(fitness.faults)}", "Production does not start with it.")]
    if fitness.notes:
        return [warning("redis", f"{target}: {' '.join(fitness.notes)}", "Allow the command INFO, to be sure.")]
    return [finding for info in infos for finding in _of(target, info)]


def _of(target: RedisTarget, info: dict[str, Any]) -> list[Finding]:
    version = str(info.get("redis_version", "unknown"))
    role, replicas = info.get("role", "master"), int(info.get("connected_slaves", 0))
    aof = "on" if int(info.get("aof_enabled", 0)) else "off (the jobs are in PostgreSQL, so it may be)"
    seen = f"{target} is version {version}, {role} with {replicas} replicas, noeviction, AOF {aof}"
    return [_version(seen, version), *_writes(info), *_memory(info)]


def _version(seen: str, version: str) -> Finding:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers and numbers < _RECOMMENDED:
        return warning("redis", seen, f"Use {'.'.join(map(str, _RECOMMENDED))} or later: older ones get no fixes.")
    return ok("redis", seen)


def _writes(info: dict[str, Any]) -> list[Finding]:
    """A server that cannot write its files refuses commands (MISCONF), or loses what it promised to keep."""
    found = []
    if info.get("role") == "slave":
        found.append(problem("redis role", "it is a replica: it takes no writes", "Name its master, or use Sentinel."))
    for field, what in (
        ("rdb_last_bgsave_status", "its last snapshot"),
        ("aof_last_write_status", "its last write to the AOF"),
        ("aof_last_bgrewrite_status", "its last rewrite of the AOF"),
    ):
        if info.get(field, "ok") != "ok":
            todo = "See its log; mostly the disk is full or read-only. It may refuse writes until then."
            found.append(problem("redis files", f"{what} failed", todo))
    if int(info.get("loading", 0)):
        found.append(warning("redis", "it is still loading its data", "Wait; PostgreSQL dispatches meanwhile."))
    return found


def _memory(info: dict[str, Any]) -> list[Finding]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > most * _FULL:
        seen = f"{used / 1e6:.0f} MB of its {most / 1e6:.0f} MB are used"
        return [warning("redis memory", seen, "Raise maxmemory: when it is full, jobs go by PostgreSQL.")]
    return []
