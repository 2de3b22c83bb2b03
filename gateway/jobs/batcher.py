"""Calls of the same moment share one statement; a lone one never waits for company.

While as many statements as may be are under way, what comes next gathers for the following one.
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
    batch is halved until the item at fault stands alone; any other exception goes to all who asked.

    ``at_once``: statements under way at the same time. With two, one batch is encoded while the other one is committed.
    """

    def __init__(
        self, name: str, run: Callable[[Sequence[T]], Awaitable[Sequence[R]]], most: int, *, at_once: int = 1
    ) -> None:
        self._name = name
        self._run = run
        self._most = most
        self._at_once = at_once
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._flushing = 0
        self._tasks: set[asyncio.Task[None] | None] = set()  # a reference, or they would be collected

    async def add(self, item: T) -> R:
        return await asyncio.shield(self.put(item))

    async def add_all(self, items: Sequence[T]) -> list[R]:
        return await asyncio.gather(*(asyncio.shield(self.put(item)) for item in items))

    def put(self, item: T) -> asyncio.Future[R]:
        """Its result, later. Whoever awaits this future and is cancelled cancels it: the result is then nobody's."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flushing < self._at_once:
            self._flushing += 1
            # A context of its own: the ids of the first caller do not belong in the others' log lines.
            task = asyncio.create_task(self._flush(), name=self._name, context=contextvars.Context())
            self._tasks.add(task)
        return future

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._do(batch)
        finally:
            # Not in a callback of the task, which comes later: whoever puts in between would wait for nobody.
            self._flushing -= 1
            self._tasks.discard(asyncio.current_task())

    async def _do(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
            answers = list(zip(batch, results, strict=True))
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
            for (_, future), result in answers:
                if not future.done():
                    future.set_result(result)


def _fail(batch: list[tuple[T, asyncio.Future[R]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
