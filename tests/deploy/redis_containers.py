"""Redis as manifests start it, without containers: their scripts, on real servers with addresses of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from gateway.dev_servers import free_port
from gateway.dev_servers.valkey import valkey_binary
from tests.deploy.rendered import ROOT
from tests.support.debian import library_path, program

PASSWORD = "of-the-servers"
CONFIG = ROOT / "k8s/components/redis/redis.conf"
SCRIPTS = (ROOT / "compose", ROOT / "k8s/components/sentinel")
needs_loopback_addresses = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs 127.0.0.0/8 on the loopback interface"
)


@dataclass(frozen=True)
class Host:
    """What containers find: the programs, the secret, and who has which address. ``ports``: PORT and SENTINEL_PORT."""

    directory: Path
    addresses: Mapping[str, str]
    ports: Mapping[str, str]

    def environment(self, container: Mapping[str, str], data: Path) -> dict[str, str]:
        """A container's variables, with names and places as they are here."""
        names = re.compile("|".join(re.escape(name) for name in self.addresses))
        said = {key: names.sub(lambda found: self.addresses[found[0]], value) for key, value in container.items()}
        here = {"CONFIG": str(CONFIG), "DATA": str(data), "SECRET": str(self.directory / "password"), **self.ports}
        return {**said, **here, "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}"}


def host(directory: Path, addresses: Mapping[str, str]) -> Host:
    programs = directory / "bin"
    programs.mkdir()
    (programs / "redis-server").symlink_to(valkey_binary())
    client = program("redis-cli", "redis-tools")
    (programs / "redis-cli").write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH="{library_path(client)}" exec "{client}" "$@"\n', "utf-8"
    )
    (programs / "redis-cli").chmod(0o755)
    (directory / "password").write_text(PASSWORD + "\n")
    return Host(directory, addresses, {"PORT": str(free_port()), "SENTINEL_PORT": str(free_port())})


@dataclass
class Container:
    """One of Redis. ``command`` and ``variables`` as its manifest has them; its disk outlives its process."""

    host: Host
    name: str
    command: list[str]
    variables: Mapping[str, str]
    password: str = field(default=PASSWORD, init=False)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        return self.host.addresses[self.name]

    @property
    def port(self) -> int:
        return int(self.host.ports["SENTINEL_PORT" if "sentinel" in self._script else "PORT"])

    @property
    def _script(self) -> str:
        shell, script = self.command
        assert shell == "sh"
        return Path(script).name

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        data = self.host.directory / f"{self.name}-{self._script}"
        data.mkdir(exist_ok=True)
        (script,) = [place / self._script for place in SCRIPTS if (place / self._script).exists()]
        with (self.host.directory / f"{data.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", script, *arguments], env=self.host.environment(self.variables, data), stdout=log, stderr=log
            )
        return self.process

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def ask(self, *command: str | int) -> object:
        with redis.Redis(
            self.address, self.port, password=self.password, socket_timeout=5, decode_responses=True
        ) as client:
            return client.execute_command(*command)

    def answers(self) -> bool:
        try:
            return self.ask("PING") in ("PONG", True)
        except redis.RedisError:
            return False

    def role(self) -> str | None:
        try:
            found = self.ask("ROLE")
        except redis.RedisError:
            return None
        assert isinstance(found, list)
        return str(found[0])
