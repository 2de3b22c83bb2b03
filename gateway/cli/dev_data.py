"""The data directory of ``gateway dev``: one process at a time, a signing secret, and starting over."""

from __future__ import annotations

import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.errors import CliError, Exit
from gateway.cli.instance import remove_dev_file, write_private
from gateway.cli.local import JWT_SECRET_FILE

LOCK_FILE = "dev.lock"
SERVER_DIRS = ("postgres", "valkey")


@dataclass(frozen=True, slots=True)
class DataDir:
    path: Path

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the directory while inside; False when another process holds it. The kernel lets go when we die."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK_FILE).open("w")
        except OSError as error:
            raise CliError(f"--data-dir {self.path}: {error.strerror}", Exit.USAGE) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            remove_dev_file(self.path)  # of one that was killed
            yield True

    def reset(self) -> None:
        """Delete what earlier runs left, and only that. The caller holds the directory."""
        for name in SERVER_DIRS:
            for entry in (self.path / name).glob("*"):
                if entry.is_symlink():  # as root, the data may lie where the server's user can reach it
                    shutil.rmtree(entry.resolve(), ignore_errors=True)
            shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / JWT_SECRET_FILE).unlink(missing_ok=True)

    def jwt_secret(self) -> str:
        """The secret that signs this directory's tokens: random, made once, readable by its owner only."""
        path = self.path / JWT_SECRET_FILE
        if not path.exists():
            write_private(path, secrets.token_hex(32).encode())
        return path.read_text().strip()
