"""The proxy of compose.yaml before a real gateway: TLS, sockets, streams, what it hides, a replica that is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from gateway.dev_servers import free_port
from gateway.realtime.channel import Channel, Topic
from tests.deploy.compositions import model
from tests.deploy.rendered import ROOT
from tests.support.eventually import eventually
from tests.support.gateway import QUEUE, Cluster, gateways, running
from tests.support.gateway_process import bearer, token
from tests.support.realtime import event_source, replica_of_channels, socket
from tests.support.smtp_server import ScriptedSmtp

CADDY = Path(sysconfig.get_path("scripts")) / "caddy"
CADDYFILE = ROOT / "compose/Caddyfile"
CHANNEL = Channel(Topic.QUEUE, QUEUE)


def caddy(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CADDY, *arguments], env=os.environ | environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", ""),
        ("dynamic a", "dynamic b"),
        ("lb_try_duration 10s", "lb_try_duration ten"),
        ("format filter", "format x"),
    ],
    ids=["as it is", "source", "duration", "format"],
)
def test_the_configuration_is_valid_and_a_spoilt_one_is_not(right: str, wrong: str, tmp_path: Path) -> None:
    spoilt = tmp_path / "Caddyfile"
    spoilt.write_text(CADDYFILE.read_text("utf-8").replace(right, wrong), "utf-8")
    done = caddy("validate", "--adapter", "caddyfile", "--config", str(spoilt), XDG_DATA_HOME=str(tmp_path))
    assert (done.returncode == 0) == (right == wrong), done.stderr


def test_it_is_formatted_and_the_version_is_the_images() -> None:
    assert caddy("fmt", "--diff", str(CADDYFILE)).returncode == 0
    version = caddy("version").stdout.split()[0].removeprefix("v")
    image = model("compose.yaml")["services"]["proxy"]["image"]
    assert image == f"caddy:{version.rpartition('.')[0]}-alpine"


@dataclass(frozen=True)
class Proxy:
    url: str
    plain_url: str
    log: Path
    trusted: ssl.SSLContext


@asynccontextmanager
async def proxy(directory: Path, port: int) -> AsyncIterator[Proxy]:
    """The container's program with its configuration, before a gateway at ``port`` of this host."""
    https, http, log = free_port(), free_port(), directory / "caddy.log"
    environment = {
        "HTTPS_PORT": str(https), "HTTP_PORT": str(http), "UPSTREAM": "localhost", "UPSTREAM_PORT": str(port),
        "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory),
    }  # fmt: skip
    process = _started(environment, log)
    try:
        authority = directory / "caddy/pki/authorities/local/root.crt"
        await eventually(lambda: "certificate obtained" in log.read_text("utf-8"), 40, "no certificate")
        await eventually(authority.exists, 20)
        trusted = ssl.create_default_context(cafile=authority)
        await eventually(lambda: _is_spoken_to(https, trusted), 20, "no handshake")
        yield Proxy(f"https://localhost:{https}", f"http://localhost:{http}", log, trusted)
    finally:
        process.terminate()
        process.wait(40)


async def _is_spoken_to(port: int, trusted: ssl.SSLContext) -> bool:
    """Its certificate may be obtained, and not yet in use."""
    try:
        _, writer = await asyncio.open_connection("localhost", port, ssl=trusted)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _started(environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [CADDY, "run", "--adapter", "caddyfile", "--config", CADDYFILE]
    with log.open("wb") as written:
        return subprocess.Popen(command, env=os.environ | environment, stderr=written)


@pytest.fixture
async def cluster(tmp_path: Path, database_url: str) -> AsyncIterator[Cluster]:
    async with running(ScriptedSmtp()) as smtp, gateways(tmp_path, database_url, smtp) as made:
        yield made


async def test_requests_sockets_and_streams_pass_the_proxy(
    cluster: Cluster, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    port = free_port()
    first = await cluster.start(port=port)
    async with (
        proxy(tmp_path, port) as front,
        httpx.AsyncClient(
            base_url=front.url, verify=front.trusted, headers=bearer(token("admin")), timeout=20
        ) as client,
        httpx.AsyncClient(trust_env=False, timeout=20) as stranger,
        replica_of_channels(pool, None) as (teller, _),
    ):
        assert (await stranger.get(front.plain_url)).headers["location"].startswith("https://localhost")
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
        assert "max-age" in ready.headers["strict-transport-security"]
        for path in ("/metrics", "/metrics/", "/metrics%2f", "//metrics//", "/METRICS/"):
            assert (await client.get(front.url + path)).status_code == 404, path
        assert (await first.admin.get("/metrics")).status_code == 200

        async with (
            socket(front.url, ssl=front.trusted) as listening,
            event_source(client, str(CHANNEL)) as source,
        ):
            await listening.ask("subscribed", action="subscribe", channel=str(CHANNEL))
            await source.begun()
            teller.publisher.publish((CHANNEL,), "run:step", {"n": 1})
            assert [message["n"] for message in await listening.count(1)] == [1]
            assert (await source.next())[1]["n"] == 1, "not kept back in a buffer"

        await client.get("/api/v1/events", params={"token": "told-to-nobody"})
        # The line is written when the answer has been given.
        await eventually(lambda: "token=REDACTED" in front.log.read_text("utf-8"))
        assert "told-to-nobody" not in front.log.read_text("utf-8")

        first.kill()
        mail = {"from": "shop@shop.example", "to": "a@example.com", "subject": "s", "text": "t"}
        sent = asyncio.create_task(client.post("/api/v1/emails", json=mail))
        await cluster.start(port=port)
        assert (await sent).status_code == 202, "it waits for a replica instead of failing"


async def test_a_token_in_an_address_stays_out_of_the_log_of_errors_too(tmp_path: Path) -> None:
    async def end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(end, "localhost", 0) as gone:
        port = gone.sockets[0].getsockname()[1]
        async with proxy(tmp_path, port) as front, httpx.AsyncClient(verify=front.trusted, timeout=20) as client:
            answer = await client.post(f"{front.url}/api/v1/events", params={"token": "told-to-nobody"})
            assert answer.status_code == 502
            await eventually(lambda: '"logger":"http.log.error' in front.log.read_text("utf-8"))
        assert "token=REDACTED" in front.log.read_text("utf-8")
        assert "told-to-nobody" not in front.log.read_text("utf-8")
