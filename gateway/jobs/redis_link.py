"""The engine's link to Redis: its clients, the dispatcher that uses them, and the look whether this Redis is fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from gateway.infra.lifecycle import StartError
from gateway.infra.loops import Loop
from gateway.infra.redis import RedisClient, blocking_client, close_client, command_client
from gateway.infra.redis_check import RedisFitness, redis_fitness
from gateway.jobs.dispatch import Dispatcher
from gateway.jobs.redis_broker import BLOCK_S, RedisBroker
from gateway.jobs.store import Store
from gateway.settings import RedisTarget

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 60.0  # a failover, or somebody with CONFIG SET, may bring another policy


@dataclass(frozen=True, slots=True)
class RedisUse:
    """``required``: without an answer no start. ``strict``: none with an unfit Redis either, else that is a warning.
    ``told`` hears at each look what was seen."""

    target: RedisTarget
    required: bool
    strict: bool
    told: Callable[[RedisFitness], None]


class RedisLink:
    """A component. Redis may be away at start, and for as long as it likes: the dispatcher picks it up when it comes.

    ``start`` raises ``StartError``: see ``RedisUse``.
    """

    name = "redis"

    def __init__(self, use: RedisUse, dispatcher: Dispatcher, store: Store, queues: Sequence[str]) -> None:
        self._use = use
        self._dispatcher = dispatcher
        self._store = store
        self._queues = queues
        self._clients: list[RedisClient] = []
        self._said: RedisFitness | None = None
        self._watch = Loop("redis watch", self._look)

    async def start(self) -> None:
        ledger_id = await self._store.ledger_id()
        commands, blocking = command_client(self._use.target), blocking_client(self._use.target, BLOCK_S)
        self._clients = [commands, blocking]
        self._dispatcher.attach(RedisBroker(self._store, commands, blocking, ledger_id, self._queues))
        # Side by side: with a Redis that hangs each takes its time-out.
        await asyncio.gather(self._dispatcher.start(), self._look())
        if self._use.strict and self._said is not None and self._said.faults:
            faults = " ".join(self._said.faults)
            raise StartError(f"Redis {self._use.target} is not fit for jobs. {faults}")
        if self._use.required and not self._dispatcher.up:
            raise StartError(
                "REDIS_REQUIRED is true and Redis does not answer. Start Redis, or set REDIS_REQUIRED=false."
            )
        await self._watch.start()

    async def stop(self) -> None:
        await self._watch.stop()
        await self._dispatcher.stop()
        for client in self._clients:
            await close_client(client)
        self._clients.clear()

    async def _look(self) -> float:
        try:
            fitness = await redis_fitness(self._use.target)
        except ConnectionError as error:
            log.debug("redis_not_looked_at", error=str(error))  # that it is away is the dispatcher's to tell
            return LOOK_AGAIN_S
        self._use.told(fitness)
        if fitness != self._said:
            for fault in fitness.faults:
                log.error("redis_unfit", redis=str(self._use.target), reason=fault)
            for note in fitness.notes:
                log.warning("redis_not_checked", redis=str(self._use.target), reason=note)
            self._said = fitness
        return LOOK_AGAIN_S
