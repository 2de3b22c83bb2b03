"""What the Redis settings must be together."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from gateway.settings.model import Settings
from gateway.settings.problems import SettingProblem
from gateway.settings.redis_target import SENTINEL_PORT, SERVER_PORT, RedisTarget

_LIST = "redis://host-1:port,host-2:port,host-3:port"


def check_redis(settings: Settings) -> Iterator[SettingProblem]:
    """Whatever cannot work, each with what to do."""
    if settings.use_job_queue is False:
        return
    name, target = settings.queue_redis_setting, settings.queue_redis
    if target is None or name is None:
        yield from _without_redis(settings)
        return
    if settings.redis_sentinel_name is not None and settings.redis_cluster_mode:
        yield SettingProblem(
            "REDIS_CLUSTER_MODE",
            "is true, and REDIS_SENTINEL_NAME is set too",
            "Keep REDIS_SENTINEL_NAME if the addresses are sentinels, REDIS_CLUSTER_MODE if they are cluster nodes.",
        )
    elif settings.redis_sentinel_name is not None:
        yield from _sentinel(name, target)
    elif settings.redis_cluster_mode:
        yield from _cluster(name, target)
    elif len(target.hosts) > 1:
        yield SettingProblem(
            name,
            "names several hosts, and nothing says what they are",
            "Set REDIS_SENTINEL_NAME=mymaster (the name of the master) if they are sentinels,\n"
            "REDIS_CLUSTER_MODE=true if they are nodes of a cluster, else give one server.",
        )
    if settings.redis_sentinel_password is not None and settings.redis_sentinel_name is None:
        yield SettingProblem(
            "REDIS_SENTINEL_PASSWORD",
            "is set, but REDIS_SENTINEL_NAME is not",
            "Set REDIS_SENTINEL_NAME=mymaster, or unset this.",
        )
    if settings.redis_ca_bundle is not None and not target.tls:
        yield SettingProblem(
            "REDIS_CA_BUNDLE", f"is set, but {name} is not encrypted", "Use a rediss:// address, or unset this."
        )


def _without_redis(settings: Settings) -> Iterator[SettingProblem]:
    fix = "Set REDIS_URL, for example redis://localhost:6379/0, or unset this to run in direct mode."
    if settings.use_job_queue:
        yield SettingProblem("USE_JOB_QUEUE", "is true, but no Redis is set", fix)
    if settings.redis_required:
        yield SettingProblem("REDIS_REQUIRED", "is true, but no Redis is used", fix)
    fix = f"Set REDIS_URL={_LIST}, or unset this to run in direct mode."
    if settings.redis_sentinel_name is not None:
        yield SettingProblem("REDIS_SENTINEL_NAME", "is set, but no address of a sentinel is", fix)
    if settings.redis_cluster_mode:
        yield SettingProblem("REDIS_CLUSTER_MODE", "is true, but no address of a node is set", fix)


def _sentinel(name: str, target: RedisTarget) -> Iterator[SettingProblem]:
    if not _several_may_stand(name, target):
        seen = f"is set, but {name} cannot name sentinels"
        yield SettingProblem("REDIS_SENTINEL_NAME", seen, f"Set REDIS_URL={_LIST}, or unset this.")
    elif all(port == SERVER_PORT for _, port in target.hosts):
        yield SettingProblem(
            "REDIS_SENTINEL_NAME",
            f"is set, but {name} names port {SERVER_PORT}: that is Redis itself, not its sentinels",
            f"Name the sentinels in {name} (port {SENTINEL_PORT} as a rule), or unset this.",
        )


def _cluster(name: str, target: RedisTarget) -> Iterator[SettingProblem]:
    if not _several_may_stand(name, target):
        seen = f"is true, but {name} cannot name nodes of a cluster"
        yield SettingProblem("REDIS_CLUSTER_MODE", seen, f"Set REDIS_URL={_LIST}, or unset this.")
    elif target.database != 0:
        yield SettingProblem(
            name,
            f"names database {target.database}, and REDIS_CLUSTER_MODE is true: a cluster has database 0 only",
            f"Remove /{target.database}. Keys begin with the ledger's id, so others may share the cluster.",
        )


def _several_may_stand(name: str, target: RedisTarget) -> bool:
    return target.socket is None and name != "REDIS_HOST"


def check_authorities(name: str, path: Path | None) -> Iterator[SettingProblem]:
    """The file of further authorities that the setting ``name`` points to must hold certificates."""
    if path is None:
        return
    fix = "Mount the PEM file of your authority there, or unset this."
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        yield SettingProblem(name, f"names {path}, which holds no certificate in PEM form", fix)
    except OSError as error:
        yield SettingProblem(name, f"names {path}, which cannot be read ({error.strerror})", fix)
