"""Is this Redis fit to dispatch jobs? Asked at start, once a minute, and by ``gateway check``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from gateway.infra.redis import REDIS_ERRORS, RedisCluster, close_client, command_client, sentinels_of
from gateway.settings import RedisForm, RedisTarget

MIN_VERSION: Final = (6, 0)  # BLPOP with fractions of a second; Valkey calls itself 7.2
PATIENCE_S: Final = 3.0  # for a person who asks: a busy machine is not a Redis that is away
_SAFE_POLICY: Final = "noeviction"
_NO_CLUSTER: Final = "Cluster mode is not enabled"  # redis-py's words for a node that refuses CLUSTER SLOTS


@dataclass(frozen=True, slots=True)
class RedisFitness:
    """``faults``: why it must not be used, each with what to do. ``notes``: what could not be found out.

    ``evicts``: its policy may drop jobs. ``memory``: bytes used, and the limit, of the fullest server that has one.
    None: not known, or no limit.
    """

    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    evicts: bool | None = None
    memory: tuple[int, int] | None = None


async def redis_fitness(target: RedisTarget, patience_s: float | None = None) -> RedisFitness:
    """Look at the server, or at every master of a cluster. Raises ConnectionError when it does not answer, or refuses
    the login."""
    try:
        if target.form is RedisForm.SENTINEL and (fault := await _sentinel_fault(target, patience_s)):
            return RedisFitness(faults=(fault,))
        infos = await _infos(target, patience_s)
    except AuthenticationError as error:
        raise ConnectionError(f"login refused: {error}") from error
    except NoPermissionError as error:
        return RedisFitness(notes=(f"INFO is denied ({error}): maxmemory-policy and version could not be looked at.",))
    except REDIS_ERRORS as error:
        if _NO_CLUSTER in str(error):
            return RedisFitness(faults=("It is no cluster. Unset REDIS_CLUSTER_MODE.",))
        raise ConnectionError(str(error)) from error
    faults, notes = list[str](), list[str]()
    for info in infos:
        faults += _faults(target, info)
        if "maxmemory_policy" not in info and not faults:
            notes.append("INFO does not tell maxmemory-policy; it must be noeviction.")
    policies = [info["maxmemory_policy"] for info in infos if "maxmemory_policy" in info]
    return RedisFitness(
        tuple(dict.fromkeys(faults)),
        tuple(dict.fromkeys(notes)),
        evicts=any(policy != _SAFE_POLICY for policy in policies) if policies else None,
        memory=_fullest(infos),
    )


def _fullest(infos: list[dict[str, Any]]) -> tuple[int, int] | None:
    limited = [(info["used_memory"], info["maxmemory"]) for info in infos if info.get("maxmemory")]
    return max(limited, key=lambda memory: memory[0] / memory[1], default=None)


async def redis_infos(target: RedisTarget, patience_s: float) -> list[dict[str, Any]]:
    """INFO of the server, or of every master of a cluster. Raises ConnectionError when that cannot be had."""
    try:
        return await _infos(target, patience_s)
    except REDIS_ERRORS as error:
        raise ConnectionError(str(error)) from error


async def _infos(target: RedisTarget, patience_s: float | None) -> list[dict[str, Any]]:
    client = command_client(target, max_connections=4, patience_s=patience_s)
    try:
        if not isinstance(client, RedisCluster):
            return [await client.info()]
        found = await client.info(target_nodes=RedisCluster.PRIMARIES)
        # One master answers for itself, several by name.
        return [found] if "redis_version" in found else list(found.values())
    finally:
        await close_client(client)


def _faults(target: RedisTarget, info: dict[str, Any]) -> list[str]:
    mode = info.get("redis_mode") or info.get("server_mode")
    if mode == "sentinel":
        return ["It is a sentinel, not a server. Set REDIS_SENTINEL_NAME to the name of its master."]
    if mode == "cluster" and target.form is not RedisForm.CLUSTER:
        return ["It is a node of a cluster. Set REDIS_CLUSTER_MODE=true."]
    faults = []
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers and numbers < MIN_VERSION:
        faults.append(f"It is version {version}. Use {'.'.join(map(str, MIN_VERSION))} or later.")
    policy = info.get("maxmemory_policy", _SAFE_POLICY)
    if policy != _SAFE_POLICY:
        faults.append(f"maxmemory-policy is {policy}: jobs can vanish. Set noeviction.")
    return faults


async def _sentinel_fault(target: RedisTarget, patience_s: float | None) -> str | None:
    """What the sentinels that answer say against this target. Raises the last error where none answers."""
    sentinels = sentinels_of(target, patience_s)
    known, last = set[str](), Exception()
    try:
        for sentinel in sentinels.sentinels:
            try:
                known |= {str(name) for name in await sentinel.sentinel_masters()}
            except NoPermissionError:
                return None  # INFO of the master will tell
            except ResponseError as error:
                return f"An address is not that of a sentinel ({error}). Correct it, or unset REDIS_SENTINEL_NAME."
            except REDIS_ERRORS as error:
                last = error
        if not known and last.args:
            raise last
    finally:
        await sentinels.aclose()
    if target.sentinel_name in known:
        return None
    names = ", ".join(sorted(known)) or "none"
    return f'The sentinels know no master "{target.sentinel_name}". They know: {names}. Correct REDIS_SENTINEL_NAME.'
