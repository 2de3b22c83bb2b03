"""The clients of docs/realtime.md, run as they stand there: they hear, and miss nothing when their replica dies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from gateway.dev_servers import free_port
from gateway.realtime.channel import Channel, Topic
from gateway.realtime.service import Realtime
from tests.support.eventually import eventually
from tests.support.gateway import Cluster, gateways, running
from tests.support.gateway_process import token
from tests.support.realtime import replica_of_channels
from tests.support.smtp_server import ScriptedSmtp

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "realtime.md").read_text("utf-8")
CLIENTS = dict(re.findall(r"<!-- run by [\w/.]+ -->\n```(\w+)\n(.*?)```", PAGE, re.DOTALL))
CHANNEL = Channel(Topic.QUEUE, "email-queue")
Pool = asyncpg.Pool
HARNESS = """
import { follow } from "./follow.mjs";
follow(process.env.URL, process.env.TOKEN, "queue:email-queue", {
  onMessage: (message) => console.log("fetch", message.jobId),
  onGap: () => console.log("fetch everything"),
});
"""


@pytest.fixture
async def cluster(tmp_path: Path, database_url: str) -> AsyncIterator[Cluster]:
    async with running(ScriptedSmtp()) as smtp, gateways(tmp_path, database_url, smtp, GATEWAY_ROLE="api") as made:
        yield made


def command(language: str, directory: Path, url: str) -> list[str]:
    if language == "python":
        program = directory / "follow.py"
        program.write_text(CLIENTS["python"].replace("ws://localhost:3003/api/ws", url))
        return [sys.executable, str(program)]
    node = shutil.which("node")
    flags = ["--experimental-websocket"]
    if node is None or subprocess.run([node, *flags, "-e", ""], capture_output=True, check=False).returncode:
        pytest.skip("no node that has WebSocket")
    (directory / "follow.mjs").write_text(CLIENTS["js"])
    (directory / "main.mjs").write_text(HARNESS)
    return [node, *flags, str(directory / "main.mjs")]


@pytest.mark.parametrize("language", ["python", "js"])
async def test_the_client_of_the_page_hears_and_comes_back(
    cluster: Cluster, pool: Pool, tmp_path: Path, language: str
) -> None:
    port = free_port()
    gateway = await cluster.start(port=port)
    url = gateway.url.replace("http", "ws") + "/api/ws"
    said = tmp_path / "said"
    environment = {"PATH": os.environ["PATH"], "TOKEN": token("viewer"), "URL": url}
    async with replica_of_channels(pool, None) as (teller, _):
        with said.open("wb") as out:
            client = subprocess.Popen(  # noqa: ASYNC220
                command(language, tmp_path, url), stdout=out, stderr=subprocess.STDOUT, env=environment
            )
        try:
            await eventually(lambda: has_socket(cluster), 40)
            tell(teller, 1)
            await eventually(lambda: said.read_text().split() == ["fetch", "1"], 30)
            gateway.kill()
            tell(teller, 2)
            await cluster.start(port=port)
            tell(teller, 3)
            await eventually(lambda: said.read_text().split() == ["fetch", "1", "fetch", "2", "fetch", "3"], 60)
        finally:
            client.kill()
            client.wait(10)


async def has_socket(cluster: Cluster) -> bool:
    return (await cluster.processes[0].metric("gateway_realtime_channels")) == 1


def tell(teller: Realtime, n: int) -> None:
    teller.publisher.publish((CHANNEL,), "job:completed", {"jobId": str(n)})


def test_every_client_of_the_page_is_run() -> None:
    assert CLIENTS.keys() == {"python", "js"}
