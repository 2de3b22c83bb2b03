"""Programs of Debian's archive for tests, without being root and without changing the machine.

Packages are downloaded with apt, whose state is kept under ``.tools/debian``, and unpacked there; nothing is installed.
A program that is on the PATH already is taken instead. Where neither works the test skips with the reason; with ``CI``
set it fails, so that CI cannot lose these tests without anybody noticing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / ".tools" / "debian"
TIMEOUT = 300.0

TRIXIE = "trixie"
"""Newer than many machines: for programs written in Go, which bring their libraries with them."""


class Unavailable(Exception):
    """The program can't be had here; the message says why."""


def program(name: str, package: str, *, suite: str | None = None) -> Path:
    """The path of a program; *suite* as in an apt source, the machine's own by default.

    With the machine's own suite, the packages that it needs and the machine lacks are unpacked beside it: see
    ``library_path``.
    """
    if on_path := shutil.which(name):
        return Path(on_path)
    try:
        return _unpacked(name, package, suite)
    except Unavailable as error:
        reason = f"{name} is not installed and could not be downloaded: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def library_path(program: Path) -> str:
    """``LD_LIBRARY_PATH`` for a program that was unpacked; empty for one of the machine's own."""
    if ROOT not in program.parents:
        return ""
    top = ROOT / program.relative_to(ROOT).parts[0] / "files"
    return ":".join(sorted({str(library.parent) for library in top.rglob("lib*.so*")}))


def _unpacked(name: str, package: str, suite: str | None) -> Path:
    home = ROOT / f"{package}-{suite or 'own'}"
    with _alone(home):
        if not (home / "done").exists():
            shutil.rmtree(home / "files", ignore_errors=True)
            _download(home, package, suite)
            for archive in (home / "cache" / "archives").glob("*.deb"):
                _run("dpkg-deb", "-x", str(archive), str(home / "files"))
            shutil.rmtree(home / "cache")
            shutil.rmtree(home / "state")
            (home / "done").touch()
    for found in (home / "files" / "usr").rglob(name):
        if found.is_file() and not found.is_symlink() and os.access(found, os.X_OK) and _compiled(found):
            return found
    raise Unavailable(f"the package {package} has no program {name}")


def _compiled(found: Path) -> bool:
    """Not the script of the same name that starts it with the paths of an installed package."""
    with found.open("rb") as file:
        return file.read(4) == b"\x7fELF"


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Several tests run at a time: one downloads, the others wait for it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(home: Path, package: str, suite: str | None) -> None:
    for part in ("state/lists/partial", "cache/archives/partial"):
        (home / part).mkdir(parents=True, exist_ok=True)
    options = [
        *("-o", f"Dir::State={home / 'state'}", "-o", f"Dir::Cache={home / 'cache'}"),
        *("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="),
    ]
    if suite is None:
        options += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
        _run("apt-get", *options, "update")
        _run("apt-get", *options, "install", "-y", "--no-install-recommends", "--download-only", package)
        return
    source = home / "state" / "sources.list"
    source.write_text(f"deb {_mirror()} {suite} main\n")
    options += ["-o", f"Dir::Etc::SourceList={source}", "-o", "Dir::Etc::SourceParts=-"]
    # As if nothing were installed: apt would ask for the version that is, which this suite need not have.
    options += ["-o", "Dir::State::status=/dev/null"]
    _run("apt-get", *options, "update")
    _run("apt-get", *options, "download", package, cwd=home / "cache" / "archives")


def _mirror() -> str:
    """The address from which this machine gets its own packages."""
    sites = _run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages").split()
    if not sites:
        raise Unavailable("apt has no sources here")
    return sites[0]


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, cwd=cwd, check=True)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took longer than {TIMEOUT:.0f} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()
        raise Unavailable(said[-1] if said else f"{command[0]} ended with {error.returncode}") from None
    return done.stdout
