"""One pub/sub connection of a replica: it hears the channels that somebody here listens to.

redis-py's ``PubSub`` is not used: it connects again by itself, and nobody learns that messages may be missing. When one
task subscribes while another closes, it even leaves a connection behind that nobody closes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final

import structlog

from gateway.infra.loops import Loop
from gateway.infra.redis import REDIS_ERRORS, close_client, subscriber_client
from gateway.realtime.event_log import LogDown
from gateway.settings import RedisTarget

log = structlog.get_logger(__name__)

_CONFIRMED_S: Final = 2.0
_SILENCE_S: Final = 5.0  # after it the server is asked whether it is there, and given as long again to say so
_RETRY_S: Final = 0.25
_NAMES_AT_ONCE: Final = 500
_NOBODYS: Final = "gw:told"  # a connection without any subscription cannot be read

Heard = Callable[[str, bytes], None]


class RedisEar:
    """``heard`` is called with a name and what was told there; ``broken`` when some of it may have been missed. The
    connection is made with the first name."""

    def __init__(self, target: RedisTarget, heard: Heard, broken: Callable[[], None]) -> None:
        self._target = target
        self._heard = heard
        self._broken = broken
        self._names: dict[str, asyncio.Future[None]] = {}  # done: the server has confirmed it
        self._turns = count()
        self._connection: Any = None  # while it hears
        self._started = False
        self._loop = Loop("realtime ear", self._listen)

    async def stop(self) -> None:
        await self._loop.stop()
        self._started = False

    async def add(self, name: str) -> None:
        """Returns when what is told under this name is heard. Raises ``LogDown``."""
        confirmed = self._names.setdefault(name, asyncio.get_running_loop().create_future())
        if not self._started:
            self._started = True
            await self._loop.start()
        elif not confirmed.done():
            with contextlib.suppress(*REDIS_ERRORS):  # the loop sees it too, and subscribes to all again
                await self._say("SUBSCRIBE", name)
        try:
            async with asyncio.timeout(_CONFIRMED_S):
                await asyncio.shield(confirmed)
        except TimeoutError:
            raise LogDown("Redis does not confirm a subscription") from None

    async def remove(self, names: Iterable[str]) -> None:
        gone = [name for name in names if self._names.pop(name, None) is not None]
        if gone:
            with contextlib.suppress(*REDIS_ERRORS):
                await self._say("UNSUBSCRIBE", *gone)

    async def _listen(self) -> float:
        """One connection's life."""
        client = subscriber_client(self._target, next(self._turns))
        try:
            pool: Any = client.connection_pool  # its types are those of the blocking library too
            self._connection = await pool.get_connection()
            await self._say("SUBSCRIBE", _NOBODYS)
            names = list(self._names)  # what comes later `add` subscribes to by itself
            for start in range(0, len(names), _NAMES_AT_ONCE):
                await self._say("SUBSCRIBE", *names[start : start + _NAMES_AT_ONCE])
            self._broken()
            await self._hear()
        except REDIS_ERRORS as error:
            log.debug("realtime_connection_lost", error=str(error))
        finally:
            self._connection = None
            for name, confirmed in self._names.items():
                if confirmed.done():
                    self._names[name] = asyncio.get_running_loop().create_future()
            await close_client(client)
        return _RETRY_S

    async def _say(self, *command: str) -> None:
        """Nothing to a connection that is lost: redis-py would make it anew, behind the back of who listens. Raises one
        of ``REDIS_ERRORS``."""
        if self._connection is None or not self._connection.is_connected:
            return
        try:
            await self._connection.send_command(*command, check_health=False)
        except AttributeError as error:  # lost meanwhile by who reads: redis-py writes a moment later, to no writer
            raise ConnectionResetError("the connection was lost before it was written to") from error

    async def _hear(self) -> None:
        """Returns when the server is silent for too long."""
        asked = False
        while (answer := await self._connection.read_response(timeout=_SILENCE_S)) or not asked:
            asked = answer is None
            match answer:
                case None:
                    await self._say("PING")
                case [b"subscribe", name, _]:
                    confirmed = self._names.get(name.decode())
                    if confirmed is not None and not confirmed.done():
                        confirmed.set_result(None)
                case [b"message", name, told]:
                    self._heard(name.decode(), told)
