"""compose.cluster.yaml on real servers: its nodes join once, and a gateway with its settings works on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.compositions import model
from tests.deploy.redis_containers import PASSWORD, Container, host, needs_loopback_addresses
from tests.support.eventually import eventually
from tests.support.gateway import gateways, running
from tests.support.smtp_server import ScriptedSmtp


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = model("compose.cluster.yaml")["services"]
    return found


@pytest.fixture
def containers(services: dict[str, Any], tmp_path: Path) -> Iterator[dict[str, Container]]:
    """The nodes and ``cluster-create``, by name; none runs yet. Nodes have a name and a fixed address."""
    addresses = dict[str, str]()
    for name, service in services.items():
        if re.fullmatch(r"redis-\d", name):
            here = f"127.0.0.{70 + len(addresses) // 2}"
            addresses |= {name: here, service["networks"]["cluster"]["ipv4_address"]: here}
    made = host(tmp_path, addresses)
    names = [name for name in services if name.startswith("redis-")] + ["cluster-create"]
    found = {name: Container(made, name, services[name]["command"], services[name]["environment"]) for name in names}
    yield found
    for container in found.values():
        container.kill()


@needs_loopback_addresses
async def test_nodes_are_joined_once_and_jobs_run_on_them(
    services: dict[str, Any], containers: dict[str, Container], tmp_path: Path, database_url: str
) -> None:
    create = containers.pop("cluster-create")
    log = tmp_path / "cluster-create-cluster-create.sh.log"
    nodes = list(containers.values())
    for node in nodes:
        # By default it waits 5 s for further replicas before it sends the first one its data.
        hurry = ("--repl-diskless-sync-delay", "0")
        node.start("--bind", node.address, "--bind-source-addr", node.address, *hurry)
    await eventually(lambda: all(node.answers() for node in nodes), timeout=20)
    assert create.start().wait(60) == 0, log.read_text("utf-8")
    told = nodes[0].ask("CLUSTER INFO")
    assert isinstance(told, dict)
    assert (told["cluster_state"], told["cluster_known_nodes"], told["cluster_size"]) == ("ok", "6", "3")
    assert nodes[0].ask("CONFIG GET", "cluster-node-timeout") == {"cluster-node-timeout": "5000"}
    await eventually(lambda: [node.role() for node in nodes] == ["master"] * 3 + ["slave"] * 3, timeout=20)
    before = log.read_text("utf-8")
    assert create.start().wait(60) == 0
    assert log.read_text("utf-8").removeprefix(before) == "The nodes have joined before.\nA cluster of 6 nodes.\n"

    variables = services["gateway"]["environment"]
    hosts = re.sub(
        r"(redis-\d):6379", lambda found: f"{containers[found[1]].address}:{nodes[0].port}", variables["REDIS_URL"]
    )
    settings = {"REDIS_CLUSTER_MODE": variables["REDIS_CLUSTER_MODE"], "REDIS_PASSWORD": PASSWORD}
    async with (
        running(ScriptedSmtp()) as smtp,
        gateways(tmp_path, database_url, smtp, redis_url=hosts, **settings) as cluster,
    ):
        await cluster.start()
        mails = await cluster.submit_many(5)
        # A node that is slow to answer is done without for a moment.
        assert "queue" in {mail.mode for mail in mails} <= {"queue", "direct"}
        await cluster.all_delivered()
