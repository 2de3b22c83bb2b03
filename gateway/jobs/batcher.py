"""Calls of the same moment share one statement; a lone one never waits for company.

While a statement is under way, what comes next gathers for the following one.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import asyncpg

T = TypeVar("T")
R = TypeVar("R")

# What the ledger can never store, however often it is asked: one item's fault, not that of its neighbours.
NEVER = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)


class Batcher(Generic[T, R]):
    """``run`` gets items in the order of ``add`` and answers one result each. When it raises one of ``NEVER``, the
    batch is halved until the item at fault stands alone; any other exception goes to all who asked."""

    def __init__(self, name: str, run: Callable[[Sequence[T]], Awaitable[Sequence[R]]], most: int) -> None:
        self._name = name
        self._run = run
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def add(self, item: T) -> R:
        return await asyncio.shield(self._queue([item])[0])

    async def add_all(self, items: Sequence[T]) -> list[R]:
        return await asyncio.gather(*(asyncio.shield(future) for future in self._queue(items)))

    def _queue(self, items: Sequence[T]) -> list[asyncio.Future[R]]:
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[R]] = [loop.create_future() for _ in items]
        self._waiting += zip(items, futures, strict=True)
        if self._flushing is None or self._flushing.done():
            # A context of its own: the ids of the first caller do not belong in the others' log lines.
            self._flushing = asyncio.create_task(self._flush(), name=self._name, context=contextvars.Context())
        return futures

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            await self._do(batch)

    async def _do(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except NEVER as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._do(batch[:middle])
                await self._do(batch[middle:])
            else:
                _fail(batch, error)
        except Exception as error:  # noqa: BLE001  it is raised to those who asked
            _fail(batch, error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _fail(batch: list[tuple[T, asyncio.Future[R]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
