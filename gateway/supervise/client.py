"""Ask a running supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from gateway.supervise.messages import LINE_MAX_BYTES, Line, ProtocolError, Request, Status

STATUS_TIMEOUT_S = 10.0  # its processes have 2 s to tell it theirs


class NotRunning(Exception):
    """No supervisor answers at the socket."""


class Silent(NotRunning):
    """It is there and does not answer: frozen, or of another version."""


class Declined(Exception):
    """``refused``: it may succeed later."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


async def ask(path: Path, request: Request, told: Callable[[str], None] = lambda _: None) -> Any:
    """The supervisor's answer; ``told`` hears of its progress. Raises ``NotRunning`` and ``Declined``."""
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LINE_MAX_BYTES)
    except PermissionError as error:
        raise NotRunning(f"{path} belongs to another user") from error
    except OSError as error:
        raise NotRunning(f"No supervisor answers at {path}. Start it with: gateway supervise") from error
    try:
        writer.write(request.encoded())
        while True:
            line = Line.decoded(await reader.readline())
            if line.told is None:
                break
            told(line.told)
    except (ConnectionError, ProtocolError) as error:
        raise NotRunning(f"the supervisor at {path} went away: {error}") from error
    finally:
        writer.close()
    if line.error is not None:
        raise Declined(line.error, refused=line.refused)
    return line.done


async def status(path: Path) -> Status:
    """Raises as ``ask`` does, and ``Silent``."""
    try:
        async with asyncio.timeout(STATUS_TIMEOUT_S):
            return msgspec.convert(await ask(path, Request(do="status")), Status)
    except TimeoutError:
        told = f"the supervisor at {path} does not answer within {STATUS_TIMEOUT_S:g} s: is it frozen?"
        raise Silent(told) from None
    except msgspec.ValidationError as error:
        raise Silent(f"the supervisor at {path} is of another version; restart it: {error}") from error
