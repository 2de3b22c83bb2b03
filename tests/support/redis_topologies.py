"""Redis as larger installations run it: sentinels with replicas, a cluster, and TLS. Real servers on 127.0.0.1."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis
import trustme

from gateway.dev_servers import ChildServer, EmbeddedValkey, free_port
from gateway.dev_servers.valkey import valkey_binary
from gateway.settings import RedisForm, RedisTarget
from tests.support.eventually import eventually

MASTER = "mymaster"
DOWN_AFTER_S = 1.0
FAILOVER_S = 3.0
SERVER_PASSWORD = "of-the-servers"
SENTINEL_PASSWORD = "of-the-sentinels"
SLOTS = 16_384
START_S = 20.0


class SentinelServer(EmbeddedValkey):
    """A sentinel. It rewrites its configuration, so each has a file of its own."""

    def __init__(self, directory: Path, master_port: int) -> None:
        super().__init__(directory)
        self.password = SENTINEL_PASSWORD
        self._master_port = master_port

    def _configuration(self) -> Path:
        path = self.directory / "sentinel.conf"
        if not path.exists():
            lines = [
                f"requirepass {SENTINEL_PASSWORD}",
                f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
                f"sentinel monitor {MASTER} 127.0.0.1 {self._master_port} 2",
                f"sentinel auth-pass {MASTER} {SERVER_PASSWORD}",
                f"sentinel down-after-milliseconds {MASTER} {int(DOWN_AFTER_S * 1000)}",
                f"sentinel parallel-syncs {MASTER} 1",
                f"sentinel failover-timeout {MASTER} {int(FAILOVER_S * 1000)}",
            ]
            path.write_text("\n".join(lines) + "\n")
        return path

    def start(self, *, appendonly: bool = False) -> None:
        assert not appendonly, "a sentinel has no data"
        options = ["--bind", "127.0.0.1", "--dir", str(self.directory), "--sentinel", "--port"]
        with self._starting():
            self._launch(
                lambda: [valkey_binary(), str(self._configuration()), *options, str(self.port)], self._ready, None
            )

    def _ready(self) -> bool:
        try:
            with redis.Redis(port=self.port, password=SENTINEL_PASSWORD) as client:
                return bool(client.info("server")["process_id"] == self.pid)
        except redis.RedisError:
            return False


@dataclass
class Sentinels:
    """One master, two replicas, three sentinels."""

    servers: list[EmbeddedValkey]
    sentinels: list[SentinelServer]

    @property
    def target(self) -> RedisTarget:
        return RedisTarget(
            tuple(("127.0.0.1", sentinel.port) for sentinel in self.sentinels),
            RedisForm.SENTINEL,
            password=SERVER_PASSWORD,
            sentinel_name=MASTER,
            sentinel_password=SENTINEL_PASSWORD,
        )

    @property
    def master(self) -> EmbeddedValkey:
        """The one that all sentinels call so."""
        named = {self._ask(sentinel)["port"] for sentinel in self.sentinels}
        assert len(named) == 1, f"the sentinels do not agree: {named}"
        return next(server for server in self.servers if server.port in named)

    @property
    def complete(self) -> bool:
        """Every sentinel knows the two others and the two replicas: now a failover can be agreed on."""
        seen = [self._ask(sentinel) for sentinel in self.sentinels]
        return all(one["num-other-sentinels"] == 2 and one["num-slaves"] == 2 for one in seen)

    def _ask(self, sentinel: SentinelServer) -> dict[str, Any]:
        with redis.Redis(port=sentinel.port, password=SENTINEL_PASSWORD) as client:
            return dict(client.sentinel_master(MASTER))


@asynccontextmanager
async def sentinels(directory: Path) -> AsyncIterator[Sentinels]:
    """Started, and ready for a failover."""
    master_port = free_port()
    replica_of = ("--replicaof", f"127.0.0.1 {master_port}")
    # As the documentation advises: a master that lost its replicas takes no jobs.
    common = ("--masterauth", SERVER_PASSWORD, "--min-replicas-to-write", "1", "--repl-diskless-sync-delay", "0")
    servers = [EmbeddedValkey(directory / "server-1", port=master_port, arguments=common)]
    servers += [EmbeddedValkey(directory / f"server-{n}", arguments=(*common, *replica_of)) for n in (2, 3)]
    for server in servers:
        server.password = SERVER_PASSWORD
    made = Sentinels(servers, [SentinelServer(directory / f"sentinel-{n}", master_port) for n in (1, 2, 3)])
    with _running([*made.servers, *made.sentinels]):
        await eventually(lambda: made.complete, timeout=20, message="the sentinels do not find each other")
        yield made


@dataclass
class RedisCluster:
    """Three masters that share the slots, without replicas."""

    nodes: list[EmbeddedValkey]

    @property
    def target(self) -> RedisTarget:
        return RedisTarget(tuple(("127.0.0.1", node.port) for node in self.nodes), RedisForm.CLUSTER)

    def flush(self) -> None:
        for node in self.nodes:
            with redis.Redis(port=node.port) as client:
                client.flushall()

    def node_of(self, key: str) -> EmbeddedValkey:
        with redis.Redis(port=self.nodes[0].port) as client:
            return self.nodes[int(client.execute_command("CLUSTER KEYSLOT", key)) * len(self.nodes) // SLOTS]

    def keys_of(self, node: EmbeddedValkey) -> set[str]:
        with redis.Redis(port=node.port) as client:
            return {key.decode() for key in client.scan_iter()}


@contextmanager
def redis_cluster(directory: Path) -> Iterator[RedisCluster]:
    """Started, all slots served."""
    nodes = []
    for n in range(3):
        bus = free_port()  # its default, 10000 above the other one, need not be a port at all
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", str(bus)]
        nodes.append(EmbeddedValkey(directory / f"node-{n + 1}", arguments=options))
    made = RedisCluster(nodes)
    with _running(nodes):
        _meet(made)
        yield made


def _meet(cluster: RedisCluster) -> None:
    clients = [redis.Redis(port=node.port) for node in cluster.nodes]
    edges = [-(-SLOTS * n // len(clients)) for n in range(len(clients) + 1)]
    first = cluster.nodes[0]
    bus = clients[0].config_get("cluster-port")["cluster-port"]
    for n, client in enumerate(clients):
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
        client.execute_command("CLUSTER ADDSLOTSRANGE", edges[n], edges[n + 1] - 1)
        if n:
            client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, bus)
    deadline = time.monotonic() + START_S
    while not all(_serves(client, len(clients)) for client in clients):
        assert time.monotonic() < deadline, "the nodes do not form a cluster"
        time.sleep(0.02)
    for client in clients:
        client.close()


def _serves(client: redis.Redis, nodes: int) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes


@contextmanager
def _running(servers: Sequence[ChildServer]) -> Iterator[None]:
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.start()
        yield


class TlsFront:
    """TLS before a server that has none, as managed services put it there. ``ca_pem`` is whom to trust."""

    def __init__(self, port: int) -> None:
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes()
        self.port = 0
        self._upstream = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            await asyncio.gather(_pump(reader, server_writer), _pump(server_reader, writer))
        finally:
            server_writer.close()
            writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(65_536):
        sink.write(chunk)
        await sink.drain()
    sink.close()
