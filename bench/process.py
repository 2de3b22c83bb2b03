"""A contestant's process: it says JSON lines, and lives until its standard input ends, so that what its connections
cost the servers can be read before they close."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

_ANSWER_S = 120
_END_S = 10


class Contestant:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def started(cls, command: Sequence[str], *arguments: object) -> AsyncIterator[Contestant]:
        """Set up, and waiting for ``go``. Raises ``RuntimeError`` when it ends instead."""
        process = await asyncio.create_subprocess_exec(
            *command, *map(str, arguments), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        made = cls(process)
        try:
            await made.answer()
            yield made
        finally:
            await made._end()

    async def _end(self) -> None:
        """It ends when its standard input does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        await self._process.stdin.drain()

    async def answer(self) -> dict[str, Any]:
        """Its next line. Its own errors are on our standard error."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_ANSWER_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a contestant ended with {await self._process.wait()}; see above")
        answer: dict[str, Any] = json.loads(line)
        return answer
