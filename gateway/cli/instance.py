"""Which instance a command talks to, and ``dev.json``: how programs find a running ``gateway dev``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from gateway.cli.command import Invocation
from gateway.cli.errors import CliError, Exit

DEV_FILE = "dev.json"
TOKEN_FILE = "example-token"  # of the banner's example call: `gateway status` shows it again


class SmtpAddress(msgspec.Struct, frozen=True):
    host: str
    port: int


class DevFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a running ``gateway dev`` publishes for programs. ``redis_url`` is None in direct mode; ``demo_models``: no
    provider has a key there, so the demonstration answers."""

    url: str
    admin_token: str
    user_token: str
    database_url: str
    redis_url: str | None
    smtp: SmtpAddress
    inbox_url: str
    pid: int
    demo_models: bool = False


class Target(msgspec.Struct, frozen=True):
    """An instance's address and the token to show it; ``dev`` when it was found through ``dev.json``."""

    url: str
    token: str | None
    dev: DevFile | None = None


def write_dev_file(data_dir: Path, facts: DevFile) -> None:
    """Publish ``facts``: readers see the whole file or none, and only its owner may read it."""
    write_private(data_dir / DEV_FILE, msgspec.json.format(msgspec.json.encode(facts)) + b"\n")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read; it is there as a whole or not at all."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)


def remove_dev_file(data_dir: Path) -> None:
    for name in (DEV_FILE, TOKEN_FILE):
        (data_dir / name).unlink(missing_ok=True)


def running_dev(data_dir: Path) -> DevFile | None:
    """The ``gateway dev`` that runs on ``data_dir``; None when none does, whatever a killed one left."""
    try:
        facts = msgspec.json.decode((data_dir / DEV_FILE).read_bytes(), type=DevFile)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    except PermissionError:
        raise CliError(f"{data_dir / DEV_FILE} belongs to another user", Exit.REFUSED) from None
    return facts if _alive(facts.pid) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def find_target(call: Invocation) -> Target:
    """The instance named by ``--url`` or ``GATEWAY_URL``, else the running ``gateway dev``.

    Raises CliError (not reachable) when there is neither. The token of ``dev.json`` goes to that instance only.
    """
    token = os.environ.get("GATEWAY_TOKEN") or None
    url = call.url or os.environ.get("GATEWAY_URL")
    if url:
        if not url.startswith(("http://", "https://")):
            raise CliError(
                f'"{url}" is not the address of an instance; example: --url http://localhost:3003', Exit.USAGE
            )
        return Target(url.rstrip("/"), token)
    dev = running_dev(call.data_dir)
    if dev is None:
        raise CliError(
            f"No instance to talk to: no `gateway dev` is running on {call.data_dir}/.\n"
            "Start one with: gateway dev\nOr name one with: --url URL (or GATEWAY_URL) and GATEWAY_TOKEN",
            Exit.UNREACHABLE,
        )
    return Target(dev.url, token or dev.admin_token, dev)


def read_json_file(path: str) -> Any:
    """The JSON value in ``path`` (``@path`` too). Raises CliError."""
    name = path.removeprefix("@")
    try:
        return json.loads(Path(name).read_bytes())
    except OSError as error:
        raise CliError(f"{name}: {error.strerror}", Exit.USAGE) from error
    except ValueError as error:
        raise CliError(f"{name} is not JSON: {error}", Exit.USAGE) from error
