"""One pub/sub connection of a replica: it hears the channels that somebody here listens to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final

import structlog

from gateway.infra.loops import Loop
from gateway.infra.redis import REDIS_ERRORS, subscriber_client
from gateway.realtime.event_log import LogDown
from gateway.settings import RedisTarget

log = structlog.get_logger(__name__)

_CONFIRMED_S: Final = 2.0
_SILENCE_S: Final = 5.0  # after it the server is asked whether it is there, and given as long again to say so
_RETRY_S: Final = 0.25
_NAMES_AT_ONCE: Final = 500
_NOBODYS: Final = "gw:told"  # a connection without any subscription cannot be read

# A connection may die while one task reads from it and another subscribes: redis-py then writes to no writer at all.
_LOST: Final = (*REDIS_ERRORS, AttributeError)

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
        self._pubsub: Any = None  # its types are those of the blocking library too
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
        elif self._pubsub is not None and not confirmed.done():
            with contextlib.suppress(*_LOST):  # the loop sees it too, and subscribes to all again
                await self._pubsub.subscribe(name)
        try:
            async with asyncio.timeout(_CONFIRMED_S):
                await asyncio.shield(confirmed)
        except TimeoutError:
            raise LogDown("Redis does not confirm a subscription") from None

    async def remove(self, names: Iterable[str]) -> None:
        gone = [name for name in names if self._names.pop(name, None) is not None]
        if gone and self._pubsub is not None:
            with contextlib.suppress(*_LOST):
                await self._pubsub.unsubscribe(*gone)

    async def _listen(self) -> float:
        """One connection's life."""
        client = subscriber_client(self._target, next(self._turns))
        pubsub: Any = client.pubsub()
        try:
            await pubsub.subscribe(_NOBODYS)
            # From here on `add` subscribes by itself.
            self._pubsub, names = pubsub, list(self._names)
            for start in range(0, len(names), _NAMES_AT_ONCE):
                await pubsub.subscribe(*names[start : start + _NAMES_AT_ONCE])
            self._broken()
            await self._hear(pubsub)
        except _LOST as error:
            log.debug("realtime_connection_lost", error=str(error))
        finally:
            self._pubsub = None
            for name, confirmed in self._names.items():
                if confirmed.done():
                    self._names[name] = asyncio.get_running_loop().create_future()
            with contextlib.suppress(*_LOST):
                await pubsub.aclose()
                await client.aclose()
        return _RETRY_S

    async def _hear(self, pubsub: Any) -> None:
        asked = False
        while True:
            message = await pubsub.get_message(timeout=_SILENCE_S)
            if message is None:
                if asked:
                    return  # half open: nobody is there any more
                await pubsub.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "subscribe":
                confirmed = self._names.get(message["channel"].decode())
                if confirmed is not None and not confirmed.done():
                    confirmed.set_result(None)
            elif message["type"] == "message":
                self._heard(message["channel"].decode(), message["data"])
