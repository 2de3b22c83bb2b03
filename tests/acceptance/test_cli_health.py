"""``gateway health``, as a container's health check runs it beside the process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from gateway.dev_servers import free_port
from gateway.infra.migrate import migrate
from tests.support.dev_process import gateway
from tests.support.eventually import eventually
from tests.support.gateway import gateways
from tests.support.smtp_server import ScriptedSmtp


async def test_a_process_is_alive_before_it_is_ready(
    tmp_path: Path, empty_database_url: str, smtp: ScriptedSmtp
) -> None:
    port = free_port()

    def health(*options: str) -> subprocess.CompletedProcess[str]:
        # The process is on this host: a proxy is not asked. Nobody answers at this one.
        return gateway("health", *options, cwd=tmp_path, PORT=str(port), http_proxy="http://127.0.0.1:1")

    async with gateways(tmp_path, empty_database_url, smtp) as cluster:
        nobody = health()
        assert (nobody.returncode, nobody.stdout) == (3, "")
        assert f"http://localhost:{port} does not answer" in nobody.stderr
        process = await cluster.start(port=port, wait=False)
        await eventually(lambda: process.status("/health/live"), 40)
        assert (health().returncode, health().stdout) == (0, "ok\n")
        early = health("--ready")
        assert early.returncode == 1
        assert f"http://localhost:{port} says 503: " in early.stderr
        await migrate(empty_database_url)

        async def ready() -> bool:
            return await process.status("/health/ready") == 200

        await eventually(ready, 20)
        assert json.loads(health("--ready", "--json").stdout) == {"status": "ready"}


@pytest.mark.parametrize("url", ["localhost:3003", "ftp://localhost", "http://"])
def test_what_is_no_address_is_refused(url: str, tmp_path: Path) -> None:
    done = gateway("health", "--url", url, cwd=tmp_path)
    assert done.returncode == 2
    assert "is not the address of an instance" in done.stderr
