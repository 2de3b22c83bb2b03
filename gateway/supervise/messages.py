"""What goes over the control socket: one line of JSON asks; lines that tell of progress and one last line answer."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

LINE_MAX_BYTES = 16 * 1024 * 1024  # the metrics of many processes are the longest

Verb = Literal["status", "scale", "reload", "restart", "stop", "metrics", "ready"]


class ProtocolError(ValueError):
    """A line that is none of ours; another version speaks here."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``to``: the number wanted, or a change as ``+1``; ``leave``: numbers of the processes that shall go; ``pause_s``:
    between two restarts, None: as configured."""

    do: Verb
    to: str | None = None
    leave: tuple[int, ...] = ()
    pause_s: float | None = None

    def encoded(self) -> bytes:
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def decoded(cls, line: bytes) -> Request:
        """Raises ``ProtocolError``."""
        try:
            return msgspec.json.decode(line, type=cls)
        except msgspec.DecodeError as error:
            raise ProtocolError(str(error)) from error


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Either progress (``told``), or the last line: ``done`` with what was asked for, or ``error`` with why not.
    ``refused``: it may succeed later."""

    told: str | None = None
    done: Any = None
    error: str | None = None
    refused: bool = False

    def encoded(self) -> bytes:
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def decoded(cls, line: bytes) -> Line:
        """Raises ``ProtocolError``; an empty line too: the other side went away."""
        if not line:
            raise ProtocolError("the connection ended without an answer")
        try:
            return msgspec.json.decode(line, type=cls)
        except msgspec.DecodeError as error:
            raise ProtocolError(str(error)) from error


class Process(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One process, or a place that waits for one (``pid`` None). ``number`` is its name in logs and metrics; unknown
    numbers are None. ``cpu_percent`` of one core."""

    number: int
    state: Literal["starting", "ready", "draining", "waiting", "given up"]
    pid: int | None = None
    url: str | None = None
    uptime_s: float | None = None
    restarts: int = 0
    rss_bytes: int | None = None
    cpu_percent: float | None = None
    busy: int | None = None
    slots: int | None = None
    reason: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``instances``: how many are wanted; ``waiting``: jobs by queue; ``busy_with``: the operation that runs."""

    name: str
    pid: int
    address: str
    instances: int
    uptime_s: float
    processes: list[Process]
    waiting: dict[str, int]
    busy_with: str | None = None
    stopping: bool = False
    logs_lost: int = 0
    logs_problem: str | None = None
