"""The socket over which the supervisor is asked: for its owner alone (mode 0600), one request for each connection."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from gateway.supervise.config import ConfigError
from gateway.supervise.messages import Line, ProtocolError, Request
from gateway.supervise.operations import OperationFailed, Refused

_REQUEST_MAX = 64 * 1024
_ASKED_WITHIN_S = 10.0

Tell = Callable[[str], None]
Answer = Callable[[Request, Tell], Awaitable[Any]]


def lock(path: Path) -> TextIO:
    """Held until it is closed, or its process ends: one supervisor for each socket. Raises ``ConfigError``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.with_name(f"{path.name}.lock").open("w")
    except OSError as error:
        raise ConfigError(f"socket {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        runs = f"a supervisor runs already at {path}; see: gateway supervise status"
        raise ConfigError(runs if isinstance(error, BlockingIOError) else f"socket {path}: {error.strerror}") from None
    if path.exists() and not path.is_socket():
        file.close()
        raise ConfigError(f"socket {path} is there and is no socket: remove it, or name another path")
    return file


async def listen(path: Path, answer: Answer) -> asyncio.Server:
    """Call with the lock held: asyncio replaces a socket that one that was killed has left."""
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(_Connection(answer).serve, path, limit=_REQUEST_MAX)
    finally:
        os.umask(before)


class _Connection:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def tell(text: str) -> None:
            # Who asked may be gone; what was asked for goes on.
            if not writer.is_closing():
                writer.write(Line(told=text).encoded())

        try:
            async with asyncio.timeout(_ASKED_WITHIN_S):
                asked = await reader.readline()
            last = await self._last(asked, tell)
            writer.write(last.encoded())
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass  # nobody asks, or nobody listens any more; a line that is too long
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _last(self, asked: bytes, tell: Tell) -> Line:
        try:
            return Line(done=await self._answer(Request.decoded(asked), tell))
        except ProtocolError as error:
            return Line(error=f"not understood, is the supervisor of another version? {error}")
        except Refused as error:
            return Line(error=str(error), refused=True)
        except OperationFailed as error:
            return Line(error=str(error))
