"""Ask a running supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from gateway.supervise.messages import LINE_MAX_BYTES, Line, ProtocolError, Request, Status


class NotRunning(Exception):
    """No supervisor answers at the socket."""


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
    """Raises as ``ask`` does."""
    return msgspec.convert(await ask(path, Request(do="status")), Status)
