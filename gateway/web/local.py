"""Where everybody on this machine is an administrator (``AUTH_MODE=none``, ``gateway dev``), pages of other sites must
not be: a browser on this machine would carry out their requests."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from ipaddress import IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection

from gateway.problem import Problem

_HOST: Final = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(:[0-9]{0,5})?")


def refuse_foreign_pages(connection: ASGIConnection[Any, Any, Any, Any], allowed_origins: AbstractSet[str]) -> None:
    """Raises Problem 403 ``local_only`` for a request that a page of another site may have made.

    A name of theirs that points to this machine (DNS rebinding) is seen in ``Host``, their page in ``Origin``.
    """
    host = connection.headers.get("host", "")
    if not _from_elsewhere(connection) and not is_loopback(host):
        raise _local_only(
            f"Host is {host[:100]!r}; without real authentication only localhost and 127.0.0.1 are answered"
        )
    origin = connection.headers.get("origin")
    if origin is not None and origin not in allowed_origins and not _is_local_origin(origin, host):
        raise _local_only(f"Origin {origin[:100]!r} is another site; CORS_ORIGIN lists those that may call")


def is_loopback(host: str) -> bool:
    """Does a ``Host`` (with or without a port) name this machine: localhost, 127.0.0.0/8 or [::1]?"""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    if match["name"] is not None and match["name"].lower() == "localhost":
        return True
    try:
        return _is_loopback_address(match["v6"] or match["name"])
    except ValueError:
        return False


def _is_local_origin(origin: str, host: str) -> bool:
    try:
        there = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(there) and (is_loopback(there) or there == host)


def _from_elsewhere(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Did it arrive at an address that others reach? There ``gateway dev`` demands a token that nobody guesses."""
    server = connection.scope.get("server")
    try:
        return server is not None and not _is_loopback_address(server[0])
    except ValueError:
        return False


def _is_loopback_address(text: str) -> bool:
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _local_only(message: str) -> Problem:
    return Problem(403, "local_only", message)
