"""Where Redis is: one server, sentinels that know it, or a cluster. One small value made of several settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, unquote

SERVER_PORT = 6379
SENTINEL_PORT = 26379
_SCHEMES = ("redis", "rediss", "unix")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(?::(?P<port>[^:]*))?")


class RedisForm(StrEnum):
    """What the addresses are of."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """``hosts``: of the server, the sentinels, or some nodes of the cluster; empty with a ``socket`` path.

    ``username`` and ``password`` are for the servers; sentinels have a password of their own, or none. ``tls`` and
    ``ca_bundle`` (further authorities to trust) hold for both. ``str()`` shows no secret.
    """

    hosts: tuple[tuple[str, int], ...]
    form: RedisForm = RedisForm.SERVER
    socket: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: bool = False
    ca_bundle: Path | None = None
    sentinel_name: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.socket is not None:
            return f"unix://{self.socket}"
        named = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        address = f"{'rediss' if self.tls else 'redis'}://{named}"
        match self.form:
            case RedisForm.SERVER:
                return f"{address}/{self.database}"
            case RedisForm.SENTINEL:
                return f"{address}/{self.database} (sentinels of {self.sentinel_name})"
            case RedisForm.CLUSTER:
                return f"{address} (cluster)"


def redis_target(url: str, *, default_port: int = SERVER_PORT) -> RedisTarget:
    """The target of ``redis[s]://[[user]:password@]host[:port][,host[:port]...][/database]`` or ``unix:///path``.

    Parsed here, because no library reads lists. Raises ``ValueError`` that says what is wrong, without the password.
    """
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    if not found or scheme not in _SCHEMES:
        raise ValueError(f"is not an address that starts with {' or '.join(f'{s}://' for s in _SCHEMES)}")
    login, rest = _login_of(rest)
    rest, _, query = rest.partition("?")
    place, slash, path = rest.partition("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(set(options) - {"db"}):
        raise ValueError(f'has the option "{unknown[0]}"; only db may stand there')
    username, password = login
    if scheme == "unix":
        if place or not path:
            raise ValueError("is not an address such as unix:///run/redis.sock")
        database = _database(options.get("db", ""))
        return RedisTarget((), socket=f"/{unquote(path)}", username=username, password=password, database=database)
    if "://" in rest:
        raise ValueError(f"has several addresses; write {scheme}:// once: {scheme}://host-1:port,host-2:port")
    hosts = tuple(_host(text, default_port) for text in place.split(","))
    database = _database(options.get("db") or (path if slash else ""))
    return RedisTarget(hosts, username=username, password=password, database=database, tls=scheme == "rediss")


def _login_of(rest: str) -> tuple[tuple[str | None, str | None], str]:
    """User and password, decoded, and what stands behind them."""
    login, found, behind = rest.rpartition("@")
    if not found:
        return (None, None), rest
    if any(sign in login for sign in "/?#"):
        raise ValueError("has / ? or # in its user or password; write them as %2F %3F %23")
    if "@" in login:
        raise ValueError(
            "has more than one @; write user and password once, before the first host, and @ in them as %40"
        )
    user, _, password = login.partition(":")
    return (unquote(user) or None, unquote(password) or None), behind


def _host(text: str, default_port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text.strip())
    if match is None:
        raise ValueError("has a host that is missing or is no name or address")
    port = match["port"]
    if port is None or port == "":
        return match["host"].strip("[]"), default_port
    if not port.isdecimal() or not 0 < int(port[:6]) < 65_536:
        raise ValueError("has a port outside 1..65535")
    return match["host"].strip("[]"), int(port)


def _database(text: str) -> int:
    if text == "":
        return 0
    if not re.fullmatch(r"\d{1,5}", text):
        raise ValueError("ends in something that is no number of a database")
    return int(text)
