"""The start scripts of k8s/components/sentinel, for Kubernetes and for compose: servers and sentinels find each other,
fail over, come back right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from gateway.infra.redis import command_client
from tests.deploy.compositions import model
from tests.deploy.redis_containers import PASSWORD, Container, host, needs_loopback_addresses
from tests.deploy.rendered import the
from tests.support.eventually import eventually
from tests.support.modes import LONG
from tests.support.web import settings_for


@dataclass
class Pair:
    """A server and a sentinel that live and die together."""

    server: Container
    sentinel: Container

    def start(self) -> None:
        self.sentinel.start("--bind", self.sentinel.address)
        # By default it waits 5 s for further replicas before it sends the first one its data.
        self.server.start("--bind", self.server.address, "--repl-diskless-sync-delay", "0")

    def kill(self) -> None:
        for container in (self.sentinel, self.server):
            container.kill()

    def master(self) -> dict[str, object] | None:
        """What the sentinel says of it."""
        try:
            found = self.sentinel.ask("SENTINEL MASTER", "mymaster")
        except redis.RedisError:
            return None
        assert isinstance(found, dict)
        return found

    def names_master(self) -> object:
        told = self.master()
        return told and told["ip"]

    def writes(self, key: str) -> bool:
        try:
            return bool(self.server.ask("SET", key, "1"))
        except redis.ResponseError:  # it has no replica yet
            return False

    def hurry(self) -> None:
        """The documented times hold; from now on everything is looked at more often, so that a test ends soon."""
        told = self.master()
        assert told is not None
        assert (told["quorum"], told["down-after-milliseconds"]) == (2, 5000)
        assert (told["parallel-syncs"], told["failover-timeout"]) == (1, 10_000)
        self.sentinel.ask("SENTINEL SET", "mymaster", "down-after-milliseconds", 3000)
        self.sentinel.ask("SENTINEL DEBUG", "info-period", 500, "ping-period", 200, "publish-period", 200)


def _of_kubernetes(directory: Path) -> list[Pair]:
    """Both in one pod, which has one name."""
    pod = the("overlays/sentinel", "StatefulSet", "redis")["spec"]["template"]["spec"]
    made = host(directory, {f"redis-{n}.redis": f"127.0.0.{41 + n}" for n in range(3)})

    def container(kind: str, number: int) -> Container:
        (found,) = [one for one in pod["containers"] if one["name"] == kind]
        variables = {one["name"]: one.get("value", f"redis-{number}") for one in found["env"]}
        variables["ME"] = variables["ME"].replace("$(POD)", variables["POD"])
        return Container(made, variables["ME"], found["command"], variables)

    return [Pair(container("redis", n), container("sentinel", n)) for n in range(3)]


def _of_compose(directory: Path) -> list[Pair]:
    """Each in a container of its own, with a name of its own."""
    services = model("compose.sentinel.yaml")["services"]
    places = {"redis": 50, "sentinel": 60}
    made = host(directory, {f"{kind}-{n}": f"127.0.0.{place + n}" for kind, place in places.items() for n in (1, 2, 3)})

    def container(name: str) -> Container:
        return Container(made, name, services[name]["command"], services[name]["environment"])

    return [Pair(container(f"redis-{n}"), container(f"sentinel-{n}")) for n in (1, 2, 3)]


@pytest.fixture(
    params=[pytest.param(_of_kubernetes, marks=LONG, id="kubernetes"), pytest.param(_of_compose, id="compose")]
)
def three(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Pair]]:
    made: list[Pair] = request.param(tmp_path)
    try:
        for pair in made:
            pair.start()
        yield made
    finally:
        for pair in made:
            pair.kill()


def _complete(pairs: list[Pair]) -> bool:
    told = [pair.master() or {} for pair in pairs]
    return all((one.get("num-other-sentinels"), one.get("num-slaves")) == (2, 2) for one in told)


@needs_loopback_addresses
async def test_a_new_password_of_any_characters_is_taken_at_the_next_start(tmp_path: Path) -> None:
    services = model("compose.sentinel.yaml")["services"]
    made = host(tmp_path, {f"{kind}-{n}": "127.0.0.71" for kind in ("redis", "sentinel") for n in (1, 2, 3)})
    sentinel = Container(made, "sentinel-1", services["sentinel-1"]["command"], services["sentinel-1"]["environment"])
    ids = set[str]()
    for password in ("first one", 'sec"ond\\$1'):
        sentinel.password = password
        (tmp_path / "password").write_text(password + "\n")
        sentinel.start("--bind", sentinel.address)
        try:
            await eventually(sentinel.answers, 20, message=f"{password} is not taken")
            ids.add(str(sentinel.ask("SENTINEL MYID")))
        finally:
            sentinel.kill()
    assert len(ids) == 1, "it is the same one to the others"
    assert _rights(tmp_path) == [0o600], "the password stands in it"


def _rights(directory: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in directory.rglob("sentinel.conf")]


@needs_loopback_addresses
async def test_servers_find_each_other_fail_over_and_take_a_lost_one_back(three: list[Pair]) -> None:
    first, *others = three
    await eventually(lambda: all(pair.sentinel.answers() for pair in three), timeout=20)
    for pair in three:
        pair.hurry()
    await eventually(lambda: _complete(three), timeout=40, message="the sentinels do not find each other")
    assert {pair.names_master() for pair in three} == {first.server.address}
    ids = {str(pair.sentinel.ask("SENTINEL MYID")) for pair in three}
    assert len(ids) == 3, "a shared file would give them one id"
    await eventually(lambda: first.writes("kept"), timeout=20, message="the master takes no write")
    await eventually(lambda: {pair.server.ask("GET", "kept") for pair in three} == {"1"}, timeout=20)

    first.kill()

    def agreed() -> object:
        named = {pair.names_master() for pair in others}
        return named.pop() if len(named) == 1 and first.server.address not in named else None

    master = await eventually(agreed, timeout=40, message="no failover")
    await eventually(lambda: [pair.server.role() for pair in others].count("master") == 1, timeout=20)
    assert next(pair.server for pair in others if pair.server.address == master).ask("GET", "kept") == "1"

    first.start()
    seen = []

    def back() -> bool:
        seen.append(first.server.role())
        return seen[-1] == "slave"

    await eventually(back, timeout=40, message="the lost master does not come back as a replica")
    assert "master" not in seen, "its own sentinel slept through the failover"
    await eventually(lambda: {pair.names_master() for pair in three} == {master}, timeout=20)
    assert await _what_a_gateway_reads(three, "kept") == b"1"


async def _what_a_gateway_reads(three: list[Pair], key: str) -> bytes:
    """By the sentinels alone, as the settings of the manifests have it."""
    sentinels = ",".join(f"{pair.sentinel.address}:{pair.sentinel.port}" for pair in three)
    passwords = {"redis_password": PASSWORD, "redis_sentinel_password": PASSWORD}
    settings = settings_for(
        "postgresql://unused/unused", redis_url=f"redis://{sentinels}", redis_sentinel_name="mymaster", **passwords
    )
    assert settings.queue_redis is not None
    client = command_client(settings.queue_redis, patience_s=5)
    try:
        found: bytes = await client.get(key)
    finally:
        await client.aclose()
    return found
