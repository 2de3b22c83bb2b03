"""Redis: from a target (one server, Sentinel, Cluster; plain, TLS or a socket) to clients. All give up in time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from gateway.settings import RedisForm, RedisTarget

# `Redis` and the others too: whoever hands a client on names its type from here.
__all__ = [
    "REDIS_ERRORS",
    "Redis",
    "RedisClient",
    "RedisCluster",
    "Script",
    "blocking_client",
    "close_client",
    "command_client",
    "sentinels_of",
    "subscriber_client",
]

CONNECT_TIMEOUT_S: Final = 0.5
# Shorter than the second after which jobs go on without Redis (dispatch decides on the first failure).
COMMAND_TIMEOUT_S: Final = 0.6
BLOCKING_MARGIN_S: Final = 5.0
_OF_TOPOLOGY: Final = 4  # connections to one node beside those of commands: each refresh asks for slots and commands

RedisClient: TypeAlias = Redis | RedisCluster
# What a call may raise when Redis is away or refuses. uvloop raises RuntimeError for a write to a connection that just
# died; the cluster client's own errors are no RedisError.
REDIS_ERRORS: Final = (RedisError, RedisClusterException, OSError, RuntimeError)


def command_client(target: RedisTarget, *, max_connections: int = 32, patience_s: float | None = None) -> RedisClient:
    """For commands that answer at once. Raises one of ``REDIS_ERRORS`` early and never retries: callers have a
    fallback. ``patience_s``: for whoever has none, as a person who asks how Redis is.

    Values are bytes. A burst of commands waits for a free connection: running out of them is not an outage.
    """
    if patience_s is None:
        return _client(target, COMMAND_TIMEOUT_S, max_connections)
    return _client(target, patience_s, max_connections, connect_s=patience_s)


def blocking_client(target: RedisTarget, block_s: float, *, max_connections: int = 64) -> RedisClient:
    """For ``BLPOP``, ``BZPOPMIN`` and pub/sub that wait up to ``block_s`` seconds in the server."""
    return _client(target, block_s + BLOCKING_MARGIN_S, max_connections)


def subscriber_client(target: RedisTarget, turn: int) -> Redis:
    """For one pub/sub connection. In a cluster to one node, another at each ``turn``: each hears what any is told."""
    if target.form is RedisForm.CLUSTER:
        node = target.hosts[turn % len(target.hosts)]
        target = replace(target, form=RedisForm.SERVER, hosts=(node,))
    client = _client(target, BLOCKING_MARGIN_S, max_connections=2)
    assert isinstance(client, Redis)  # noqa: S101  the type of all but a cluster's client
    return client


async def close_client(client: RedisClient) -> None:
    """Of a server that is silent as well: redis-py raises where TLS is not ended by both sides, and has let go then."""
    with contextlib.suppress(*REDIS_ERRORS):
        await client.aclose()


class Script:
    """A Lua script, sent by its hash. A server that does not know it gets it whole, with the call: in a cluster that
    asks nothing of the other nodes, as loading it first would."""

    def __init__(self, client: RedisClient, text: str) -> None:
        self._client = client
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return await self._client.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self._client.eval(self._text, len(keys), *keys, *args)


def sentinels_of(target: RedisTarget, patience_s: float | None = None) -> Sentinel:
    """The sentinels themselves (``.sentinels``). To be closed by the caller. ``patience_s``: see ``command_client``."""
    times = _connection(COMMAND_TIMEOUT_S) if patience_s is None else _connection(patience_s, patience_s)
    login = {"password": target.sentinel_password, **times, **_trust(target)}
    options = {**login, "ssl": target.tls}
    return _Sentinels(target.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]


def _client(
    target: RedisTarget, socket_timeout: float, max_connections: int, connect_s: float = CONNECT_TIMEOUT_S
) -> RedisClient:
    login = {"username": target.username, "password": target.password, "client_name": "gateway"}
    options = {**login, **_connection(socket_timeout, connect_s), **_trust(target)}
    if target.form is RedisForm.CLUSTER:
        return _Cluster(target, options, max_connections)
    options |= {"db": target.database, "max_connections": max_connections, "timeout": socket_timeout}
    if target.form is RedisForm.SENTINEL:
        options |= {"service_name": target.sentinel_name, "sentinel_manager": sentinels_of(target), "ssl": target.tls}
        return Redis.from_pool(_MasterPool(**options))  # type: ignore[no-untyped-call]
    if target.socket is not None:
        for name in ("socket_keepalive", "socket_connect_timeout"):
            del options[name]
        options |= {"connection_class": UnixDomainSocketConnection, "path": target.socket}
    else:
        host, port = target.hosts[0]
        options |= {"connection_class": SSLConnection if target.tls else Connection, "host": host, "port": port}
    return Redis.from_pool(BlockingConnectionPool(**options))


def _connection(socket_timeout: float, connect_s: float = CONNECT_TIMEOUT_S) -> dict[str, Any]:
    return {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": connect_s,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "decode_responses": False,
        # As fast as 3 here (measured within 3 %), and the same reply shapes from every server and proxy.
        "protocol": 2,
    }


def _trust(target: RedisTarget) -> dict[str, Any]:
    """The machine's authorities are trusted in any case; certificates and host names are always checked."""
    return {"ssl_ca_certs": str(target.ca_bundle)} if target.tls and target.ca_bundle is not None else {}


class _Sentinels(Sentinel):
    """redis-py's error prints whole clients, and no reason."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        said = []
        for sentinel in tuple(self.sentinels):
            try:
                masters: Any = await sentinel.sentinel_masters()
            except RedisError as error:
                said.append(str(error))
                continue
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):
                # The next time it is asked first: one on a dead machine costs its time-out.
                self.sentinels.remove(sentinel)
                self.sentinels.insert(0, sentinel)
                return str(state["ip"]), int(state["port"])
            said.append("it is down" if state else "it is not known")
        reasons = "; ".join(dict.fromkeys(said))
        raise MasterNotFoundError(f'no sentinel names a master "{service_name}" that is up: {reasons}')


class _MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the master that the sentinels name when each is made; it waits when all are in use."""

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            await self.sentinel_manager.aclose()


class _Cluster(RedisCluster):
    """redis-py's client, which would forget the configured nodes once it has seen others, call a burst of commands an
    outage, and leave connections open when it is closed while it has lost the cluster."""

    def __init__(self, target: RedisTarget, options: dict[str, Any], max_connections: int) -> None:
        most = max_connections + _OF_TOPOLOGY
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in target.hosts],
            max_connections=most,
            ssl=target.tls,
            # One queue lives in one slot: nodes that have none of ours may be away.
            require_full_coverage=False,
            # A slot that moved is looked up by itself. All anew would close connections on which others wait.
            reinitialize_steps=0,
            **options,
        )
        self._configured = target.hosts
        self._free = asyncio.Semaphore(max_connections)

    async def initialize(self, *args: Any, **kwargs: Any) -> RedisCluster:
        if self._initialize:
            known = self.nodes_manager.startup_nodes
            for host, port in self._configured:
                node = ClusterNode(host, port, **self.connection_kwargs)
                known.setdefault(node.name, node)
        return await super().initialize(*args, **kwargs)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        async with self._free:
            return await super().execute_command(*args, **kwargs)

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            try:
                await self.nodes_manager.aclose()
            finally:
                await self.nodes_manager.aclose("startup_nodes")
