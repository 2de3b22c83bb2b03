"""The start scripts of k8s/components/sentinel on real servers: they find each other, fail over, come back right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.dev_servers import free_port
from gateway.dev_servers.valkey import valkey_binary
from tests.deploy.rendered import K8S
from tests.support.eventually import eventually

PASSWORD = "of-the-servers"
NODES = ("127.0.0.41", "127.0.0.42", "127.0.0.43")
# The two calls that the scripts make of redis-cli, which no wheel has.
REDIS_CLI = f"""#!{sys.executable}
import os, sys
import redis
host, port = sys.argv[sys.argv.index("-h") + 1], int(sys.argv[sys.argv.index("-p") + 1])
client = redis.Redis(host, port, password=os.environ["REDISCLI_AUTH"], socket_timeout=1, decode_responses=True)
try:
    found = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", sys.argv[-1])
except redis.RedisError:
    sys.exit(1)
print("\\n".join(map(str, found or ())))
"""


class Pod:
    """A server and a sentinel on an address of their own, with a disk that outlives them."""

    def __init__(self, directory: Path, address: str, environment: dict[str, str]) -> None:
        self.address = address
        self._directory = directory
        self._environment = environment | {"ME": address}
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for script, disk in (("sentinel-start.sh", "sentinel"), ("redis-start.sh", "data")):
            data = self._directory / disk
            data.mkdir(parents=True, exist_ok=True)
            with (self._directory / f"{disk}.log").open("ab") as log:
                command = ["sh", str(K8S / "components/sentinel" / script), "--bind", self.address]
                environment = self._environment | {"DATA": str(data)}
                self._running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def kill(self) -> None:
        for process in self._running:
            process.kill()
            process.wait(10)
        self._running.clear()

    def ask(self, sentinel_or_server: str, *command: str) -> object:
        port = int(self._environment["SENTINEL_PORT" if sentinel_or_server == "sentinel" else "PORT"])
        with redis.Redis(self.address, port, password=PASSWORD, socket_timeout=1, decode_responses=True) as client:
            return client.execute_command(*command)

    def names_master(self) -> str | None:
        try:
            found = self.ask("sentinel", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        except redis.RedisError:
            return None
        assert isinstance(found, list)
        return str(found[0])

    def writes(self, key: str) -> bool:
        try:
            return bool(self.ask("server", "SET", key, "1"))
        except redis.ResponseError:  # it has no replica yet
            return False

    def role(self) -> str | None:
        try:
            found = self.ask("server", "ROLE")
        except redis.RedisError:
            return None
        assert isinstance(found, list)
        return str(found[0])


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Pod]]:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "redis-server").symlink_to(valkey_binary())
    (programs / "redis-cli").write_text(REDIS_CLI)
    (programs / "redis-cli").chmod(0o755)
    (tmp_path / "password").write_text(PASSWORD)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "NODES": " ".join(NODES),
        "PORT": str(free_port()),
        "SENTINEL_PORT": str(free_port()),
        "SECRET": str(tmp_path / "password"),
        "CONFIG": str(K8S / "components/redis/redis.conf"),
    }
    made = [Pod(tmp_path / address, address, environment) for address in NODES]
    try:
        for pod in made:
            pod.start()
        yield made
    finally:
        for pod in made:
            pod.kill()


def _complete(pods: list[Pod], replicas: int) -> bool:
    try:
        for pod in pods:
            found = pod.ask("sentinel", "SENTINEL MASTER", "mymaster")
            assert isinstance(found, dict)
            assert (found["num-other-sentinels"], found["num-slaves"]) == (2, replicas)
    except redis.RedisError:
        return False
    return True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs 127.0.0.0/8 on the loopback interface")
async def test_three_pods_find_each_other_fail_over_and_take_a_lost_one_back(three: list[Pod]) -> None:
    first, *others = three
    await eventually(lambda: _complete(three, 2), timeout=40, message="the sentinels do not find each other")
    assert {pod.names_master() for pod in three} == {first.address}
    ids = {str(pod.ask("sentinel", "SENTINEL", "MYID")) for pod in three}
    assert len(ids) == 3, "a shared file would give them one id"
    await eventually(lambda: first.writes("kept"), timeout=20, message="the master takes no write")

    first.kill()

    def agreed() -> str | None:
        named = {pod.names_master() for pod in others}
        return named.pop() if len(named) == 1 and first.address not in named else None

    master = await eventually(agreed, timeout=40, message="no failover")
    await eventually(lambda: [pod.role() for pod in others].count("master") == 1, timeout=20)
    assert next(pod for pod in others if pod.address == master).ask("server", "GET", "kept") == "1"

    first.start()
    await eventually(lambda: first.role() == "slave", timeout=40, message="the lost master came back as a second one")
    await eventually(lambda: {pod.names_master() for pod in three} == {master}, timeout=20)
