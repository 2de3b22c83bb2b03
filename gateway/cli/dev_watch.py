"""Servers of ``gateway dev`` that end by themselves, or are killed to see what happens, are started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.cli.output import say
from gateway.dev_servers import ChildServer, DevServerError

LOOK_EVERY_S = 0.5
# Long enough to see the gateway without it: direct mode while Valkey is away, /health while PostgreSQL is.
PAUSE_S = 3.0


@dataclass(frozen=True, slots=True)
class Watched:
    """A server, its name for people, and how it is started."""

    name: str
    server: ChildServer
    start: Callable[[], None]


async def keep_running(watched: Sequence[Watched]) -> None:
    """Until cancelled. Starting blocks the loop for a moment: a server ends with the thread that started it, so that
    must be the main one."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for one in watched:
            if one.server.pid is not None:
                continue
            say(f"{one.name} has ended; it is started again in {PAUSE_S:g} s")
            await asyncio.sleep(PAUSE_S)
            try:
                one.start()
            except DevServerError as error:
                say(f"{one.name} did not start again: {error}")
            else:
                say(f"{one.name} is running again")
