"""The "ecosystem" file: how many processes, when they are replaced, where their logs go."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG])?i?B?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
INSTANCES_MAX = 256
WATCHDOG_MIN_S = 3.0  # of three signs of life one comes, also on a busy machine
SOCKET_PATH_MAX = 104  # of sun_path: 108 on Linux, 104 on BSD and macOS, with its zero byte


class ConfigError(Exception):
    """The file cannot be used; the message names it, the field and what would do."""


class Logs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``max_size`` bytes before a file is rotated, ``retain`` old ones are kept. An empty name writes no file."""

    out_file: str = "./logs/out.log"
    error_file: str = "./logs/err.log"
    max_size: str = "50M"
    retain: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file as it is written; what each field means stands in pm2-like/ecosystem.toml."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][\w.-]*$", max_length=64)] = "api-gateway"
    cwd: str = "."
    instances: int | str = "max"
    max_memory_restart: str | None = None
    min_uptime: str = "30s"
    max_restarts: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    restart_window: str = "10m"
    exp_backoff_restart_delay: str = "100ms"
    listen_timeout: str = "60s"
    restart_pause: str = "60s"
    watchdog_timeout: str = "30s"
    watchdog_grace: str = "15s"
    socket: str = "./run/supervise.sock"
    env: dict[str, str | int | float | bool] = {}
    logs: Logs = Logs()


class Ecosystem(msgspec.Struct, frozen=True, kw_only=True):
    """The file, checked: seconds, bytes, absolute paths. ``memory_mark`` None: no process is replaced for its size.
    ``watchdog_timeout_s`` 0: none is ended for its silence."""

    path: Path
    name: str
    cwd: Path
    instances: int
    memory_mark: int | None
    min_uptime_s: float
    max_restarts: int
    restart_window_s: float
    backoff_s: float
    listen_timeout_s: float
    restart_pause_s: float
    watchdog_timeout_s: float
    watchdog_grace_s: float
    socket: Path
    env: dict[str, str]
    out_file: Path | None
    error_file: Path | None
    log_max_bytes: int
    log_retain: int


def read_ecosystem(path: Path) -> Ecosystem:
    """Relative paths in it start at its ``cwd``, and that at the file's directory. Raises ``ConfigError``."""
    try:
        found = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
        return _checked(path.absolute(), found)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _checked(path: Path, found: _File) -> Ecosystem:
    cwd = (path.parent / found.cwd).resolve()
    if not cwd.is_dir():
        raise ValueError(f"cwd {cwd} is no directory")
    control = cwd / found.socket
    if len(os.fsencode(control)) >= SOCKET_PATH_MAX:
        raise ValueError(f"socket {control} is longer than {SOCKET_PATH_MAX - 1} bytes; name a shorter path")
    mark = found.max_memory_restart
    return Ecosystem(
        path=path,
        name=found.name,
        cwd=cwd,
        instances=instances_of(found.instances),
        memory_mark=None if mark is None else size_of("max_memory_restart", mark),
        min_uptime_s=duration_of("min_uptime", found.min_uptime),
        max_restarts=found.max_restarts,
        restart_window_s=duration_of("restart_window", found.restart_window),
        backoff_s=duration_of("exp_backoff_restart_delay", found.exp_backoff_restart_delay),
        listen_timeout_s=duration_of("listen_timeout", found.listen_timeout),
        restart_pause_s=duration_of("restart_pause", found.restart_pause),
        watchdog_timeout_s=_watchdog(found.watchdog_timeout),
        watchdog_grace_s=duration_of("watchdog_grace", found.watchdog_grace),
        socket=control,
        env={name: _env_value(value) for name, value in found.env.items()},
        out_file=cwd / found.logs.out_file if found.logs.out_file else None,
        error_file=cwd / found.logs.error_file if found.logs.error_file else None,
        log_max_bytes=size_of("logs.max_size", found.logs.max_size),
        log_retain=found.logs.retain,
    )


def instances_of(wanted: int | str) -> int:
    """``max`` is one for each core that this process may use. Raises ValueError."""
    if wanted == "max":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not isinstance(wanted, int) or not 1 <= wanted <= INSTANCES_MAX:
        raise ValueError(f'instances must be a number from 1 to {INSTANCES_MAX}, or "max"')
    return wanted


def size_of(field: str, text: str) -> int:
    """``1G``, ``512M``, ``1.5G`` in bytes. Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _BYTES[(found[2] or "").upper()]) if found else 0
    if size < 1:
        raise ValueError(f'{field} = "{text}" is no size; write "1G" or "512M"')
    return size


def duration_of(field: str, text: str) -> float:
    """``100ms``, ``60s``, ``10m``, ``8h`` in seconds. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f'{field} = "{text}" is no duration; write "60s", "10m" or "100ms"')
    return float(found[1]) * _SECONDS[found[2]]


def _watchdog(text: str) -> float:
    seconds = duration_of("watchdog_timeout", text)
    if 0 < seconds < WATCHDOG_MIN_S:
        raise ValueError(f'watchdog_timeout = "{text}" is less than {WATCHDOG_MIN_S:g} s; "0s" turns it off')
    return seconds


def _env_value(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
