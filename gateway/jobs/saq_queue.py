"""``saq.Queue`` without SAQ's bookkeeping: what happens to a job is in the ledger, and the engine is the way in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import saq
from saq.queue.base import Queue


class SlotJob(saq.Job):
    """A claimed job as SAQ's slot sees it. ``info`` is called for log lines that we do not print."""

    def info(self, full: bool = False) -> str:
        return self.key

    __hash__ = saq.Job.__hash__


class SlotQueue(Queue):
    """Leaves ``dequeue``, ``connect`` and ``disconnect`` to write. Ways in and out that the engine owns raise
    ``TypeError`` and name it."""

    # SAQ's bookkeeping: the ledger has it already.
    async def update(self, job: saq.Job, **kwargs: Any) -> None:
        return None

    async def finish(self, job: saq.Job, status: saq.Status, **kwargs: Any) -> None:
        return None

    async def retry(self, job: saq.Job, error: str | None) -> None:
        return None

    async def _update(self, job: saq.Job, status: saq.Status | None = None, **kwargs: Any) -> None:
        return None

    async def _finish(self, job: saq.Job, status: saq.Status, **kwargs: Any) -> None:
        return None

    async def _retry(self, job: saq.Job, error: str | None) -> None:
        return None

    async def write_worker_info(self, worker_id: str, info: Any, ttl: int) -> None:
        return None

    async def sweep(self, lock: int = 60, abort: float = 5.0) -> list[str]:
        return []

    # SAQ's own ways into a queue: ours is the engine.
    async def _enqueue(self, job: saq.Job) -> saq.Job | None:
        raise TypeError("submit jobs through gateway.jobs.engine.Engine")

    async def info(self, jobs: bool = False, offset: int = 0, limit: int = 10) -> Any:
        raise TypeError("ask gateway.jobs.engine.Engine.queue_status")

    async def count(self, kind: Any) -> int:
        raise TypeError("ask gateway.jobs.engine.Engine.counts")

    async def job(self, job_key: str) -> saq.Job | None:
        raise TypeError("ask gateway.jobs.engine.Engine.get")

    async def jobs(self, job_keys: Iterable[str]) -> list[saq.Job | None]:
        raise TypeError("ask gateway.jobs.engine.Engine.list")

    def iter_jobs(self, statuses: list[saq.Status] | None = None, batch_size: int = 100) -> AsyncIterator[saq.Job]:
        raise TypeError("ask gateway.jobs.engine.Engine.list")

    async def abort(self, job: saq.Job, error: str, ttl: float = 5) -> None:
        raise TypeError("ask gateway.jobs.engine.Engine.cancel")
